"""Tells others what was put in place: logs and counters, the audit trail, the hooks."""

import logging
from collections import Counter
from typing import Literal, NamedTuple

import msgspec

from alertmanager.receiver.audit import Audit, Change
from alertmanager.receiver.decide import Hold
from alertmanager.receiver.hooks import Hooks, HookStep
from alertmanager.receiver.state import InForce
from alertmanager.receiver.store import Placement, Store
from common import names
from common.clock import Clock, iso8601

log = logging.getLogger("receiver")
NotificationResult = Literal["applied", "refused", "failed"]


class Cause(NamedTuple):
    """Why a decision was made, by whom, and what a person asked for, which is always told."""

    why: str
    who: str = "receiver"
    request: str = ""


class Announcer:
    """The only one that counts, writes the audit trail and runs hooks; it only reads the store."""

    def __init__(self, store: Store, audit: Audit, clock: Clock) -> None:
        self.audit = audit
        self.counts: Counter[tuple[str, str]] = Counter()  # by the metric's name, its label's value
        self.failing: dict[HookStep, str] = {}  # those that failed last time, in a sentence
        self.holds: list[Hold] = []  # of the last round
        self.watchdog_at = self.config_read_at = 0.0
        self._store = store
        self._clock = clock
        self.hooks = Hooks(lambda step: getattr(store.configs.ladder, step), self._hook_ran)
        self._told = (store.in_force, store.state.level)
        self._told_start = False  # a kill may have come before the hook of the last change
        self._cause: Cause | None = None  # of a change that is not yet in place

    def announce(self, placed: Placement, cause: Cause) -> None:
        """Tell what became of a decision; trail and hooks only what is on disk."""
        self.counts[names.DEGRADATION_APPLY_FAILURES, ""] += placed.failures
        self.counts[names.DEGRADATION_CONFIG_DRIFT, ""] += placed.drift
        self.counts[names.DEGRADATION_APPLIES, ""] += placed.effective == "written"
        if placed.effective == "refused":
            return
        new = (self._store.in_force, self._store.state.level)
        if cause.request or (new != self._told and self._cause is None):
            self._cause = cause
        if placed.drift and self._cause is None:
            self._cause = Cause("was changed by someone else")
        changed = placed.effective == "written" or new[0] != self._told[0] or not self._told_start
        if placed.effective != "failed" and (changed or new != self._told or cause.request):
            self._record(self._told[0], new[0], self._cause or cause, changed=changed)
            self._told, self._cause, self._told_start = new, None, True

    def announce_holds(self, holds: list[Hold]) -> None:
        """Count every round's; log only what is new."""
        known = {(hold.entry, hold.reason) for hold in self.holds}
        for hold in holds:
            self.counts[names.DEGRADATION_HOLDS, hold.reason] += 1
            if (hold.entry, hold.reason) not in known:
                log.info("%s is not lowered (%s): %s", hold.entry, hold.reason, hold.detail)
        self.holds = holds

    def _record(self, old: InForce, new: InForce, cause: Cause, *, changed: bool) -> None:
        state = self._store.state
        change = Change(
            time=iso8601(self._clock.now()),
            previous=old.level,
            level=new.level,
            tunings=list(new.tunings),
            why=cause.why,
            who=cause.who,
            alerts=sorted({claim.alert or claim.entry for claim in state.claims.values()}),
            shadow=self._store.shadow,
            request=cause.request,
            asked=state.level,
            override=msgspec.to_builtins(state.override),
            ledgers={ledger: seen.day for ledger, seen in state.ledgers.items()},
        )
        why = ": ".join(filter(None, (cause.request, cause.why)))
        levels, tunings = f"{old.level} -> {new.level}", ", ".join(new.tunings) or "none"
        log.info("level %s, tunings %s: %s (%s)", levels, tunings, why, cause.who)
        self.audit.record(change)
        if changed and not self._store.shadow:
            last = self._store.configs.ladder.names[-1]
            verify: list[HookStep] = ["verify"] if new.level == last != old.level else []
            self.hooks.submit(["hook", *verify], msgspec.to_builtins(change))

    def _hook_ran(self, step: HookStep, problem: str | None) -> None:
        if problem is None:
            self.failing.pop(step, None)
            return
        log.error("%s failed: %s", step, problem)
        self.failing[step] = problem
        self.counts[names.DEGRADATION_HOOK_FAILURES, ""] += 1
