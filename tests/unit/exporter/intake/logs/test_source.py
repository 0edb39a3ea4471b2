"""Following logs: one test for each hazard, named for it."""

import fcntl
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from exporter.config import Log
from exporter.intake.logs import file as log_file
from exporter.intake.logs.file import MAX_LINE_BYTES, LogFile, cut
from tests.support.log_followers import Follower, append, line

Follow = Callable[..., Follower]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "llm.log"


@pytest.fixture
def follow(tmp_path: Path, log: Path) -> Iterator[Follow]:
    """follow() -> a follower of llm.log, or of what it is given."""
    followers: list[Follower] = []

    def start(*logs: Log, ledger: str = "ledger.sqlite") -> Follower:
        followers.append(Follower(tmp_path, *logs or [Log(str(log))], ledger=tmp_path / ledger))
        return followers[-1]

    yield start
    for follower in followers:
        follower.close()


def lines(names: str) -> str:
    """Each letter is the roaster of one event."""
    return "".join(line(name) for name in names)


def once(names: str) -> dict[str, int]:
    return dict.fromkeys(names, 1)


def test_a_log_is_read_from_its_beginning_at_first_sight(log: Path, follow: Follow) -> None:
    append(log, lines("ab"))
    follower = follow().poll()
    assert follower.booked() == once("ab")
    append(log, lines("c"))
    assert follower.poll().booked() == once("abc")
    assert follower.value("llm_ingest_accepted_total") == 3


def test_start_end_leaves_out_what_was_there_before(log: Path, follow: Follow) -> None:
    append(log, lines("ab") + line("c")[:10])
    follower = follow(Log(str(log), start="end")).poll()
    append(log, line("c")[10:] + line("d"))
    assert follower.poll().booked() == once("cd")
    log.rename(Path(f"{log}.1"))
    append(log, lines("e"))
    assert follower.poll().booked() == once("cde")  # the new file is not what was there before


def test_a_partial_last_line_waits_for_its_end(log: Path, follow: Follow) -> None:
    append(log, lines("a") + line("b")[:20])
    follower = follow().poll()
    assert follower.booked() == once("a")
    follower.restart()
    append(log, line("b")[20:])
    assert follower.poll().booked() == once("ab")
    assert follower.refused("malformed") == 0


@pytest.mark.parametrize("restart", [False, True])
def test_a_line_that_never_ends_is_skipped_in_bounded_memory_and_counted_once(
    log: Path, follow: Follow, restart: bool
) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    for _ in range(5):
        append(log, b"x" * MAX_LINE_BYTES)
        follower.poll()
    counted = follower.refused("too_long")
    if restart:
        follower.restart()
    append(log, "end of it\n" + lines("b"))
    assert follower.poll().booked() == once("ab")
    assert counted == 1
    assert follower.refused("too_long") == (0 if restart else 1)
    assert follower.refused("malformed") == 0


def test_a_long_line_within_the_bound_is_read(log: Path, follow: Follow) -> None:
    append(log, lines("a") + line("b", prompt="x" * (MAX_LINE_BYTES - 200)) + lines("c"))
    assert follow().poll().booked() == once("abc")


def test_rename_rotation(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    append(log, lines("b"))
    log.rename(Path(f"{log}.1"))
    append(log, lines("c"))
    assert follower.poll().booked() == once("abc")


def test_a_rotated_file_is_finished_before_the_new_one_starts(log: Path, follow: Follow) -> None:
    follower = follow().poll()
    append(log, lines("ab"))
    log.rename(Path(f"{log}.1"))
    append(log, lines("c"))
    follower.source.poll()
    assert follower.booked() == once("ab")
    follower.source.poll()
    assert follower.booked() == once("abc")


@pytest.mark.parametrize("away", [False, True])
def test_several_rotations_between_two_looks(log: Path, follow: Follow, away: bool) -> None:
    append(Path(f"{log}.1"), lines("x"))  # from before the log was first looked at
    append(log, lines("a"))
    follower = follow().poll()
    if away:
        follower.close()
    for name in "bcd":
        append(log, lines(name))
        log.rename(f"{log}-2026112{ord(name) - 97}")
    if away:
        follower.open()
    assert follower.poll().booked() == once("abcd")
    append(log, lines("e"))
    assert follower.poll().booked() == once("abcde")


def test_a_writer_that_has_not_noticed_the_rotation(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    rotated = log.rename(Path(f"{log}.1"))
    append(log, lines("b"))
    follower.poll()
    append(rotated, lines("c"))
    assert follower.poll().booked() == once("abc")


def test_a_rotated_file_whose_last_line_has_no_end_is_closed_with_it(
    log: Path, follow: Follow
) -> None:
    append(log, lines("a") + line("b").rstrip())  # whole but for the newline
    follower = follow().poll()
    log.rename(Path(f"{log}.1"))
    append(log, lines("c"))
    assert follower.poll().booked() == once("ac")
    follower.clock.advance(61)
    assert follower.poll().booked() == once("abc")


def test_copytruncate(log: Path, follow: Follow) -> None:
    append(log, lines("ab"))
    follower = follow().poll()
    append(log, lines("c"))  # not read before the copy is made
    shutil.copy(log, Path(f"{log}.1"))
    os.truncate(log, 0)
    append(log, lines("de"))
    assert follower.poll().booked() == once("abcde")


def test_copytruncate_while_the_exporter_is_away(log: Path, follow: Follow) -> None:
    append(log, lines("ab"))
    follower = follow().poll()
    follower.close()
    append(log, lines("c"))
    shutil.copy(log, Path(f"{log}.1"))
    os.truncate(log, 0)
    append(log, lines("defgh"))  # longer than before
    follower.open()
    assert follower.poll().booked() == once("abcdefgh")


@pytest.mark.parametrize("copied", [0, 40, None])  # bytes so far; None: all
def test_a_look_between_copytruncates_copy_and_its_truncation(
    log: Path, follow: Follow, copied: int | None
) -> None:
    append(log, lines("ab"))
    follower = follow().poll()
    append(log, lines("c"))
    copy = Path(f"{log}.1")
    copy.write_bytes(log.read_bytes()[:copied])
    follower.restart()
    follower.poll()
    copy.write_bytes(log.read_bytes())
    follower.poll()
    follower.restart()
    follower.poll()
    os.truncate(log, 0)
    append(log, lines("de"))
    assert follower.poll().booked() == once("abcde")


def test_a_truncated_log_whose_writer_does_not_append_leaves_a_hole(
    log: Path, follow: Follow
) -> None:
    with open(log, "w") as writer:
        writer.write(lines("a") * 1 + "\n" * (2 * MAX_LINE_BYTES))
        writer.flush()
        follower = follow().poll()
        os.truncate(log, 0)
        writer.write(lines("bc"))
    assert follower.poll().booked() == once("abc")
    assert follower.refused("malformed") == follower.refused("too_long") == 0


def test_deletion(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    append(log, lines("b"))
    log.unlink()
    assert follower.poll().booked() == once("ab")
    assert follower.state(log).state == "missing"
    append(log, lines("c"))
    assert follower.poll().booked() == once("abc")


def test_a_deleted_log_does_not_hold_its_disk_space_for_ever(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    log.unlink()
    follower.poll()
    follower.clock.advance(61)
    follower.poll()
    held = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.exists()]
    assert not [path for path in held if path.startswith(str(log))]


def test_an_inode_used_again_by_another_file(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    follower.close()
    inode = log.stat().st_ino
    for _ in range(20):  # ext4 gives a freed inode to the next file, other file systems never
        log.unlink()
        append(log, lines("bcd"))
        if log.stat().st_ino == inode:
            break
    follower.open()
    assert follower.poll().booked() == once("abcd")


def test_a_device_renumbered_by_a_reboot(log: Path, follow: Follow, tmp_path: Path) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    follower.close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.execute("UPDATE log_positions SET device = '12345'")
    append(log, lines("b"))
    follower.open()
    assert follower.poll().booked() == once("ab")


def test_a_power_cut_that_took_the_end_of_the_log(log: Path, follow: Follow) -> None:
    """The ledger was synced, the log was not: what is left of it was booked before."""
    names = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"
    append(log, lines(names))
    follower = follow().poll()
    follower.close()
    os.truncate(log, len(lines(names)) - 50)
    follower.open()
    follower.poll()
    append(log, lines("0"))
    assert follower.poll().booked() == once(names + "0")


@contextmanager
def nobody() -> Iterator[None]:
    """As a user who may read nothing here."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_permission_denied_is_said_and_mended(log: Path, follow: Follow) -> None:
    follower = follow().poll()
    append(log, lines("a"))
    log.chmod(0)
    with nobody():
        follower.poll()
    assert follower.source.problems == [f"cannot read {log}: Permission denied"]
    assert follower.state(log).state == "problem"
    log.chmod(0o600)
    assert follower.poll().booked() == once("a")
    assert follower.source.problems == []


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_said_and_blocks_nothing(
    log: Path, follow: Follow, make: Callable[[Path], None]
) -> None:
    make(log)
    follower = follow().poll()
    assert follower.source.problems == [f"cannot read {log}: it is not a regular file"]


def test_a_file_that_appears_later(tmp_path: Path, follow: Follow) -> None:
    late = tmp_path / "not" / "yet" / "llm.log"
    follower = follow(Log(str(late))).poll()
    assert follower.state(late).state == "missing"
    assert follower.source.problems == []  # a scraper may start after its exporter
    late.parent.mkdir(parents=True)
    append(late, lines("a"))
    assert follower.poll().booked() == once("a")
    assert follower.state(late).state == "ok"


def test_several_files_by_glob_and_no_compressed_ones(tmp_path: Path, follow: Follow) -> None:
    append(tmp_path / "a.jsonl", lines("a"))
    append(tmp_path / "b.jsonl.gz", lines("x"))
    follower = follow(Log(str(tmp_path / "*.jsonl*"))).poll()
    append(tmp_path / "c.jsonl", lines("c"))
    assert follower.poll().booked() == once("ac")
    (tmp_path / "a.jsonl").unlink()
    follower.poll()
    follower.clock.advance(61)
    assert [entry.path for entry in follower.poll().source.report()] == [str(tmp_path / "c.jsonl")]


def test_the_same_lines_in_two_files_are_two_calls(tmp_path: Path, follow: Follow) -> None:
    append(tmp_path / "a.jsonl", lines("aaa"))
    append(tmp_path / "b.jsonl", lines("aaa"))
    assert follow(Log(str(tmp_path / "*.jsonl"))).poll().booked() == {"a": 6}


def test_a_glob_that_also_matches_what_rotation_leaves(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    append(Path(f"{log}.1"), lines("b"))
    follower = follow(Log(f"{log}*")).poll()
    assert follower.booked() == once("ab")
    for name in "cde":
        append(log, lines(name))
        (Path(f"{log}.1")).rename(log.parent / f"llm.log.{name}9")
        log.rename(Path(f"{log}.1"))
        append(log, lines(name.upper()))
        follower.poll()
        follower.clock.advance(61)
    follower.restart()
    assert follower.poll().booked() == once("abcdeCDE")


def test_a_log_behind_a_link_that_moves_on(tmp_path: Path, log: Path, follow: Follow) -> None:
    append(tmp_path / "monday", lines("a"))
    log.symlink_to("monday")
    follower = follow().poll()
    append(tmp_path / "monday", lines("b"))
    append(tmp_path / "tuesday", lines("c"))
    log.unlink()
    log.symlink_to("tuesday")
    assert follower.poll().booked() == once("abc")
    follower.restart()
    append(tmp_path / "tuesday", lines("d"))
    assert follower.poll().booked() == once("abcd")


def test_files_with_the_same_lines_are_told_apart_through_rotations(
    log: Path, follow: Follow
) -> None:
    follower = follow()
    for number in range(4):
        append(log, lines("a" * 100))
        if number < 2:
            follower.poll()
        log.rename(f"{log}.{number}")
    assert follower.poll().booked() == {"a": 400}


def test_bad_lines_are_counted_by_reason_and_never_fatal(log: Path, follow: Follow) -> None:
    bad = ["{half", "null", "\xff", "[" * 5000, line("x", outcome="maybe"), line("x" * 200)]
    append(log, lines("a") + "\n".join([*bad, "", "  "]) + "\n" + lines("b"))
    follower = follow().poll()
    assert follower.booked() == once("ab")
    assert follower.refused("malformed") == 3
    assert follower.refused("schema") == 2
    assert follower.refused("label") == 1
    assert follower.state(log).last_refusal.startswith("label: ")


def test_a_repeated_id_is_a_duplicate_and_another_content_a_conflict(
    log: Path, follow: Follow
) -> None:
    append(log, line("a", id="1") + line("a", id="1") + line("b", id="1"))
    follower = follow().poll()
    assert follower.booked() == once("a")
    assert follower.value("llm_ingest_duplicates_total") == 1
    assert follower.value("llm_ingest_conflicts_total") == 1
    assert follower.state(log).last_refusal.startswith("conflict: ")


def test_one_reader_for_each_log(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    first = follow().poll()
    second = follow(ledger="other.sqlite")
    with pytest.raises(UserError, match=r"llm\.log is read by another exporter; stop that one"):
        second.source.start()
    second.restart()
    first.source.stop()
    second.source.start()


def test_a_lock_taken_later_is_a_problem_and_not_the_end(log: Path, follow: Follow) -> None:
    first, second = follow().poll(), follow(ledger="other.sqlite").poll()
    append(log, lines("a"))
    first.poll()
    second.poll()
    assert "read by another exporter" in second.source.problems[0]
    assert second.state(log).lag_bytes == log.stat().st_size  # so that an alert tells
    assert second.booked() == {}
    first.source.stop()
    assert second.poll().booked() == once("a")


def test_a_copy_that_another_exporter_reads_does_not_keep_other_logs_waiting(
    tmp_path: Path, log: Path, follow: Follow
) -> None:
    other, copy = tmp_path / "other.log", Path(f"{log}.1")
    append(log, lines("ab"))
    follower = follow(Log(str(log)), Log(str(other))).poll()
    shutil.copy(log, copy)
    elsewhere = follow(Log(str(copy)), ledger="second.sqlite")
    elsewhere.poll()
    os.truncate(log, 0)
    append(other, lines("c"))
    follower.poll()
    assert follower.booked() == once("abc")
    assert "another exporter" in follower.state(log).problem
    elsewhere.close()
    append(log, lines("d"))
    assert follower.poll().booked() == once("abcd")
    elsewhere.open()  # for the end of the test


def test_the_reader_does_not_block_writers_that_lock_their_log(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    follow().poll()
    with open(log, "ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_while_the_ledger_cannot_be_written_the_position_stays(log: Path, follow: Follow) -> None:
    append(log, "")
    follower = follow().poll()
    append(log, lines("ab"))
    follower.poll_while("full")
    assert follower.booked() == {}
    assert follower.metrics.log_lag.collect()[0].samples[0].value == len(lines("ab"))
    assert follower.poll().booked() == once("ab")
    assert follower.metrics.log_lag.collect()[0].samples[0].value == 0


@pytest.mark.parametrize("mood", ["die before", "die after"])
def test_killed_around_the_commit(log: Path, follow: Follow, mood: str) -> None:
    append(log, lines("ab"))
    follower = follow()
    follower.poll_while(mood)
    assert follower.poll().booked() == once("ab")


def test_restart_at_every_byte_of_a_small_log(tmp_path: Path) -> None:
    whole = (lines("a") + "{bad\n\n" + '{"outcome": "error"}\n').encode()
    for stop in range(len(whole) + 1):
        folder = tmp_path / str(stop)
        folder.mkdir()
        log = folder / "llm.log"
        log.write_bytes(whole[:stop])
        follower = Follower(folder, Log(str(log))).poll()
        refused = follower.refused("malformed") or 0
        follower.restart()
        append(log, whole[stop:])
        booked = follower.poll().booked()
        refused += follower.refused("malformed") or 0
        follower.close()
        assert (booked, refused) == ({"a": 1, "unknown": 1}, 1), f"stopped after byte {stop}"


@given(st.lists(st.binary(max_size=12), max_size=8), st.lists(st.integers(1, 9), min_size=1))
def test_any_cutting_of_a_log_gives_its_lines(texts: list[bytes], steps: list[int]) -> None:
    whole = b"".join(text.replace(b"\n", b" ") + b"\n" for text in texts)
    found, offset, shown = [], 0, 0
    while shown < len(whole):
        shown += steps[shown % len(steps)]
        piece = cut(whole[offset:shown], False)
        found += piece.lines
        offset += piece.consumed
    assert found == re.split(rb"\0+|\n", whole)[:-1]  # a run of NUL ends a line, too


def test_other_logs_are_followed_after_a_reload(tmp_path: Path, log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    append(tmp_path / "other", lines("b"))
    follower = follow().poll()
    follower.source.configure([Log(str(tmp_path / "other"))])
    follower.poll()
    append(log, lines("x"))
    assert follower.poll().booked() == once("ab")
    follower.source.configure([Log(str(log))])
    assert follower.poll().booked() == once("abx")


def test_more_logs_than_can_be_open_wait_and_say_so(
    tmp_path: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.intake.logs.source.MAX_LOGS", 2)
    for name in "abc":
        append(tmp_path / f"{name}.jsonl", lines(name))
    follower = follow(Log(str(tmp_path / "*.jsonl"))).poll()
    assert follower.booked() == once("ab")
    assert "more than 2 logs" in follower.source.problems[0]
    assert follower.state(tmp_path / "c.jsonl").lag_bytes > 0


def test_a_fault_of_ours_is_said_and_reading_goes_on(
    log: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from tests.support.waiting import until

    append(log, lines("a"))
    follower = follow()
    with monkeypatch.context() as broken:
        broken.setattr(LogFile, "read", lambda *_: 1 / 0)
        follower.source.start()
        until(lambda: "ZeroDivisionError" in "".join(follower.source.problems))
    until(lambda: follower.booked() == once("a"))
    until(lambda: not follower.source.problems)
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_reading_a_chunk_is_bounded(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(log, lines("abc") * 20_000)
    sizes = []
    real = os.pread
    monkeypatch.setattr(log_file.os, "pread", lambda *a: sizes.append(a[1]) or real(*a))
    file = LogFile(log, str(log))
    assert file.read(final=False, join=None)
    file.close()
    assert max(sizes) <= MAX_LINE_BYTES


def test_an_inode_used_again_by_the_ledger_is_not_read(
    log: Path, follow: Follow, tmp_path: Path
) -> None:
    """A file deleted while empty or short; its inode went to a file that is no log."""
    append(log, lines("a"))
    follower = follow().poll()
    follower.close()
    log.unlink()
    other = tmp_path / "ledger.sqlite"
    with sqlite3.connect(other) as db:
        db.execute("UPDATE log_positions SET inode = ?, offset = 0", (str(other.stat().st_ino),))
    follower.open()
    assert follower.poll().booked() == once("a")
    assert follower.refused("malformed") == 0
    opened = [os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.exists()]
    assert str(log) not in opened
