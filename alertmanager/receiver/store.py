"""State and effective config, kept in step on disk: state first, so that a crash between the two
repeats the last decision and never forgets it."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from alertmanager.receiver.configs import Configs
from alertmanager.receiver.ladder.operations import Document
from alertmanager.receiver.state import InForce, State, actives, copy_of, in_force, save_state
from common.clock import Clock

log = logging.getLogger("receiver")


class Look(NamedTuple):
    """The effective file as it was before a lock was taken, and what had been written by then."""

    written: bytes | None
    content: bytes | None


@dataclass(frozen=True)
class Placement:
    """What became of a decision.

    refused: it would lower and cannot be remembered, so the last one stays; failed: it is in force,
    but not on disk. drift: someone else had changed the file. failures: of writing, one a file.
    """

    effective: Literal["refused", "failed", "unchanged", "written"]
    drift: bool = False
    failures: int = 0


class Store:
    """Places decisions, in shadow mode only the state. What it shows changes in place() alone.

    Not thread-safe: its owner holds a lock.
    """

    def __init__(
        self, configs: Configs, state_path: Path, state: State, clock: Clock, *, shadow: bool
    ) -> None:
        self.configs = configs
        self.state_path = state_path
        self.clock = clock
        self.shadow = shadow
        self.problems: dict[str, str] = {}  # by step: what failed last time
        self.applied_at: float | None = None
        self.state = state
        self.in_force = in_force(state, configs.ladder, clock.now())
        self.effective, _ = configs.rendered(self.in_force)
        self._saved: State | None = None
        self._written: bytes | None = None

    @property
    def document(self) -> Document:
        """What /config serves: the effective config, in shadow mode the baseline."""
        return self.configs.baseline if self.shadow else self.effective.document

    @property
    def ok(self) -> bool:
        """Whether state and effective config are on disk as decided."""
        return not self.problems

    def look(self) -> Look:
        """Read the effective file: before the lock is taken, because a disk may hang."""
        return Look(self._written, None if self.shadow else self.configs.on_disk())

    def place(self, state: State, look: Look) -> Placement:
        """Make a decision durable and put it in force. What failed is in problems, too."""
        new = in_force(state, self.configs.ladder, self.clock.now())
        saved = self._save(state)
        if not saved and self._lowers(new):
            return Placement("refused", failures=1)
        self.state, self.in_force = state, new  # a raise protects even if it cannot be remembered
        self.effective, content = self.configs.rendered(new)
        if self.shadow:
            return Placement("unchanged", failures=int(not saved))
        return self._write(content, look, failures=int(not saved))

    def _lowers(self, new: InForce) -> bool:
        rank = self.configs.ladder.rank
        fewer = not set(new.tunings) >= set(self.in_force.tunings)
        return fewer or rank(new.level) < rank(self.in_force.level)

    def _save(self, state: State) -> bool:
        """The state file, without what starts anew after a restart: how long evidence is clear."""
        state = copy_of(state)
        for active in actives(state):
            active.restart_hold()
        if state == self._saved and self.state_path.is_file():
            return True
        try:
            save_state(self.state_path, state)
        except OSError as error:
            self._saved = None
            self._failed("state", self.state_path, error)
            return False
        self._saved = state
        self.problems.pop("state", None)
        return True

    def _write(self, content: bytes, look: Look, failures: int) -> Placement:
        """The effective file, put back when someone else changed it."""
        path = self.configs.effective_path
        # Another thread has written since the look: then the file is what that one wrote.
        on_disk = look.content if look.written is self._written else self._written
        drift = self._written is not None and on_disk not in (content, self._written)
        if drift:
            log.warning("%s was changed by someone else; putting it back", path)
        if on_disk != content:
            try:
                self.configs.write(content)
            except OSError as error:
                self._failed("effective", path, error)
                return Placement("failed", drift, failures + 1)
            self.applied_at = self.clock.now()
        self._written = content
        self.problems.pop("effective", None)
        return Placement("unchanged" if on_disk == content else "written", drift, failures)

    def _failed(self, step: str, path: Path, error: OSError) -> None:
        sentence = f"cannot write {path}: {error.strerror}"
        if self.problems.get(step) != sentence:
            log.error("%s", sentence)
        self.problems[step] = sentence
