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
from alertmanager.receiver.state import State
from alertmanager.receiver.store import Look, Store, remembered
from common.clock import Clock, iso8601
from common.http import HttpError

log = logging.getLogger("receiver")
STALE_ROUND_SECONDS = 30.0  # rounds come every two seconds; without them nothing converges
SETTLED: set[HoldReason] = {"hold", "wanted"}  # evidence speaks, for lowering or against it


class ApplyError(HttpError):
    """The decision is not in place; Alertmanager must try again."""


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
        self.last_round_at = clock.now()  # when a round ended; before the first one the start
        self.lock = threading.Lock()
        look = self.store.look()
        with self.lock:
            found = "; ".join(filter(None, (state.recovered, state.lost)))
            self._commit(state, look, Cause(found or "start"))

    def notify(self, notification: Notification) -> None:
        """Take a webhook in. Raises ApplyError unless all it asks for is durably in place."""
        look = self.store.look()
        with self.lock:
            state, ladder = self.store.state.copy(), self.store.configs.ladder
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
            state = self.store.state.copy()
            now, configs = self.clock.now(), self.store.configs
            summary = apply_request(request, state, configs, now, self.observed)
            state.lost = ""
            self._commit(state, look, Cause(request.reason, request.author, summary), must=True)

    def reconcile(self) -> None:
        """One round: ask all sources, decide, put in place, restore what others changed."""
        observed, edit = self.sources.ask(), self.store.configs.read_edit()
        look = self.store.look()
        with self.lock:
            cause = Cause("evidence")
            self.observed = observed
            if edit:
                self.store.configs.adopt(edit)
            now, ladder = self.clock.now(), self.store.configs.ladder
            state, holds = decide(self.store.state, observed, ladder, self.hold_seconds, now)
            forget_old_resolves(state, now)
            if not observed.unanswered() and {hold.reason for hold in holds} <= SETTLED:
                state.recovered = ""
            if state.override and not state.current_override(now):
                state.override, cause = None, Cause("the override's time is over")
            self.announcer.announce_holds(holds)
            self._commit(state, look, Cause("config edited") if edit else cause)
            self.reconciled_at = self.last_round_at = now

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
        last, ruler = self.last_round_at, self.observed.slowest_ruler()
        if abs(self.clock.now() - last) > STALE_ROUND_SECONDS:
            found["rounds"] = f"no round of reconciling has ended since {iso8601(last)}"
        if self.hold_seconds < ruler.least_hold:
            found["hold"] = (
                f"--hold {self.hold_seconds:g} is below three intervals (of evaluation "
                f"{3 * ruler.interval:g} s, of scrapes {ruler.scrapes:.0f} s) and the ruler's "
                f"delay, {ruler.delay:g} s: lowering waits for {ruler.least_hold:.0f} s"
            )
        return found

    def problems(self) -> dict[str, str]:
        """All that somebody should mend, by what it is about; the failures among it."""
        state, announcer, configs = self.store.state, self.announcer, self.store.configs
        count = self.refused_tunings
        refused = f"{count} tunings are asked for beyond the {MAX_TUNINGS:,} that are kept"
        found: dict[str, Any] = {
            "override": state.lost,
            "audit": announcer.audit.problem,
            "tunings": count and refused,
            "exporters": self.observed.disagreement(),
            **{str(step): sentence for step, sentence in announcer.failing.items()},
            "config": configs.problem,
            "ladder": "; ".join(configs.faults),
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
        self.announcer.hooks.close()

    def _commit(self, state: State, look: Look, cause: Cause, *, must: bool = False) -> None:
        """Place a decision and announce it. must: raises ApplyError unless it is on disk."""
        self.announcer.announce(self.store.place(state, look), cause)
        if must and self.store.problems:
            raise ApplyError(503, "; ".join(self.store.problems.values()))
