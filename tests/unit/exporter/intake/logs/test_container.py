"""Logs of containers: lines wrapped by Docker or CRI, in pieces, through kills and rotations."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import Log
from exporter.intake.logs.container import join
from exporter.intake.logs.file import CHUNK_BYTES, MAX_LINE_BYTES, WholeLines
from tests.support.log_followers import Follower, append, line

TIME = "2027-01-15T11:59:00.123456789Z"
Wrap = Callable[..., bytes]


def docker(text: str, stream: str = "stdout", ends: bool = True) -> bytes:
    entry = {"log": text + "\n" * ends, "stream": stream, "time": TIME}
    return json.dumps(entry).encode() + b"\n"


def cri(text: str, stream: str = "stdout", ends: bool = True) -> bytes:
    return f"{TIME} {stream} {'PF'[ends]} {text}\n".encode()


FORMATS = pytest.mark.parametrize("wrap", [docker, cri])


def pieces(wrap: Wrap, text: str, size: int = 16 << 10, stream: str = "stdout") -> list[bytes]:
    """A line as the runtime cuts it."""
    starts = range(0, len(text), size)
    return [wrap(text[at : at + size], stream, at + size >= len(text)) for at in starts]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "llm.log"


@pytest.fixture
def follow(tmp_path: Path, log: Path) -> Iterator[Callable[[Wrap], Follower]]:
    followers: list[Follower] = []

    def start(wrap: Wrap) -> Follower:
        kind = "docker" if wrap is docker else "cri"
        followers.append(Follower(tmp_path, Log(str(log), format=kind, other_lines="ignore")))
        return followers[-1]

    yield start
    for follower in followers:
        follower.close()


Follow = Callable[[Wrap], Follower]


def event(name: str, size: int = 10) -> str:
    return line(name, prompt="x" * size).rstrip()


@FORMATS
def test_lines_are_unwrapped(log: Path, follow: Follow, wrap: Wrap) -> None:
    append(log, wrap(event("a")) + wrap("starting", "stderr") + wrap(event("b"), "stderr"))
    follower = follow(wrap).poll()
    assert follower.booked() == {"a": 1, "b": 1}
    assert (follower.refused("not_json"), follower.refused("malformed")) == (1, 0)
    assert follower.state(log).last_refusal == ""


@FORMATS
def test_pieces_of_two_streams_are_joined(log: Path, follow: Follow, wrap: Wrap) -> None:
    one, other = pieces(wrap, event("a", 70_000)), pieces(wrap, event("b", 50_000), stream="stderr")
    append(log, b"".join(one[:2] + other[:1] + one[2:] + [wrap(event("c"))] + other[1:]))
    follower = follow(wrap).poll()
    assert follower.booked() == {"a": 1, "b": 1, "c": 1}
    assert follower.refused("not_json") == follower.refused("malformed") == 0


@FORMATS
def test_killed_between_any_two_pieces(log: Path, follow: Follow, wrap: Wrap) -> None:
    one, other = pieces(wrap, event("a"), 9), pieces(wrap, event("b"), 13, "stderr")
    mixed = [piece for pair in zip(one, other, strict=False) for piece in pair]
    mixed += one[len(other) :] + other[len(one) :] + [wrap(event("c"))]
    follower = follow(wrap)
    for piece in mixed:
        append(log, piece)
        follower.poll()
        assert set(follower.booked().values()) <= {1}
        follower.restart()
    assert follower.poll().booked() == {"a": 1, "b": 1, "c": 1}
    assert follower.refused("malformed") == follower.refused("not_json") == 0


@FORMATS
@pytest.mark.parametrize("away", [False, True])
def test_a_rotation_between_the_pieces(log: Path, follow: Follow, wrap: Wrap, away: bool) -> None:
    one = pieces(wrap, event("b", 90_000))
    append(log, wrap(event("a")) + b"".join(one[:2]))
    follower = follow(wrap).poll()
    assert follower.booked() == {"a": 1}
    log.rename(f"{log}.2")
    append(log, one[2] + one[3])
    follower.poll()
    if away:
        follower.restart()
    log.rename(f"{log}.1")
    append(log, wrap(event("c"), "stderr") + b"".join(one[4:]))
    assert follower.poll().booked() == {"a": 1, "b": 1, "c": 1}
    follower.restart()
    append(log, wrap(event("d")))
    assert follower.poll().booked() == dict.fromkeys("abcd", 1)
    assert follower.refused("malformed") == follower.refused("not_json") == 0


@FORMATS
def test_a_line_that_its_program_never_ended(log: Path, follow: Follow, wrap: Wrap) -> None:
    """It ends with its file, at the latest, and the next file waits no longer for it."""
    append(log, wrap(event("a")) + wrap(event("b"), "stderr", False))
    follower = follow(wrap).poll()
    log.rename(f"{log}.1")
    append(log, wrap(event("c")))
    assert follower.poll().booked() == {"a": 1}
    assert follower.source.report()[0].lag_bytes > 0
    follower.clock.advance(61)
    assert follower.poll().booked() == {"a": 1, "b": 1, "c": 1}


@FORMATS
def test_pieces_without_an_end_are_skipped_in_bounded_memory(
    log: Path, follow: Follow, wrap: Wrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = wrap("x" * (16 << 10), "stdout", False)
    append(log, endless * (5 * MAX_LINE_BYTES // len(endless)))
    append(log, wrap("the end") + wrap(event("a")))
    sizes: list[int] = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda *a: sizes.append(a[1]) or real(*a))  # type: ignore[func-returns-value]
    follower = follow(wrap).poll()
    assert follower.booked() == {"a": 1}
    assert follower.refused("too_long") == 3  # once for each 2 MiB of it
    assert max(sizes) <= 2 * MAX_LINE_BYTES


@FORMATS
def test_a_long_line_among_many(log: Path, follow: Follow, wrap: Wrap) -> None:
    many = b"".join(wrap(event("a")) for _ in range(CHUNK_BYTES // 100))
    append(log, many + b"".join(pieces(wrap, event("b", MAX_LINE_BYTES - 200))) + many)
    follower = follow(wrap).poll()
    assert follower.booked() == {"a": 2 * (CHUNK_BYTES // 100), "b": 1}


@pytest.mark.parametrize("wrap", [docker, cri])
@pytest.mark.parametrize("bad", [b'{"log": "{', b"2027-01-15T11:59:00Z stdout", b'{"log": 7}', b""])
def test_what_the_runtime_did_not_write(log: Path, follow: Follow, wrap: Wrap, bad: bytes) -> None:
    append(log, wrap(event("a")) + bad + b"\n" + wrap(event("b")))
    assert follow(wrap).poll().booked() == {"a": 1, "b": 1}


def test_further_tags_of_cri_and_lines_without_text() -> None:
    wrapped = [b"t stdout P:x ab", b"t stderr F ", b"t stderr F", b"t stdout F:y c d"]
    found = join(WholeLines(wrapped, 100), "cri", (), last=False)
    assert found.lines == [b"", b"", b"abc d"]


@given(
    st.lists(st.tuples(st.sampled_from("oe"), st.booleans()), max_size=12),
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
)
def test_any_cutting_gives_the_same_lines(shape: list[tuple[str, bool]], steps: list[int]) -> None:
    streams = {"o": "stdout", "e": "stderr"}
    wrapped = [
        cri(str(number), streams[stream], ends).rstrip()
        for number, (stream, ends) in enumerate(shape)
    ]
    whole = join(WholeLines(wrapped, 0), "cri", (), last=True).lines
    found, at, shown = [], 0, 0
    while shown < len(wrapped):
        shown = min(len(wrapped), shown + steps[shown % len(steps)])
        part = wrapped[at:shown]
        size = sum(len(one) + 1 for one in part)
        piece = join(WholeLines(part, size), "cri", (), last=shown == len(wrapped))
        found += piece.lines
        consumed = piece.consumed
        while consumed > 0:
            consumed -= len(wrapped[at]) + 1
            at += 1
    assert found == whole
