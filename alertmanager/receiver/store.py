"""State and effective config on disk: what to go on with at a start, and each decision in place.

State first, so that a crash between the two repeats the last decision and never forgets it.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from alertmanager.receiver.audit import Audit, Change
from alertmanager.receiver.configs import Configs
from alertmanager.receiver.ladder.ladder import NONE, Ladder, name_of
from alertmanager.receiver.state import Active, InForce, Override, SeenLedger, State, load_state
from common.clock import Clock
from common.errors import UserError

log = logging.getLogger("receiver")
UNTOLD = "a person's override, if there was one, is lost; ask for it again"


class Look(NamedTuple):
    """The effective file as it was before a lock was taken, and what had been written by then."""

    written: bytes | None
    content: bytes | None


class Placement(NamedTuple):
    """What became of a decision."""

    # refused: it would lower and cannot be remembered, so the last one stays; failed: it is in
    # force, but not on disk.
    effective: Literal["refused", "failed", "unchanged", "written"]
    drift: bool = False  # someone else had changed the file
    failures: int = 0  # of writing, one a file


@dataclass
class Store:
    """Places decisions, in shadow mode only the state. What it shows changes in place() alone.

    Not thread-safe: its owner holds a lock.
    """

    configs: Configs
    state_path: Path
    state: State
    clock: Clock
    shadow: bool
    problems: dict[str, str] = field(default_factory=dict)  # by step; empty: all is on disk
    applied_at: float | None = None
    _saved: State | None = None
    _written: bytes | None = None

    def __post_init__(self) -> None:
        self.in_force = self.state.in_force(self.configs.ladder, self.clock.now())
        self.effective, _ = self.configs.rendered(self.in_force)

    def look(self) -> Look:
        """Read the effective file: before the lock is taken, because a disk may hang."""
        return Look(self._written, None if self.shadow else self.configs.on_disk())

    def place(self, state: State, look: Look) -> Placement:
        """Make a decision durable and put it in force. What failed is in problems, too."""
        new = state.in_force(self.configs.ladder, self.clock.now())
        kept = state.copy()
        for active in kept.actives():
            active.restart_hold()  # how long evidence is clear starts anew after a restart
        same = kept == self._saved and self.state_path.is_file()
        saved = same or self._done("state", self.state_path, partial(kept.save, self.state_path))
        self._saved, failures = kept if saved else None, int(not saved)
        if failures and self._lowers(new):
            return Placement("refused", failures=failures)
        self.state, self.in_force = state, new  # a raise protects even if it cannot be remembered
        self.effective, content = self.configs.rendered(new)
        if self.shadow:
            return Placement("unchanged", failures=failures)
        path = self.configs.effective_path
        # Another thread has written since the look: then the file is what that one wrote.
        on_disk = look.content if look.written is self._written else self._written
        drift = self._written is not None and on_disk not in (content, self._written)
        if drift:
            log.warning("%s was changed by someone else; putting it back", path)
        if on_disk == content:
            self._written = content
            self.problems.pop("effective", None)
            return Placement("unchanged", drift, failures)
        if not self._done("effective", path, partial(self.configs.write, content)):
            return Placement("failed", drift, failures + 1)
        self._written, self.applied_at = content, self.clock.now()
        return Placement("written", drift, failures)

    def _lowers(self, new: InForce) -> bool:
        rank = self.configs.ladder.rank
        fewer = not set(new.tunings) >= set(self.in_force.tunings)
        return fewer or rank(new.level) < rank(self.in_force.level)

    def _done(self, step: str, path: Path, write: Callable[[], None]) -> bool:
        """Whether writing a file succeeded; if not, problems says why."""
        try:
            write()
        except OSError as error:
            sentence = f"cannot write {path}: {error.strerror}"
            if self.problems.get(step) != sentence:
                log.error("%s", sentence)
            self.problems[step] = sentence
            return False
        self.problems.pop(step, None)
        return True


def remembered(configs: Configs, path: Path, audit: Audit, *, shadow: bool, now: float) -> State:
    """The state file's; else what audit trail and effective file show, the stricter of both.

    A file of before there was a checksum counts, too, unless these two show more, or the trail was
    written since; when neither of them tells, it must name its level.
    """
    ladder, loaded, problem = configs.ladder, None, f"there is no state file {path}"
    first = not (os.path.lexists(path) or audit.exists)
    try:
        loaded = load_state(path, ladder)
    except UserError as error:
        problem = str(error)
    saved, sealed, names_level = loaded or (None, False, False)
    if saved and sealed:
        return saved
    last = audit.newest()
    last = last if last and last.level in ladder.names else None
    tunings = ladder.known_tunings(last.tunings) if last else ()
    shown = None if shadow else configs.level_on_disk(tunings)
    levels = [level for level in (shown, last and last.level) if level]
    if saved:
        state = saved.copy()
        _raise_to(state, levels, tunings, ladder, now)
        if (levels or names_level) and not (last and last.asked) and state == saved:
            return state
        problem = f"the state file {path} has no checksum and is not what was in force"
    if shown is None and not shadow and os.path.lexists(configs.effective_path):
        levels.append(ladder.names[-1])  # somebody else's: it may stand for anything of ours
    unknown = NONE if first else ladder.names[-1]
    state, untold = _told_by(last, ladder)
    lost = _raise_to(state, levels or [unknown], tunings, ladder, now) or untold
    if first and state == State():
        return state
    level = state.in_force(ladder, now).level
    state.recovered = f"{problem}; going on with level {level} until evidence confirms or clears it"
    state.lost = "" if first else lost
    log.warning("%s", "; ".join(filter(None, (state.recovered, state.lost))))
    return state


def _told_by(last: Change | None, ladder: Ladder) -> tuple[State, str]:
    """The state that the trail's last line tells, and what it does not tell, in a sentence."""
    state = State()
    if last is None:
        return state, UNTOLD
    state.ledgers = {ledger: SeenLedger(day) for ledger, day in last.ledgers.items()}
    if last.asked not in ladder.names:
        return state, UNTOLD
    state.level = last.asked
    try:
        override = msgspec.convert(last.override, Override | None)
        ladder.rank(override.level if override else NONE)
    except (msgspec.ValidationError, UserError):
        return state, UNTOLD
    state.override = override
    return state, ""


def _raise_to(
    state: State, levels: list[str], tunings: tuple[str, ...], ladder: Ladder, now: float
) -> str:
    """Make it show at least these; a pin that shows less has to go, and is named in a sentence."""
    for entry in tunings:
        if name_of(entry) in ladder.automatic:
            state.tunings.setdefault(entry, Active())
        elif entry not in state.applied_tunings:
            state.applied_tunings.append(entry)
    highest = max(levels, key=ladder.rank, default=NONE)
    if ladder.rank(state.in_force(ladder, now).level) >= ladder.rank(highest):
        return ""
    state.level = max(state.level, highest, key=ladder.rank)
    override = state.current_override(now)
    if override is None or override.mode != "pin":
        return ""
    state.override = None
    return f"{override.author}'s pin to {override.level} is lost: more than that was in force"
