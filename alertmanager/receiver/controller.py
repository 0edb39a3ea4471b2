"""The receiver's heart: webhooks raise at once, rounds of evidence raise and lower."""

import logging
import threading

from alertmanager.receiver.decide import Hold, decide, raised
from alertmanager.receiver.entries import MAX_SCOPE_LENGTH, asks, entry_of, kind
from alertmanager.receiver.evidence.observations import Seen
from alertmanager.receiver.evidence.sources import Sources
from alertmanager.receiver.ladder.ladder import NONE
from alertmanager.receiver.metrics import Metrics
from alertmanager.receiver.precedence import in_force
from alertmanager.receiver.state import Claim, Override, State, copy_of
from alertmanager.receiver.store import Store
from alertmanager.receiver.webhook import Alert, Notification, identity, unix
from common.clock import Clock, iso8601
from common.errors import UserError

log = logging.getLogger("receiver")
MAX_CLAIMS = 10_000
MAX_NAME_LENGTH = 100  # of an alert's name, as it is remembered
STALE_ROUND_SECONDS = 30.0  # rounds come every two seconds; without them nothing converges
RESOLVED_KEPT_SECONDS = 26 * 3600.0  # an alert's longest life: what the rules hold


class ApplyError(Exception):
    """The decision is not in place; Alertmanager must try again."""


class Controller:
    """Every change goes through here, one at a time."""

    def __init__(
        self, store: Store, sources: Sources, clock: Clock, metrics: Metrics, hold_seconds: float
    ) -> None:
        self.store = store
        self.sources = sources
        self.clock = clock
        self.metrics = metrics
        self.hold_seconds = hold_seconds
        self.seen = Seen()
        self.holds: list[Hold] = []
        self.reconciled_at: float | None = None
        self._started_at = clock.now()
        self.lock = threading.Lock()
        metrics.hold.set(hold_seconds)
        metrics.last_round.set(self._started_at)
        metrics.shadow.set(int(store.shadow))
        with self.lock:
            store.commit(store.state, "start")

    def notify(self, notification: Notification) -> None:
        """Take a webhook in. Raises ApplyError unless all it asks for is durably in place."""
        with self.lock:
            state = copy_of(self.store.state)
            for alert in notification.alerts:
                self._note(state, alert)
            if notification.truncated_alerts:
                log.warning("Alertmanager cut off %d alerts", notification.truncated_alerts)
            day = self.seen.latest_day()
            state = raised(state, self.store.configs.ladder, self.clock.now(), day)
            self.store.commit(state, "alert")
            if not self.store.ok:
                raise ApplyError("; ".join(self.store.problems.values()))

    def reconcile(self) -> None:
        """One round: ask everyone, decide, put in place, heal."""
        seen = self.sources.ask()
        with self.lock:
            refreshed = self.store.configs.refresh()
            self.metrics.config_ok.set(int(self.store.configs.problem is None))
            self.seen = seen
            now = self.clock.now()
            ladder = self.store.configs.ladder
            decision = decide(self.store.state, seen, ladder, self.hold_seconds, now)
            state = decision.state
            _forget(state, now)
            why = "evidence"
            if state.override and not in_force(state.override, now):
                state.override, why = None, "the override's time is over"
            self._note_holds(decision.holds)
            self.store.commit(state, "config edited" if refreshed else why)
            self.store.retry_hooks()
            self.reconciled_at = now
            self.metrics.last_round.set(now)

    def problems(self) -> dict[str, str]:
        """What is not as it should be: writing failed, or no round has ended for a while."""
        found = dict(self.store.problems)
        last = self.reconciled_at or self._started_at
        if abs(self.clock.now() - last) > STALE_ROUND_SECONDS:
            found["rounds"] = f"no round of reconciling has ended since {iso8601(last)}"
        return found

    def override(self, override: Override | None, who: str, why: str) -> None:
        """Set or end a person's word. Raises UserError, ApplyError."""
        with self.lock:
            state = copy_of(self.store.state)
            if override is not None:
                self.store.configs.ladder.rank(override.level)
            state.override = override
            self._commit_for_person(state, who, why, _words(override))

    def tune(self, entry: str, *, apply: bool, who: str, why: str) -> None:
        """Apply or release a tuning for a person. Raises UserError, ApplyError."""
        name, _, scope = entry.partition("/")
        with self.lock:
            tuning = self.store.configs.ladder.tuning(name)
            if bool(scope) != (tuning.scope is not None) or len(scope) > MAX_SCOPE_LENGTH:
                wanted = f"{name}/{tuning.scope.upper()}" if tuning.scope else name
                raise UserError(f"the tuning is written {wanted}, not {entry[:300]!r}")
            if apply:
                if tuning.automatic:
                    raise UserError(f"{name} follows its alert; people cannot apply it")
                self._need_an_effect(entry)
            state = copy_of(self.store.state)
            tunings = set(state.applied_tunings) - {entry} | ({entry} if apply else set())
            state.applied_tunings = sorted(tunings)
            said = f"{'apply' if apply else 'release'} {entry}"
            self._commit_for_person(state, who, why, said)

    def _need_an_effect(self, entry: str) -> None:
        config = self.store.configs.effective(NONE, [entry])
        if config.no_ops and config.document == self.store.configs.baseline:
            raise UserError(f"the baseline has nothing for {entry}: no {', '.join(config.no_ops)}")

    def _commit_for_person(self, state: State, who: str, why: str, said: str) -> None:
        self.store.commit(state, why, who, said)
        if not self.store.ok:
            raise ApplyError("; ".join(self.store.problems.values()))

    def _note(self, state: State, alert: Alert) -> None:
        """Remember what one alert of a webhook says."""
        entry = entry_of(alert.labels, self.store.configs.ladder)
        if entry is None:
            if asks(alert.labels):
                log.warning("an alert asks for a level or tuning that the ladder does not have")
            return
        who, now = identity(alert), self.clock.now()
        if alert.status == "resolved":
            ended = unix(alert.ends_at) or now
            if who in state.claims and state.claims[who].starts_at <= ended:
                del state.claims[who]  # else it fired again since
            state.resolved[who] = max(ended, state.resolved.get(who, 0.0))
            return
        started = unix(alert.starts_at)
        if started <= state.resolved.get(who, -1.0) and self.sources.can_confirm:
            return  # a late repeat of what has ended; if it is not, the APIs say so
        if who not in state.claims and len(state.claims) >= MAX_CLAIMS:
            who = f"one of more than {MAX_CLAIMS} that ask for {kind(entry)}"
        name = alert.labels.get("alertname", "")[:MAX_NAME_LENGTH]
        state.claims[who] = Claim(entry, started, now, name)

    def _note_holds(self, holds: list[Hold]) -> None:
        """Count every round; log only what is new."""
        known = {(hold.entry, hold.reason) for hold in self.holds}
        for hold in holds:
            self.metrics.holds.labels(hold.reason).inc()
            if (hold.entry, hold.reason) not in known:
                log.info("%s is not lowered (%s): %s", hold.entry, hold.reason, hold.detail)
        self.holds = holds


def _words(override: Override | None) -> str:
    if override is None:
        return "release"
    end = f" until {iso8601(override.until)}" if override.until else ""
    return f"{override.mode} {override.level}{end}"


def _forget(state: State, now: float) -> None:
    """Drop resolves so old that no alert from before them can still be firing."""
    for who, ended in list(state.resolved.items()):
        if ended < now - RESOLVED_KEPT_SECONDS:
            del state.resolved[who]
    excess = len(state.resolved) - MAX_CLAIMS
    for who in sorted(state.resolved, key=state.resolved.__getitem__)[: max(0, excess)]:
        del state.resolved[who]
