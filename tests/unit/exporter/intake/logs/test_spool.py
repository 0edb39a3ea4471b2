"""The reader's half of the spool protocol: header, retiring, folds."""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter.config import Log
from exporter.intake.logs.rotation import paths_of
from sdk import client_delivery as reading
from sdk.client_delivery import RETIRE_BYTES
from tests.support.log_followers import Follower, append, line
from tests.support.planted import PLANTS, untouched, victim

Follow = Callable[[], Follower]
SLOT = 2048


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "calls.spool"


@pytest.fixture
def follow(tmp_path: Path, spool: Path) -> Iterator[Follow]:
    followers: list[Follower] = []

    def start() -> Follower:
        # The map of a foreign log does not apply to what says that it is a spool.
        log = Log(str(spool), keys={"roaster": "nobody"})
        followers.append(Follower(tmp_path, log))
        return followers[-1]

    yield start
    for follower in followers:
        follower.close()


def header(digit: str) -> str:
    return json.dumps({"spool": "llm-budget/1", "id": digit * 32}) + "\n"


def slot(number: int, name: str, count: int = 1) -> str:
    event = {"id": f"fold-{'f' * 32}-{number}", "roaster": name, "outcome": "cached"}
    return json.dumps({**event, "count": count}).ljust(SLOT - 1) + "\n"


def filled(name: str, megabytes: int = 1) -> str:
    """One event, and enough around it that the spool is worth retiring."""
    return line(name) + ("\n" * (1 << 10)) * (megabytes << 10) + "\n"


def test_the_header_is_no_event_and_no_bad_line(spool: Path, follow: Follow) -> None:
    append(spool, header("a") + line("a"))
    follower = follow().poll()
    append(spool, line("b"))
    follower.restart()
    assert follower.poll().booked() == {"a": 1, "b": 1}
    assert follower.refused("schema") == 0


def test_a_consumed_spool_is_retired_and_the_next_one_followed(spool: Path, follow: Follow) -> None:
    append(spool, header("a") + filled("a"))
    follower = follow().poll()
    assert not spool.exists()
    append(spool, header("b") + line("b"))
    assert follower.poll().booked() == {"a": 1, "b": 1}
    follower.restart()
    assert follower.poll().booked() == {"a": 1, "b": 1}
    assert len(follower.ledger.places.positions) == 1  # of the spool that is there


def test_a_small_spool_and_a_foreign_log_are_never_retired(spool: Path, follow: Follow) -> None:
    append(spool, header("a") + line("a"))
    follower = follow().poll()
    assert spool.exists()
    spool.unlink()
    append(spool, "{}\n" + filled("b"))
    follower.poll()
    assert spool.stat().st_size > RETIRE_BYTES


def test_a_spool_that_a_writer_holds_or_that_grew_is_not_retired(
    spool: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(spool, header("a") + filled("a"))
    with open(spool, "ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_SH)
        follower = follow().poll()
        assert spool.exists()
        append(spool, line("b"))
    lock = reading.base.lock_file
    with monkeypatch.context() as late:  # a line comes between the last read and the lock

        def slow(fd: int, kind: int, wait_seconds: float) -> bool:
            if not late_lines:
                late_lines.append(append(spool, line("c")))
            return lock(fd, kind, wait_seconds)

        late_lines: list[object] = []
        late.setattr(reading.base, "lock_file", slow)
        follower.poll()
    assert follower.booked() == {"a": 1, "b": 1, "c": 1}
    assert not spool.exists()


def test_killed_between_commit_and_unlink_or_after_it(spool: Path, follow: Follow) -> None:
    append(spool, header("a") + filled("a"))
    with open(spool, "rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_SH)
        follower = follow().poll()
    follower.restart()  # the spool is still there, all of it committed
    assert follower.poll().booked() == {"a": 1}
    assert not spool.exists()


def test_a_fold_is_taken_read_and_removed(spool: Path, follow: Follow) -> None:
    append(spool, header("a") + line("a"))
    fold = Path(f"{spool}.fold")
    append(fold, slot(0, "b", count=3) + slot(1, "c"))
    follower = follow().poll()
    assert follower.booked() == {"a": 1, "b": 3, "c": 1}
    assert [path.name for path in spool.parent.glob("*.fold*")] == []
    append(fold, slot(7, "d"))
    assert follower.poll().booked()["d"] == 1


def test_a_fold_with_a_hole_that_a_killed_writer_left(spool: Path, follow: Follow) -> None:
    append(Path(f"{spool}.fold"), b"\0" * SLOT + slot(1, "a").encode() + b"\0" * SLOT)
    follower = follow().poll()
    assert follower.booked() == {"a": 1}
    assert follower.refused("malformed") == 0


def test_a_fold_that_a_writer_holds_waits(spool: Path, follow: Follow) -> None:
    fold = Path(f"{spool}.fold")
    append(fold, slot(0, "a"))
    with open(fold, "ab") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        follower = follow().poll()
        assert follower.booked() == {}
    assert follower.poll().booked() == {"a": 1}


@pytest.mark.parametrize("mood", ["full", "die before", "die after"])
def test_killed_or_full_while_a_fold_is_read(spool: Path, follow: Follow, mood: str) -> None:
    append(spool, header("a"))
    follower = follow().poll()
    append(Path(f"{spool}.fold"), slot(0, "a", count=5))
    follower.poll_while(mood)
    assert follower.poll().booked() == {"a": 5}
    assert [path.name for path in spool.parent.glob("*.fold*")] == []


def test_files_that_only_look_like_folds_are_left_alone(spool: Path, follow: Follow) -> None:
    for name in (".fold", ".fold.txt"):
        append(Path(f"{spool}{name}"), "not a fold\n")
    append(spool, header("a") + line("a"))
    assert follow().poll().booked() == {"a": 1}
    assert len(list(spool.parent.glob("*.fold*"))) == 2


def test_a_fold_that_cannot_be_taken_is_said(
    spool: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(Path(f"{spool}.fold"), slot(0, "a"))

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    follower = follow()
    with monkeypatch.context() as read_only:
        read_only.setattr(reading.os, "rename", denied)
        follower.poll()
        assert follower.source.problems == [f"cannot read {spool}: Permission denied"]
    assert follower.poll().booked() == {"a": 1}


def test_a_delivery_and_the_exporter_keep_each_other_out(spool: Path, follow: Follow) -> None:
    append(spool, header("a") + line("a"))
    with open(f"{spool}.lock", "ab") as delivery:
        fcntl.flock(delivery, fcntl.LOCK_EX)
        follower = follow().poll()
        assert follower.booked() == {}
        assert "is read by a delivery" in follower.source.problems[0]
    assert follower.poll().booked() == {"a": 1}
    assert follower.source.problems == []
    with open(f"{spool}.lock", "ab") as delivery, pytest.raises(BlockingIOError):
        fcntl.flock(delivery, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_glob_of_spools_leaves_out_what_lies_beside_them(tmp_path: Path, spool: Path) -> None:
    for suffix in ("", ".lock", ".delivered", ".fold", ".fold." + "a" * 16):
        append(Path(f"{spool}{suffix}"), "")
    assert paths_of(str(tmp_path / "*")) == [str(spool)]


def recorded(name: str) -> bytes:
    """A call as client.py writes it."""
    event = {"id": f"id-{name}", "time": "2027-01-15T11:00:00Z", "outcome": "cached"}
    text = json.dumps({**event, "roaster": name}, separators=(",", ":"))
    return f"\n{text}\n".encode()


@pytest.mark.parametrize("left", [0, 1, 12, 40, 60])  # bytes of the header
@pytest.mark.parametrize("rest", [b"\0" * 4096, b""])
def test_a_spool_that_lost_its_header_is_read_and_retired(
    spool: Path, follow: Follow, monkeypatch: pytest.MonkeyPatch, left: int, rest: bytes
) -> None:
    monkeypatch.setattr(reading, "RETIRE_BYTES", 100)
    append(spool, header("a").encode() + recorded("a"))
    with open(spool, "rb") as writer:  # so that it is not retired
        fcntl.flock(writer, fcntl.LOCK_SH)
        follower = follow().poll()
    follower.close()
    spool.write_bytes(header("a").encode()[:left] + rest)
    if left or rest:  # else it is empty, and the client writes a header
        append(spool, recorded("b") + recorded("c"))
    follower.open()
    follower.poll()
    assert follower.booked() == {"a": 1, **({"b": 1, "c": 1} if left or rest else {})}
    assert spool.exists() == (not left and not rest)


def test_a_log_that_begins_with_a_hole_is_no_spool(spool: Path, follow: Follow) -> None:
    append(spool, b"\0" * 4096 + recorded("a") + b"\n" * RETIRE_BYTES + line("b").encode())
    follow().poll()
    assert spool.exists()


def test_a_cut_spool_is_read_again_from_its_start(spool: Path, follow: Follow) -> None:
    calls = [recorded(f"r{number}") for number in range(40)]
    append(spool, header("a").encode() + b"".join(calls))
    follower = follow().poll()
    follower.close()
    spool.write_bytes(header("a").encode() + b"".join(calls[:9]) + b'\n{"id":"to')
    append(spool, recorded("new"))
    follower.open()
    assert follower.poll().booked() == {"new": 1, **{f"r{number}": 1 for number in range(40)}}


def test_a_fold_whose_first_page_is_zeroed_is_taken(spool: Path, follow: Follow) -> None:
    append(spool, header("a"))
    torn = b"\0" * 512 + slot(3, "torn").encode()[512:]
    append(Path(f"{spool}.fold"), b"\0" * 6 * SLOT + torn + slot(7, "b").encode())
    assert follow().poll().booked() == {"b": 1}
    assert list(spool.parent.glob("*.fold*")) == []


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("suffix", [".lock", ".fold", f".fold.{'a' * 16}"])
def test_what_others_plant_beside_a_spool_is_named_and_left_alone(
    tmp_path: Path, spool: Path, follow: Follow, plant: str, suffix: str
) -> None:
    file = victim(tmp_path)
    append(spool, header("a") + line("a"))
    append(Path(f"{spool}.fold.{'b' * 16}"), slot(0, "b"))
    planted = Path(f"{spool}{suffix}")
    PLANTS[plant](planted, file)
    follower = follow().poll()
    assert untouched(file)
    (problem,) = follower.source.problems
    assert problem == f"cannot read {spool}: {planted} is a link or no regular file; remove it"
    # Without its lock a spool is not read: a delivery may be at it.
    assert follower.booked() == ({} if suffix == ".lock" else {"a": 1, "b": 1})
    planted.rmdir() if plant == "folder" else planted.unlink()
    assert follower.poll().booked() == {"a": 1, "b": 1}
    assert follower.source.problems == []


def test_a_spool_is_not_read_through_a_link(tmp_path: Path, spool: Path, follow: Follow) -> None:
    real = tmp_path / "real"
    append(real, header("a") + filled("a"))
    spool.symlink_to(real)
    follower = follow().poll()
    assert "is a symbolic link to a spool; name the spool itself" in follower.source.problems[0]
    assert real.exists()
    assert follower.booked() == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user and back")
def test_a_folder_of_spools_that_may_not_be_read_is_no_quiet_day(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o770)
    with contextlib.closing(Follower(tmp_path, Log(str(folder / "*"), keys={}))) as follower:
        assert follower.poll().source.problems == []
        append(folder / "log", line("a"))
        os.seteuid(65534)
        try:
            follower.poll()
        finally:
            os.seteuid(0)
        assert follower.source.problems == [f"cannot read {folder}/*: Permission denied"]
        assert follower.poll().booked() == {"a": 1}
        assert follower.source.problems == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a link for somebody else")
@pytest.mark.parametrize("mode", [0o755, 0o2770])
@pytest.mark.parametrize("owner", [0, 65534])
def test_a_log_is_read_through_a_link_but_not_through_anybodys(
    tmp_path: Path, mode: int, owner: int
) -> None:
    """The same owner for link and file is trusted, as in /var/log/containers; root's is, too."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    append(tmp_path / "real", line("a"))
    (folder / "log").symlink_to(tmp_path / "real")
    os.chown(folder / "log", owner, owner, follow_symlinks=False)
    follower = Follower(tmp_path, Log(str(folder / "log"), keys={})).poll()
    planted = owner != 0 and mode == 0o2770
    assert bool(follower.source.problems) == planted
    os.chown(tmp_path / "real", owner, owner)
    assert follower.poll().booked() == {"a": 1}
    follower.close()
