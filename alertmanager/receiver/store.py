"""State and effective config, kept in step on disk: state first, so that a crash between the two
repeats the last decision and never forgets it."""

import logging
from dataclasses import dataclass
from pathlib import Path

import msgspec

from alertmanager.receiver.audit import Audit, Change
from alertmanager.receiver.configs import Configs
from alertmanager.receiver.hooks import Actions, Hooks
from alertmanager.receiver.ladder.effective import Effective
from alertmanager.receiver.ladder.operations import Document
from alertmanager.receiver.metrics import Metrics
from alertmanager.receiver.precedence import in_force, level_in_force
from alertmanager.receiver.recovery import known, remembered
from alertmanager.receiver.state import State, actives, copy_of, save_state
from common.clock import Clock, iso8601

log = logging.getLogger("receiver")
DRIFT = "was changed by someone else"


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
        # why, who and said of a change not yet in place
        self._cause: tuple[str, str, str] | None = None
        self._computed: tuple[InForce, int, Effective, bytes] | None = None
        self._entries: set[str] = set()  # those that have a metric
        self._started = False  # whether a start has been told: a kill may have come before the hook
        self.state = remembered(configs, state_path, audit, shadow=shadow)
        self.shown = self._told = self.in_force(self.state)
        self.effective, _ = self._compute(self.shown)

    @property
    def document(self) -> Document:
        """What /config serves: the effective config, in shadow mode the baseline."""
        return self.configs.baseline if self.shadow else self.effective.document

    def in_force(self, state: State) -> InForce:
        """Level and tunings that a state puts in force, but for tunings that the ladder lost."""
        level = level_in_force(state, self.configs.ladder, self.clock.now())
        return InForce(
            level, tuple(known(self.configs.ladder, [*state.tunings, *state.applied_tunings]))
        )

    def commit(self, state: State, why: str, who: str = "receiver", said: str = "") -> None:
        """Make a decision durable and put it in place. What failed is in problems; see ok.

        said: a person's word, which is told even when it changes nothing yet.
        """
        new = self.in_force(state)
        if not self._save(state) and self._lowers(new):
            return  # it could not be remembered, so it is not done; a raise is done all the same
        self.state, self.shown = state, new
        self.effective, content = self._compute(new)
        self._publish()
        if said or (new != self._told and self._cause is None):
            self._cause = (why, who, said)
        outcome = "as decided" if self.shadow else self._write(content)
        changed = outcome == "written" or new != self._told or not self._started
        if outcome != "failed" and (changed or said):
            self._tell(self._told, new, *(self._cause or (why, who, said)), changed=changed)
            self._told, self._cause, self._started = new, None, True

    @property
    def ok(self) -> bool:
        """Whether state and effective config are on disk as decided."""
        return not {"state", "effective"} & set(self.problems)

    def _compute(self, new: InForce) -> tuple[Effective, bytes]:
        """The config and the file's bytes; computed anew only when something changed."""
        known = self._computed
        if known is None or known[:2] != (new, self.configs.version):
            tunings = list(new.tunings)
            config = self.configs.effective(new.level, tunings)
            content = self.configs.render(config.document, new.level, tunings)
            self._computed = known = (new, self.configs.version, config, content)
        return known[2], known[3]

    def _lowers(self, new: InForce) -> bool:
        rank = self.configs.ladder.rank
        return rank(new.level) < rank(self.shown.level) or not set(new.tunings) >= set(
            self.shown.tunings
        )

    def _save(self, state: State) -> bool:
        state = _memorable(state)
        if state == self._saved and self.state_path.exists():
            return "state" not in self.problems
        try:
            save_state(self.state_path, state)
        except OSError as error:
            self._failed("state", f"cannot write {self.state_path}: {error.strerror}")
            self._saved = None
            return False
        self._saved = state
        self.problems.pop("state", None)
        return True

    def _write(self, content: bytes) -> str:
        """The effective file, healed when someone else changed it: as decided, written, failed."""
        on_disk = self.configs.on_disk()
        if on_disk == content:
            self.problems.pop("effective", None)
            self._written = content
            self._publish_failures()
            return "as decided"
        if self._written is not None and on_disk != self._written:
            self.metrics.drift.inc()
            self._cause = self._cause or (DRIFT, "receiver", "")
            log.warning("%s %s; putting it back", self.configs.effective_path, DRIFT)
        try:
            self.configs.write(content)
        except OSError as error:
            path = self.configs.effective_path
            self._failed("effective", f"cannot write {path}: {error.strerror}")
            return "failed"
        self._written = content
        self.applied_at = self.clock.now()
        self.problems.pop("effective", None)
        self.metrics.applies.inc()
        self.metrics.last_apply.set(self.applied_at)
        self._publish_failures()
        return "written"

    def _tell(
        self, old: InForce, new: InForce, why: str, who: str, said: str, *, changed: bool
    ) -> None:
        change = Change(
            time=iso8601(self.clock.now()),
            previous=old.level,
            level=new.level,
            tunings=list(new.tunings),
            why=why,
            who=who,
            alerts=sorted({claim.alert or claim.entry for claim in self.state.claims.values()}),
            shadow=self.shadow,
            said=said,
        )
        words = f"{said}: {why}" if said else why
        log.info(
            "level %s -> %s, tunings %s: %s (%s)", old.level, new.level, new.tunings, words, who
        )
        self.audit.record(change)
        if self.shadow or not changed:
            return
        ladder, actions, facts = self.configs.ladder, Actions(), msgspec.to_builtins(change)
        if ladder.hook:
            actions["hook"] = (ladder.hook, facts)
        if ladder.verify and new.level == ladder.names[-1] != old.level:
            actions["verify"] = (ladder.verify, facts)
        self.hooks.submit(actions)

    def retry_hooks(self) -> None:
        """A hook that failed leaves the scraper with an old config: it is run again."""
        ladder = self.configs.ladder
        self.hooks.retry({"hook": ladder.hook, "verify": ladder.verify})

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
        for level in ladder.names[1:]:
            metrics.rank.labels(level).set(ladder.rank(level))
            metrics.active.labels(level).set(int(ladder.rank(level) <= rank))
        for entry in self._entries - set(self.shown.tunings):
            metrics.active.remove(entry)
        for entry in self.shown.tunings:
            metrics.active.labels(entry).set(1)
        self._entries = set(self.shown.tunings)
        override = in_force(self.state.override, self.clock.now())
        for mode in ("degrade", "pin"):
            metrics.override.labels(mode).set(int(override is not None and override.mode == mode))


def _memorable(state: State) -> State:
    """A state without what starts anew after a restart: how long evidence has been clear."""
    copy = copy_of(state)
    for active in actives(copy):
        active.clear_since = active.clear_seen = None
    return copy
