"""Applies webhooks, rounds and overrides, one change at a time."""

import logging
import threading
from pathlib import Path
from typing import Any

from alertmanager.receiver import ledgers
from alertmanager.receiver.alerts import Notification, forget_old_resolves, note_alert
from alertmanager.receiver.announcer import Announcer, Cause
from alertmanager.receiver.audit import Audit
from alertmanager.receiver.configs import Configs
from alertmanager.receiver.decide import MAX_TUNINGS, decide, raised
from alertmanager.receiver.evidence.observations import HoldReason, Observations
from alertmanager.receiver.evidence.sources import Sources
from alertmanager.receiver.overrides import OverrideRequest, apply_request
from alertmanager.receiver.recovery import remembered
from alertmanager.receiver.state import State, copy_of, current_override
from alertmanager.receiver.store import Look, Store
from common.clock import Clock, iso8601
from common.http import HttpError

log = logging.getLogger("receiver")
STALE_ROUND_SECONDS = 30.0  # rounds come every two seconds; without them nothing converges
SETTLED: set[HoldReason] = {"hold", "wanted"}  # evidence speaks, for lowering or against it


class ApplyError(HttpError):
    """The decision is not in place; Alertmanager must try again."""

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__(503, "; ".join(problems.values()))


class Controller:
    """Builds the receiver's parts; every change goes through here, one at a time."""

    def __init__(
        self,
        configs: Configs,
        state_path: Path,
        sources: Sources,
        clock: Clock,
        *,
        hold_seconds: float,
        shadow: bool,
    ) -> None:
        """Go on from the state file, or what is left of it; the audit trail lies beside it."""
        audit = Audit(state_path.with_name(f"{state_path.stem}.audit.jsonl"))
        state = remembered(configs, state_path, audit, shadow=shadow, now=clock.now())
        self.store = Store(configs, state_path, state, clock, shadow=shadow)
        self.announcer = Announcer(self.store, audit, clock)
        self.sources = sources
        self.clock = clock
        self.hold_seconds = hold_seconds
        self.observed = Observations()
        self.reconciled_at: float | None = None
        self._started_at = clock.now()
        self.lock = threading.Lock()
        look = self.store.look()
        with self.lock:
            found = "; ".join(filter(None, (state.recovered, state.lost)))
            self._commit(state, look, Cause(found or "start"))

    def notify(self, notification: Notification) -> None:
        """Take a webhook in. Raises ApplyError unless all it asks for is durably in place."""
        look = self.store.look()
        with self.lock:
            state, ladder = copy_of(self.store.state), self.store.configs.ladder
            now, can_confirm = self.clock.now(), self.sources.can_confirm
            for alert in notification.alerts:
                note_alert(state, alert, ladder, now, can_confirm)
            if notification.truncated_alerts:
                log.warning("Alertmanager cut off %d alerts", notification.truncated_alerts)
            state = raised(state, ladder, now, self.observed.latest_day())
            self._commit(state, look, Cause("alert"), must=True)

    def override(self, request: OverrideRequest) -> None:
        """Do what a person asks. Raises UserError, ApplyError."""
        look = self.store.look()
        with self.lock:
            state = copy_of(self.store.state)
            now, configs = self.clock.now(), self.store.configs
            summary = apply_request(request, state, configs, now, self.observed)
            state.lost = ""
            self._commit(state, look, Cause(request.reason, request.author, summary), must=True)

    def reconcile(self) -> None:
        """One round: ask all sources, decide, put in place, restore what others changed."""
        observed, edit = self.sources.ask(), self.store.configs.read_edit()
        look = self.store.look()
        with self.lock:
            edited = self.store.configs.adopt(edit)
            self.observed = observed
            now, ladder = self.clock.now(), self.store.configs.ladder
            decision = decide(self.store.state, observed, ladder, self.hold_seconds, now)
            state, cause = decision.state, Cause("evidence")
            forget_old_resolves(state, now)
            if not observed.unanswered() and {hold.reason for hold in decision.holds} <= SETTLED:
                state.recovered = ""
            if state.override and not current_override(state, now):
                state.override, cause = None, Cause("the override's time is over")
            self.announcer.announce_holds(decision.holds)
            self._commit(state, look, Cause("config edited") if edited else cause)
            self.reconciled_at = now

    @property
    def last_round_at(self) -> float:
        """When a round ended last; before the first one the start."""
        return self._started_at if self.reconciled_at is None else self.reconciled_at

    @property
    def refused_tunings(self) -> int:
        """How many tunings are asked for beyond the bound on those that are kept."""
        state = self.store.state
        claimed = state.claimed() | self.observed.claimed()
        return len(claimed - set(self.store.configs.ladder.names) - set(state.tunings))

    def failures(self) -> dict[str, str]:
        """What keeps protection from being as decided: lost state, failed writes, no rounds."""
        found = {"state": self.store.state.recovered} if self.store.state.recovered else {}
        found |= self.store.problems
        last = self.last_round_at
        if abs(self.clock.now() - last) > STALE_ROUND_SECONDS:
            found["rounds"] = f"no round of reconciling has ended since {iso8601(last)}"
        ruler = self.observed.slowest_ruler()
        if self.hold_seconds < ruler.least_hold:
            found["hold"] = (
                f"--hold {self.hold_seconds:g} is below three intervals (of evaluation "
                f"{3 * ruler.interval:g} s, of scrapes {ruler.scrapes:.0f} s) and the ruler's "
                f"delay, {ruler.delay:g} s: lowering waits for {ruler.least_hold:.0f} s"
            )
        return found

    def problems(self) -> dict[str, str]:
        """All that somebody should mend, by what it is about; the failures among it."""
        state, announcer, count = self.store.state, self.announcer, self.refused_tunings
        refused = f"{count} tunings are asked for beyond the {MAX_TUNINGS:,} that are kept"
        found: dict[str, Any] = {
            "override": state.lost,
            "audit": announcer.audit.problem,
            "tunings": count and refused,
            "exporters": self.observed.disagreement(),
            **{str(step): sentence for step, sentence in announcer.failing.items()},
            **self.store.configs.problems(),
            **ledgers.problems(state, self.observed),
            **{
                f"ruler of {one.url}": one.ruler.problem()
                for one in self.observed.answered_prometheuses()
            },
            **self.failures(),
        }
        return {about: sentence for about, sentence in found.items() if sentence}

    def close(self) -> None:
        """Leave sources that hang; run the hooks that wait, for a few seconds."""
        self.sources.close()
        self.announcer.close()

    def _commit(self, state: State, look: Look, cause: Cause, *, must: bool = False) -> None:
        """Place a decision and announce it. must: raises ApplyError unless it is on disk."""
        self.announcer.announce(self.store.place(state, look), cause)
        if must and not self.store.ok:
            raise ApplyError(self.store.problems)
