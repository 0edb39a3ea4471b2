"""Logs that a power cut left shorter, zeroed or rewritten: each line counts once."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter.config import Log
from exporter.intake.logs.fingerprint import LAST_MARKS, Fingerprinted
from tests.support.log_followers import Follower, append, line

Follow = Callable[[], Follower]
OLD = [f"old{number}" for number in range(30)]
NEW = ["new0", "new1"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "llm.log"


@pytest.fixture
def follow(tmp_path: Path, log: Path) -> Iterator[Follow]:
    followers: list[Follower] = []

    def start() -> Follower:
        followers.append(Follower(tmp_path, Log(str(log))))
        return followers[-1]

    yield start
    for follower in followers:
        follower.close()


def lines(names: list[str]) -> bytes:
    return "".join(map(line, names)).encode()


def once(names: list[str]) -> dict[str, int]:
    return dict.fromkeys(names, 1)


def identified(names: list[str]) -> bytes:
    return "".join(line(name, id=f"id-{name}") for name in names).encode()


def after_a_cut(follower: Follower, log: Path, left: bytes) -> Follower:
    """What is booked after a cut while the exporter was away left so much."""
    follower.close()
    log.write_bytes(left)
    follower.open()
    return follower.poll()


@pytest.mark.parametrize("first", ["the program", "the exporter"])
@pytest.mark.parametrize("at", [0, 20, 45, 46, 300, 1023, 1024, 1300, -60, -1])
def test_a_log_that_lost_its_end_is_not_booked_again(
    log: Path, follow: Follow, at: int, first: str
) -> None:
    append(log, lines(OLD))
    follower = follow().poll()
    left = lines(OLD)[:at]
    if first == "the program":
        # Glued to half a line, which was booked.
        assert after_a_cut(follower, log, left + lines(NEW)).booked() == once(OLD + NEW)
    else:
        after_a_cut(follower, log, left)
        append(log, b"\n" + lines(NEW))
        assert follower.poll().booked() == once(OLD + NEW)


def test_a_cut_log_that_has_grown_beyond_its_position(log: Path, follow: Follow) -> None:
    append(log, lines(OLD))
    more = [f"more{number}" for number in range(60)]
    after_a_cut(follower := follow().poll(), log, lines(OLD[:5]) + lines(more))
    assert follower.booked() == once(OLD + more)


def test_cut_again_and_again(log: Path, follow: Follow) -> None:
    append(log, lines(OLD))
    follower, names, left = follow().poll(), list(OLD), lines(OLD)
    for number in range(6):
        left = left[:-30] + b"\n" + lines([f"again{number}"])
        names.append(f"again{number}")
        assert after_a_cut(follower, log, left).booked() == once(names)


@pytest.mark.parametrize("start", [0, 100, 1024, 1200])
@pytest.mark.parametrize("beyond", [0, 5000])
def test_a_log_whose_end_is_zeroed(log: Path, follow: Follow, start: int, beyond: int) -> None:
    append(log, lines(OLD))
    follower = follow().poll()
    size = len(lines(OLD))
    left = lines(OLD)[:start] + bytes(size - start + beyond)
    assert after_a_cut(follower, log, left + lines(NEW)).booked() == once(OLD + NEW)


def test_zeroes_instead_of_lines_are_counted_and_the_next_line_is_read(
    log: Path, follow: Follow
) -> None:
    append(log, lines(OLD[:1]) + line("torn").encode()[:20] + bytes(700) + lines(NEW))
    follower = follow().poll()
    assert follower.booked() == once(OLD[:1] + NEW)
    assert follower.refused("malformed") == 2  # half a line, and what is zeroed
    assert "zero bytes" in follower.state(log).last_refusal


def test_a_log_with_zeroed_pages_among_its_lines(log: Path, follow: Follow) -> None:
    append(log, lines(OLD))
    follower = follow().poll()
    content = bytearray(lines(OLD))
    for start in (0, 512, len(content) - 200):
        content[start : start + 64] = bytes(64)
    assert after_a_cut(follower, log, content + lines(NEW)).booked() == once(OLD + NEW)


def test_a_cut_deeper_than_what_is_remembered_doubles_nothing(log: Path, follow: Follow) -> None:
    names = [f"n{number}" for number in range(LAST_MARKS + 300)]
    append(log, lines(names))
    follower = follow().poll()
    after_a_cut(follower, log, lines(names[:100]))
    append(log, lines(NEW))
    assert follower.poll().booked() == once(names + NEW)


@pytest.mark.parametrize("left", [0, 1, 29])
def test_lines_with_ids_are_read_again_from_the_start(log: Path, follow: Follow, left: int) -> None:
    append(log, identified(OLD))
    follower = follow().poll()
    between = identified(["between"])  # where a line stood that is booked
    content = identified(OLD[:left]) + between + identified(OLD[left + 1 :] + NEW)
    after_a_cut(follower, log, content)
    assert follower.booked() == once([*OLD, "between", *NEW])
    assert follower.refused("conflict") == 0


@pytest.mark.parametrize("away", [False, True])
def test_two_files_with_the_same_first_kilobyte_are_told_apart(
    log: Path, follow: Follow, away: bool
) -> None:
    banner = b"# " + b"=" * 1500 + b"\n"
    append(log, banner + lines(OLD))
    follower = follow().poll()
    other = [f"other{number}" for number in range(60)]
    if away:
        after_a_cut(follower, log, banner + lines(other))
    else:
        log.write_bytes(banner + lines(other))
    assert follower.poll().booked() == once(OLD + other)


def test_lines_that_look_alike_after_copytruncate_are_new_ones(log: Path, follow: Follow) -> None:
    append(log, lines(["same"] * 5))
    follower = follow().poll()
    follower.close()
    append(Path(f"{log}.1"), lines(["same"] * 5))
    log.write_bytes(lines(["same"] * 3))
    follower.open()
    assert follower.poll().booked() == {"same": 8}


def test_the_position_of_an_older_ledger_holds(log: Path, follow: Follow, tmp_path: Path) -> None:
    append(log, lines(OLD))
    follower = follow().poll()
    follower.close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.execute("UPDATE log_positions SET fingerprint = substr(fingerprint, 1, 16)")
    append(log, lines(NEW))
    follower.open()
    assert follower.poll().booked() == once(OLD + NEW)


def test_what_is_remembered_is_bounded(log: Path, follow: Follow) -> None:
    names = [f"n{number}" for number in range(300)]
    follower = follow()
    for start in range(0, 3000, 300):
        append(log, lines([f"{name}-{start}" for name in names]))
        follower.poll()
    (position,) = follower.ledger.places.positions.values()
    assert len(position.fingerprint) < 8192
    assert os.path.getsize(log) == position.offset


@pytest.mark.parametrize("renumbered", [False, True])
@pytest.mark.parametrize("left", [100, 1100])
def test_a_rotated_log_that_lost_its_end_is_not_booked_again(
    log: Path, follow: Follow, tmp_path: Path, left: int, renumbered: bool
) -> None:
    append(log, lines(OLD))
    follower = follow().poll()
    rotated = log.rename(Path(f"{log}.1"))
    append(log, lines(["next"] * 5))
    follower.poll()
    follower.close()
    os.truncate(rotated, left)
    os.truncate(log, len(lines(["next"] * 2)))
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        if renumbered:  # as the reboot after a power cut may do
            db.execute("UPDATE log_positions SET device = '12345'")
    follower.open()
    append(log, lines(NEW))
    assert follower.poll().booked() == {**once(OLD + NEW), "next": 5}


def test_a_long_line_is_known_by_all_of_it(log: Path) -> None:
    """Not by its last kilobyte, which another one may have, too."""
    old, other = (first + b"9" * 5000 + b"\n" for first in (b"old", b"new"))
    log.write_bytes(old)
    with open(log, "rb") as file:
        reader = Fingerprinted(file.fileno(), str(log))
        consumed = reader.after(reader.position, old)
        assert reader.standing(consumed)[0].offset == len(old)
        log.write_bytes(other)
        assert reader.standing(consumed)[0].offset == 0
