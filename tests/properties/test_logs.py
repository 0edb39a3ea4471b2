"""Any sequence of writes, rotations, reads, restarts and deaths: each line counts exactly once."""

import gzip
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from exporter.config import Log
from tests.support.examples import examples
from tests.support.log_followers import Follower, append, line

# How rotation names older files: shifted (the newest is 1), or by a number or date that grows.
NAMES = [
    "llm.log.{}",
    "llm-{:03}.log",
    "llm.2026-11-24_10-00-{:02}_123456.log",
    "llm.2026-11-24.{}.log",
    "llm202611{:02}.log",
    "202611{:02}-1000-01-llm.log",
    "archive/llm-202611{:02}.log",
]
ODD = [
    b"",
    rb', "odd": "\ud83d"',
    b', "odd": NaN',
    b', "odd": "\x01\xff\t"',
    b', "odd": ' + b"9" * 5000,
]


class Rotation(RuleBasedStateMachine):
    """The model: every whole line written to the log counts once, whatever became of its file."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.log = self.folder / "llm.log"
        self.names = NAMES[0]
        self.rotations = 0
        self.written = 0
        self.touched = 0
        self.torn = b""  # the rest of a line of which the first half is written
        self.follower = Follower(self.folder, Log(str(self.log)))
        self.follower.poll()

    def teardown(self) -> None:
        try:
            if self.torn:
                self.write(0)
            self.follower.restart()
            self.follower.poll()
            assert self.follower.booked() == {f"r{i}": 1 for i in range(self.written)}
            assert self.follower.refused("malformed") == 0
        finally:
            self.follower.close()
            shutil.rmtree(self.folder)

    def next_line(self) -> bytes:
        self.written += 1
        odd = ODD[self.written % len(ODD)]
        return line(f"r{self.written - 1}").encode().replace(b"}", odd + b"}")

    @invariant()
    def nothing_counts_twice(self) -> None:
        assert set(self.follower.booked().values()) <= {1}

    @rule(lines=st.integers(0, 30))
    def write(self, lines: int) -> None:
        self.append(self.log, self.torn + b"".join(self.next_line() for _ in range(lines)))
        self.torn = b""

    def append(self, path: Path, text: bytes) -> None:
        append(path, text)
        self.touch(path)

    def touch(self, path: Path) -> None:
        """Change a file at the exporter's time: that of a packed one is compared with it."""
        self.touched += 1
        os.utime(path, (self.follower.clock.now() + self.touched / 1e5,) * 2)

    @precondition(lambda self: not self.torn)
    @rule(at=st.integers(1, 20))
    def write_half(self, at: int) -> None:
        text = self.next_line()
        self.append(self.log, text[:at])
        self.torn = text[at:]

    @initialize(names=st.sampled_from(NAMES))
    def choose(self, names: str) -> None:
        self.names = names
        (self.folder / names).parent.mkdir(exist_ok=True)

    def older(self) -> list[Path]:
        """Those that were rotated, the newest last."""
        files = [path for path in self.folder.rglob("*llm*log*") if path != self.log]
        files = [path for path in files if path.suffix != ".gz"]
        return sorted(files, key=self.age)

    def age(self, path: Path) -> tuple[int, str]:
        shifted = self.names == NAMES[0]
        return (-int(path.suffix[1:]), "") if shifted else (0, path.name)

    def shift(self) -> Path:
        """Where the next file goes."""
        self.rotations += 1
        if self.names != NAMES[0]:
            return self.folder / self.names.format(self.rotations)
        for path in self.older():
            path.rename(path.with_suffix(f".{int(path.suffix[1:]) + 1}"))
        return self.folder / "llm.log.1"

    @precondition(lambda self: self.log.exists() and not self.torn)
    @rule()
    def rename(self) -> None:
        self.log.rename(self.shift())

    @precondition(lambda self: self.older() and not self.torn)
    @rule()
    def write_late(self) -> None:
        self.append(self.older()[-1], self.next_line())

    @precondition(lambda self: self.names != NAMES[0] and self.older())
    @rule()
    def compress(self) -> None:
        newest = self.older()[-1]
        packed = newest.with_name(f"{newest.name}.gz")
        packed.write_bytes(gzip.compress(newest.read_bytes()))
        os.utime(packed, (newest.stat().st_mtime,) * 2)
        newest.unlink()

    @precondition(lambda self: self.log.exists() and not self.torn)
    @rule(times=st.integers(1, 3))
    def rotate_while_away(self, times: int) -> None:
        self.follower.close()
        for _ in range(times):
            self.write(1)
            self.log.rename(self.shift())
        self.follower.open()

    @precondition(lambda self: self.log.exists() and not self.torn)
    @rule(looks=st.booleans())
    def copytruncate(self, looks: bool) -> None:
        # A file that was never read and is truncated at once leaves no trace to be found by.
        self.follower.poll()
        self.write(1)
        shutil.copy2(self.log, self.shift())
        if looks:
            self.follower.restart()
            self.follower.poll()
        os.truncate(self.log, 0)
        self.touch(self.log)

    @precondition(lambda self: self.log.exists() and not self.torn)
    @rule(stopped=st.booleans())
    def delete(self, stopped: bool) -> None:
        self.follower.poll()
        if stopped:  # then its inode may be had again by the next file
            self.follower.close()
        self.log.unlink()
        if stopped:
            self.write(1)
            self.follower.open()

    @rule()
    def poll(self) -> None:
        self.follower.poll()

    @rule(mood=st.sampled_from(["full", "die before", "die after"]))
    def fail(self, mood: str) -> None:
        self.follower.poll_while(mood)

    @rule()
    def restart(self) -> None:
        self.follower.restart()

    @precondition(lambda self: not self.torn)
    @rule()
    def wait(self) -> None:
        self.follower.poll()
        self.follower.clock.advance(61)


@pytest.mark.hypothesis
def test_every_interleaving_of_write_rotate_and_read_counts_each_line_once() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Rotation,
        settings=settings(
            max_examples=examples(30),
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_reading_that_went_on_in_a_copy_is_not_found_again_by_the_old_inode() -> None:
    """Found by the property above: a .gz got the inode of the log that was truncated."""
    state = Rotation()
    state.choose("llm-{:03}.log")
    state.write(1)
    state.copytruncate(looks=False)
    state.rename()
    state.fail("die before")
    state.compress()
    state.poll()
    state.compress()
    state.teardown()


def test_an_empty_file_that_was_rotated_unseen_is_read_when_it_gets_a_line_after_all() -> None:
    """Found by the property above: an empty file was taken for the beginning of a copy."""
    state = Rotation()
    state.choose("llm-{:03}.log")
    state.wait()
    state.write(0)
    state.rename()
    state.wait()
    state.write(1)
    state.wait()
    state.write_late()
    state.teardown()


def test_a_copy_with_the_inode_of_a_file_that_was_compressed_goes_on_where_the_log_was() -> None:
    """Found by the property above: the .gz took over the reading of that inode, and no more."""
    state = Rotation()
    state.choose("llm-{:03}.log")
    state.write(0)
    state.copytruncate(looks=True)
    state.write(1)
    state.poll()
    state.write_late()
    state.compress()
    state.copytruncate(looks=False)
    state.poll()
    state.teardown()
