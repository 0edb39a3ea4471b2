"""State and effective config, kept in step on disk: state first, so that a crash between the two
repeats the last decision and never forgets it."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alertmanager.receiver.audit import Audit
from alertmanager.receiver.configs import Configs
from alertmanager.receiver.decide import in_force, level_in_force
from alertmanager.receiver.entries import kind
from alertmanager.receiver.hooks import Hooks
from alertmanager.receiver.ladder import NONE, Action
from alertmanager.receiver.metrics import Metrics
from alertmanager.receiver.operations import Document
from alertmanager.receiver.state import CorruptStateError, State, copy_of, load_state, save_state
from exporter.core.clock import Clock, iso8601

log = logging.getLogger("receiver")


@dataclass(frozen=True)
class InForce:
    """What the effective config shows."""

    level: str
    tunings: tuple[str, ...] = ()


class Store:
    """Puts decisions in place. Not thread-safe: its owner holds a lock."""

    def __init__(
        self,
        configs: Configs,
        state_path: Path,
        audit: Audit,
        hooks: Hooks,
        metrics: Metrics,
        clock: Clock,
        *,
        shadow: bool,
    ) -> None:
        self.configs = configs
        self.state_path = state_path
        self.audit = audit
        self.hooks = hooks
        self.metrics = metrics
        self.clock = clock
        self.shadow = shadow
        self.problems: dict[str, str] = {}  # by step: what failed last time
        self.applied_at: float | None = None
        self._written: bytes | None = None
        self._saved: State | None = None
        self.state = self._remembered()
        self.shown = self.in_force(self.state)
        self.effective = configs.effective(self.shown.level, list(self.shown.tunings))

    @property
    def document(self) -> Document:
        """What /config serves: the effective config, in shadow mode the baseline."""
        return self.configs.baseline if self.shadow else self.effective.document

    def in_force(self, state: State) -> InForce:
        """Level and tunings that a state puts in force, but for tunings that the ladder lost."""
        ladder = self.configs.ladder
        known = {tuning.tuning for tuning in ladder.tunings}
        tunings = {*state.tunings, *state.applied_tunings}
        return InForce(
            level_in_force(state, ladder, self.clock.now()),
            tuple(sorted(entry for entry in tunings if kind(entry) in known)),
        )

    def commit(self, state: State, why: str, who: str = "receiver") -> None:
        """Make a decision durable and put it in place. What failed is in problems; see ok."""
        new = self.in_force(state)
        if not self._save(state) and self._lowers(new):
            return  # it could not be remembered, so it is not done; a raise is done all the same
        self.state = state
        self.effective = self.configs.effective(new.level, list(new.tunings))
        content = self.configs.render(self.effective.document, new.level, list(new.tunings))
        changed = new != self.shown
        old, self.shown = self.shown, new
        self._publish()
        if not self._write(content):
            return
        if changed:
            self._tell(old, new, why, who)

    @property
    def ok(self) -> bool:
        """Whether state and effective config are on disk as decided."""
        return not {"state", "effective"} & set(self.problems)

    def _remembered(self) -> State:
        """The state file's, else what the effective file shows: protecting goes on."""
        names = self.configs.ladder.names
        try:
            state = load_state(self.state_path)
            if state is not None and state.level not in names:
                raise CorruptStateError(f"{self.state_path} names a level that the ladder lacks")
        except CorruptStateError as error:
            level = self.configs.level_on_disk() or names[-1]
            log.warning("%s; going on with level %s until evidence clears it", error, level)
            return State(level=level)
        if state is not None:
            return state
        level = self.configs.level_on_disk() or NONE
        if level != NONE:
            log.warning("no state file; the effective config shows level %s, going on there", level)
        return State(level=level)

    def _lowers(self, new: InForce) -> bool:
        rank = self.configs.ladder.rank
        return rank(new.level) < rank(self.shown.level) or not set(new.tunings) >= set(
            self.shown.tunings
        )

    def _save(self, state: State) -> bool:
        if self._saved is not None and _memorable(state) == _memorable(self._saved):
            return "state" not in self.problems
        try:
            save_state(self.state_path, state)
        except OSError as error:
            self._failed("state", f"cannot write {self.state_path}: {error.strerror}")
            self._saved = None
            return False
        self._saved = copy_of(state)
        self.problems.pop("state", None)
        return True

    def _write(self, content: bytes) -> bool:
        """The effective file, healed when someone else changed it; whether it is in place."""
        on_disk = self.configs.on_disk()
        if self.shadow:
            return True
        if on_disk == content:
            self.problems.pop("effective", None)
            self._written = content
            self._publish_failures()
            return True
        if self._written is not None and on_disk != self._written:
            self.metrics.drift.inc()
            log.warning(
                "%s was changed by someone else; putting it back", self.configs.effective_path
            )
        try:
            self.configs.write(content)
        except OSError as error:
            path = self.configs.effective_path
            self._failed("effective", f"cannot write {path}: {error.strerror}")
            return False
        self._written = content
        self.applied_at = self.clock.now()
        self.problems.pop("effective", None)
        self.metrics.applies.inc()
        self.metrics.last_apply.set(self.applied_at)
        self._publish_failures()
        return True

    def _tell(self, old: InForce, new: InForce, why: str, who: str) -> None:
        now = self.clock.now()
        change: dict[str, Any] = {
            "time": iso8601(now),
            "from": old.level,
            "level": new.level,
            "tunings": list(new.tunings),
            "why": why,
            "who": who,
            "alerts": sorted({claim.entry for claim in self.state.claims.values()}),
            "shadow": self.shadow,
        }
        log.info("level %s -> %s, tunings %s: %s (%s)", old.level, new.level, new.tunings, why, who)
        self.audit.record(**change)
        if self.shadow:
            return
        ladder, actions = self.configs.ladder, dict[str, tuple[Action, dict[str, Any]]]()
        if ladder.hook:
            actions["hook"] = (ladder.hook, change)
        if ladder.verify and new.level == ladder.names[-1] != old.level:
            actions["verify"] = (ladder.verify, change)
        self.hooks.submit(actions)

    def _failed(self, step: str, sentence: str) -> None:
        if self.problems.get(step) != sentence:
            log.error("%s", sentence)
        self.problems[step] = sentence
        self.metrics.apply_failures.inc()
        self._publish_failures()

    def _publish_failures(self) -> None:
        self.metrics.apply_failed.labels("write").set(int(not self.ok))

    def _publish(self) -> None:
        """Level, tunings and override as metrics."""
        ladder, metrics = self.configs.ladder, self.metrics
        rank = ladder.rank(self.shown.level)
        metrics.level.set(rank)
        metrics.active.clear()
        for level in ladder.names[1:]:
            metrics.active.labels(level).set(int(ladder.rank(level) <= rank))
        for entry in self.shown.tunings:
            metrics.active.labels(entry).set(1)
        override = in_force(self.state.override, self.clock.now())
        for mode in ("degrade", "pin"):
            metrics.override.labels(mode).set(int(override is not None and override.mode == mode))


def _memorable(state: State) -> State:
    """A state without what changes every round and may be forgotten."""
    copy = copy_of(state)
    backstop = [copy.backstop] if copy.backstop else []
    for active in (copy.active, *copy.tunings.values(), *backstop):
        active.clear_seen = None
    return copy
