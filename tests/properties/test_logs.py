"""Any sequence of writes, rotations, reads, restarts and deaths: each line counts exactly once."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from exporter.config import Log
from tests.support.examples import examples
from tests.support.log_followers import Follower, append, line


class Rotation(RuleBasedStateMachine):
    """The model: every whole line written to the log counts once, whatever became of its file."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.log = self.folder / "llm.log"
        self.written = 0
        self.torn = ""  # the rest of a line of which the first half is written
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

    def next_line(self) -> str:
        self.written += 1
        return line(f"r{self.written - 1}")

    @invariant()
    def nothing_counts_twice(self) -> None:
        assert set(self.follower.booked().values()) <= {1}

    @rule(lines=st.integers(0, 30))
    def write(self, lines: int) -> None:
        append(self.log, self.torn + "".join(self.next_line() for _ in range(lines)))
        self.torn = ""

    @precondition(lambda self: not self.torn)
    @rule(at=st.integers(1, 20))
    def write_half(self, at: int) -> None:
        text = self.next_line()
        append(self.log, text[:at])
        self.torn = text[at:]

    def older(self) -> list[Path]:
        files = self.folder.glob("llm.log.[0-9]*")
        return sorted(files, key=lambda path: int(path.suffix[1:]), reverse=True)

    def shift(self) -> Path:
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
        append(self.folder / "llm.log.1", self.next_line())

    @precondition(lambda self: self.log.exists() and not self.torn)
    @rule(looks=st.booleans())
    def copytruncate(self, looks: bool) -> None:
        # A file that was never read and is truncated at once leaves no trace to be found by.
        self.follower.poll()
        self.write(1)
        shutil.copy(self.log, self.shift())
        if looks:
            self.follower.restart()
            self.follower.poll()
        os.truncate(self.log, 0)

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
