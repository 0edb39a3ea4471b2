"""Rotation under every name, while the exporter looks and while it is away."""

import gzip
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter.config import Log
from exporter.intake.logs import packed
from tests.support.log_followers import Follower, append, line

Follow = Callable[..., Follower]
# Two names that a rotation gives one after the other.
NAMES = [
    ("llm.log.2", "llm.log.1"),
    ("llm-1.log", "llm-2.log"),
    ("llm.2026-11-24_10-00-00_1.log", "llm.2026-11-24_10-00-00_2.log"),
    ("llm-20261124.log", "llm-20261125.log"),
    ("llm20261124.log", "llm20261124_001.log"),
    ("20261124-1000-01-llm.log", "20261124-1000-02-llm.log"),
    ("archive/llm.log.2", "archive/llm.log.1"),
    ("2026-11/llm-11-24-2026-1.log", "2026-11/llm-11-24-2026-2.log"),
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "llm.log"


@pytest.fixture
def follow(tmp_path: Path, log: Path) -> Iterator[Follow]:
    """follow() -> a follower of llm.log, or of what it is given."""
    followers: list[Follower] = []

    def start(*logs: Log) -> Follower:
        followers.append(Follower(tmp_path, *logs or [Log(str(log))]))
        return followers[-1]

    yield start
    for follower in followers:
        follower.close()


def lines(names: str) -> str:
    """Each letter is the roaster of one event."""
    return "".join(line(name) for name in names)


def once(names: str) -> dict[str, int]:
    return dict.fromkeys(names, 1)


def move(log: Path, name: str) -> Path:
    target = log.parent / name
    target.parent.mkdir(exist_ok=True)
    return log.rename(target)


def pack(path: Path) -> Path:
    """As gzip does: the content's time stays, the inode does not."""
    status, result = path.stat(), path.with_name(path.name + ".gz")
    result.write_bytes(gzip.compress(path.read_bytes()))
    os.utime(result, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.unlink()
    return result


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize(("first", "second"), NAMES)
def test_rotated_once_and_twice_between_two_looks(
    log: Path, follow: Follow, first: str, second: str, away: bool
) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    if away:
        follower.close()
    append(log, lines("b"))
    move(log, first)
    append(log, lines("c"))
    move(log, second)
    append(log, lines("d"))
    if away:
        follower.open()
    assert follower.poll().booked() == once("abcd")
    assert follower.source.problems == []
    follower.restart()
    assert follower.poll().booked() == once("abcd")


@pytest.mark.parametrize("name", ["llm.log.old", "@4000000065a0.s", "archive/yesterday", "x.gone"])
def test_a_known_file_under_any_name(log: Path, follow: Follow, name: str) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    follower.close()
    append(log, lines("b"))
    move(log, name)
    append(log, lines("c"))
    follower.open()
    assert follower.poll().booked() == once("abc")


def test_copies_under_a_name_with_the_date_before_the_extension(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    for away, name in ((False, "llm-20261124.log"), (True, "archive/llm-20261125.log")):
        if away:
            follower.close()
        append(log, lines("bc"[away]))
        (log.parent / name).parent.mkdir(exist_ok=True)
        shutil.copy(log, log.parent / name)
        os.truncate(log, 0)
        append(log, lines("de"[away]))
        if away:
            follower.open()
        follower.poll()
    assert follower.booked() == once("abcde")


@pytest.mark.parametrize("name", ["llm.log.1", "llm.2026-11-24.log", "archive/llm-20261124.log"])
def test_compressed_before_it_was_read(log: Path, follow: Follow, name: str) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    follower.close()
    append(log, lines("b"))
    pack(move(log, name))
    append(log, lines("c"))
    follower.open()
    assert follower.poll().booked() == once("abc")
    assert follower.source.problems == []
    for _ in range(2):  # nothing of it is read again
        follower.restart()
        move(log, name)
        append(log, lines("d"))
        assert follower.poll().booked() == {**once("abc"), "d": _ + 1}


def test_a_look_while_a_file_is_compressed(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    follower.close()
    append(log, lines("b"))
    rotated = move(log, "llm-1.log")
    content = rotated.read_bytes()
    half = log.with_name("llm-1.log.gz")
    half.write_bytes(gzip.compress(content)[:20])
    append(log, lines("c"))
    follower.open()
    assert follower.poll().booked() == once("abc")
    assert follower.source.problems == []
    pack(rotated)
    follower.restart()
    assert follower.poll().booked() == once("abc")


def test_compressed_twice_before_it_was_read(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    follower.close()
    for name in "bcd":
        append(log, lines(name))
        pack(move(log, f"llm.2026-11-2{ord(name) - 97}.log"))
    append(log, lines("e"))
    follower.open()
    assert follower.poll().booked() == once("abcde")


def test_compressed_before_the_log_was_ever_seen(log: Path, follow: Follow) -> None:
    append(log, lines("x"))
    pack(move(log, "llm.2026-11-20.log"))  # from before it was followed
    follower = follow().poll()
    append(log, lines("a"))
    pack(move(log, "llm.2026-11-21.log"))
    append(log, lines("b"))
    assert follower.poll().booked() == once("ab")


@pytest.mark.parametrize("first", ["", "{"])
def test_compressed_when_no_more_than_opened_and_all_before_it_is_gone(
    log: Path, follow: Follow, first: str
) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    follower.clock.advance(1)  # so that the ledger knows which of the two came last
    move(log, "llm-1.log")
    append(log, first)
    follower.poll().close()
    (log.parent / "llm-1.log").unlink()
    append(log, lines("b")[len(first) :])
    packed_log = pack(move(log, "llm-2.log"))
    os.utime(packed_log, (follower.clock.now() + 1,) * 2)
    append(log, lines("c"))
    follower.open()
    assert follower.poll().booked() == once("abc")
    assert follower.source.problems == []


def test_an_old_packed_file_put_there_is_not_read_when_no_other_is_left(
    log: Path, follow: Follow
) -> None:
    """Its content is older than the last look, so it was there or is another's."""
    append(log, lines("a"))
    follower = follow().poll()
    follower.close()
    log.unlink()
    packed_log = log.with_name("llm-2.log.gz")
    packed_log.write_bytes(gzip.compress(lines("b").encode()))
    os.utime(packed_log, (follower.clock.now() - 61,) * 2)
    append(log, lines("c"))
    follower.open()
    assert follower.poll().booked() == once("ac")
    assert "is gone" in follower.source.problems[0]


def test_an_opened_file_that_is_gone_is_a_problem_even_if_nothing_was_in_it(
    log: Path, follow: Follow
) -> None:
    append(log, "")
    follower = follow().poll()
    follower.restart()
    assert follower.poll().source.problems == []
    follower.close()
    append(log, lines("a"))
    log.rename(log.with_name("llm.log.1.zst"))
    append(log, lines("b"))
    follower.open()
    assert follower.poll().booked() == once("b")
    assert "up to byte 0 is gone" in follower.source.problems[0]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("first", ["", "{"])
def test_the_first_lines_are_copied_and_truncated_between_two_looks(
    log: Path, follow: Follow, first: str, compressed: bool
) -> None:
    append(log, first)
    follower = follow().poll()
    append(log, lines("a")[len(first) :])
    copy = Path(shutil.copy(log, log.with_name("llm-1.log")))
    if compressed:
        pack(copy)
    os.truncate(log, 0)
    append(log, lines("b"))
    assert follower.poll().booked() == once("ab")
    follower.restart()
    assert follower.poll().booked() == once("ab")


@pytest.mark.parametrize("killed", [False, True])
def test_copied_truncated_renamed_and_compressed_before_a_look(
    log: Path, follow: Follow, killed: bool
) -> None:
    """The copy goes on where the log was, although nothing has the log's inode any more."""
    append(log, lines("a"))
    follower = follow().poll()
    append(log, lines("b"))
    shutil.copy(log, log.with_name("llm-1.log"))
    os.truncate(log, 0)
    append(log, lines("c"))
    renamed = move(log, "llm-2.log")
    if killed:
        follower.close()
    os.utime(pack(renamed), (follower.clock.now() + 1,) * 2)
    if killed:
        follower.open()
    assert follower.poll().booked() == once("abc")
    assert follower.source.problems == []


def test_compressed_after_it_was_read(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    pack(move(log, "llm-20261120.log"))  # from before it was followed
    follower = follow().poll()
    for name in "bcd":
        append(log, lines(name))
        rotated = move(log, f"llm-2026112{ord(name) - 97}.log")
        append(log, lines(name.upper()))
        follower.poll()
        pack(rotated)
        follower.clock.advance(61)
        follower.poll()
    follower.restart()
    assert follower.poll().booked() == once("bcdBCD")


def test_killed_while_a_compressed_file_is_read(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    follower.close()
    append(log, line("b") + "".join(line("x", prompt="x" * 1000) for _ in range(1000)) + line("c"))
    pack(move(log, "llm-1.log"))
    append(log, lines("d"))
    follower.open()
    assert follower.source.poll()
    follower.restart()
    assert follower.poll().booked() == {**once("abcd"), "x": 1000}


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"no gzip", "Not a gzip|whole"), (b"half", "whole"), (b"1", "more than 10 bytes")],
)
def test_what_cannot_be_unpacked_is_said_and_mended(
    log: Path, follow: Follow, content: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    follower.close()
    append(log, lines("b"))
    rotated = pack(move(log, "llm-1.log"))
    whole = rotated.read_bytes()
    if content == b"1":
        monkeypatch.setattr(packed, "MAX_UNPACKED_BYTES", 10)
    else:
        rotated.write_bytes(whole[:20] if content == b"half" else content)
    append(log, lines("c"))
    follower.open()
    assert follower.poll().booked() == once("ac")
    problem = "; ".join(follower.source.problems)
    assert re.search(f"cannot read {re.escape(str(rotated))}: .*({words})", problem)
    assert "is gone" in problem
    monkeypatch.undo()
    rotated.write_bytes(whole)
    follower.clock.advance(61)
    assert follower.poll().booked() == once("abc")
    assert follower.source.problems == []


def test_what_was_read_and_cannot_be_found_is_a_problem(
    log: Path, follow: Follow, tmp_path: Path
) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    follower.close()
    append(log, lines("b"))
    elsewhere = tmp_path / "far" / "away"
    elsewhere.mkdir(parents=True)
    log.rename(elsewhere / "x")
    follower.open()
    assert follower.poll().source.problems == []  # the path may lead to it again
    append(log, lines("cde"))
    assert follower.poll().booked() == once("acde")
    (problem,) = follower.source.problems
    assert follower.registry.get_sample_value("llm_log_problems") == 1
    assert problem.startswith(f"{log}: the file that was read up to byte {len(lines('a'))} is gone")
    shutil.move(elsewhere / "x", log.parent / "llm.log.1")
    follower.clock.advance(61)
    assert follower.poll().booked() == once("abcde")
    assert follower.source.problems == []


def test_an_inode_used_again_hides_nothing(log: Path, follow: Follow) -> None:
    """As ext4 does: the next file gets the inode of the one that was compressed and removed."""
    append(log, lines("a"))
    follower = follow().poll()
    follower.close()
    append(log, lines("b"))
    packed_log = log.with_name("llm-1.log.gz")
    packed_log.write_bytes(gzip.compress(log.read_bytes()))
    log.write_text(lines("cde"))
    hidden = packed_log.rename(log.parent / "elsewhere")
    follower.open()
    assert follower.poll().booked() == once("acde")
    assert "is gone" in follower.source.problems[0]
    hidden.rename(packed_log)
    follower.clock.advance(61)
    assert follower.poll().booked() == once("abcde")
    assert follower.source.problems == []


def pack_into(old: Path, content: Path, name: str) -> None:
    """Pack a file into an older one that is gone: the .gz has got its inode."""
    old.write_bytes(gzip.compress(content.read_bytes()))
    if content != old:
        content.unlink()
    old.rename(content.with_name(name))


def test_packed_into_the_inode_of_a_log_whose_copy_was_read_further(
    log: Path, follow: Follow, tmp_path: Path
) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    follower.close()
    append(log, lines("b"))
    copy = Path(shutil.copy(log, log.with_name("llm-1.log")))
    (tmp_path / "far" / "away").mkdir(parents=True)
    old = log.rename(tmp_path / "far" / "away" / "x")
    follower.open()
    assert follower.poll().booked() == once("ab")
    follower.close()
    pack_into(old, copy, "llm-1.log.gz")
    append(log, lines("c"))
    follower.open()
    assert follower.poll().booked() == once("abc")
    assert follower.source.problems == []


def test_packed_into_the_inode_of_a_log_that_was_copied(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    follower.clock.advance(1)
    older = move(log, "llm-1.log")
    append(log, lines("c"))
    follower.poll().close()
    append(older, lines("b"))
    shutil.copy(older, log.with_name("llm-2.log"))
    move(log, "llm-3.log")
    append(log, lines("d"))
    pack_into(older, log, "llm-4.log.gz")
    append(log, lines("e"))
    follower.open()
    assert follower.poll().booked() == once("abcde")
    assert follower.source.problems == []


def test_killed_while_what_was_packed_into_the_inode_of_its_log_is_read(
    log: Path, follow: Follow
) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    follower.close()
    append(log, lines("b"))
    pack_into(log, log, "llm-1.log.gz")
    append(log, lines("c"))
    follower.open()
    follower.poll_while("die after")
    assert follower.poll().booked() == once("abc")


def test_a_restart_accepts_what_is_gone(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    follower.close()
    log.unlink()
    append(log.with_name("keeps-the-inode-busy"), lines("x"))
    append(log, lines("bbb"))
    follower.open()
    assert len(follower.poll().source.problems) == 1
    follower.restart()
    assert follower.poll().source.problems == []
    assert follower.booked() == {"a": 1, "b": 3}


def test_what_is_read_and_then_removed_is_no_problem(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    log.unlink()
    follower.poll()
    follower.clock.advance(61)
    follower.poll()
    append(log, lines("b"))
    assert follower.poll().booked() == once("ab")
    assert follower.source.problems == []


def test_a_neighbour_s_log_is_not_taken_for_an_older_one(log: Path, follow: Follow) -> None:
    neighbours = [log.with_name(name) for name in ("llm-2.log", "llm-audit.log", "llm-audit-1.log")]
    for neighbour in neighbours:
        append(neighbour, lines("x"))
    append(log, lines("a"))
    follower = follow().poll()
    for away, name in ((False, "b"), (True, "c"), (False, "d")):
        if away:
            follower.close()
        for neighbour in neighbours:
            append(neighbour, lines("x"))
        append(log, lines(name))
        move(log, f"llm.2026-11-2{ord(name) - 97}.log")
        append(log, lines(name.upper()))
        append(log.with_name(f"llm-{ord(name)}.log"), lines("x"))  # a neighbour that comes later
        if away:
            follower.open()
        follower.poll()
    assert follower.booked() == once("abcdBCD")


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize(("first", "second"), NAMES[:6])
def test_a_glob_that_matches_the_older_files_too(
    log: Path, follow: Follow, first: str, second: str, away: bool
) -> None:
    append(log, lines("a"))
    follower = follow(Log(str(log.with_name("*llm*log*")))).poll()
    if away:
        follower.close()
    for name, text in ((first, "b"), (second, "c")):
        append(log, lines(text))
        move(log, name)
    append(log, lines("d"))
    if away:
        follower.open()
    assert follower.poll().booked() == once("abcd")
    assert follower.source.problems == []
    follower.restart()
    assert follower.poll().booked() == once("abcd")
    assert follower.source.problems == []


@pytest.mark.parametrize("theirs", [False, True])
def test_a_folder_below_is_another_log_s_if_it_holds_one_of_the_name(
    log: Path, follow: Follow, theirs: bool
) -> None:
    follower = follow().poll()
    append(log, lines("a"))
    older = move(log, "below/llm.log.1")
    if theirs:
        append(older.parent / "llm.log", lines("x"))
    append(log, lines("b"))
    assert follower.poll().booked() == once("b" if theirs else "ab")


def test_a_restart_reads_no_copy_made_meanwhile(log: Path, follow: Follow) -> None:
    append(log, lines("ab"))
    follower = follow().poll()
    follower.close()
    shutil.copy(log, log.with_name("llm.log.9"))
    append(log, lines("c"))
    follower.open()
    assert follower.poll().booked() == once("abc")


def test_moved_across_file_systems_while_it_is_open(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    append(log, lines("b"))
    shutil.copy(log, log.with_name("llm-1.log"))
    log.unlink()
    append(log, lines("c"))
    assert follower.poll().booked() == once("abc")


def test_a_rotated_log_that_may_not_be_read(log: Path, follow: Follow) -> None:
    append(log, lines("a"))
    follower = follow().poll()
    follower.close()
    append(log, lines("b"))
    rotated = move(log, "llm-1.log")
    rotated.chmod(0)
    append(log, lines("c"))
    real = os.open

    def denied(path: str | Path, *rest: int) -> int:  # for root, who may read everything
        if str(path) == str(rotated):
            raise PermissionError(13, "Permission denied")
        return real(path, *rest)

    follower.open()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", denied)
        follower.poll()
    assert f"cannot read {rotated}: Permission denied" in follower.source.problems[0]
    assert follower.booked() == once("ac")
    rotated.chmod(0o600)
    follower.clock.advance(61)
    assert follower.poll().booked() == once("abc")
    assert follower.source.problems == []


def test_the_ledger_is_not_opened_whatever_inode_it_got(tmp_path: Path, follow: Follow) -> None:
    import sqlite3

    log, ledger = tmp_path / "llm.log", tmp_path / "ledger.sqlite"
    append(log, lines("a"))
    follower = follow().poll()
    follower.close()
    log.unlink()
    with sqlite3.connect(ledger) as db:
        db.execute("UPDATE log_positions SET inode = ?", (str(ledger.stat().st_ino),))
    follower.open()
    opened: list[str] = []
    real = os.open

    def watched(path: str | Path, *rest: int) -> int:
        opened.append(str(path))
        return real(path, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", watched)
        follower.poll()
    assert str(ledger) not in opened
