"""Applies webhooks, rounds and overrides, one change at a time."""

import logging
import threading
from pathlib import Path

from alertmanager.receiver.alerts import Notification, forget_old_resolves, note_alert
from alertmanager.receiver.announcer import Announcer, Cause
from alertmanager.receiver.audit import Audit
from alertmanager.receiver.configs import Configs
from alertmanager.receiver.decide import decide, raised
from alertmanager.receiver.evidence.observations import Observations
from alertmanager.receiver.evidence.sources import Sources
from alertmanager.receiver.overrides import OverrideRequest, apply_request
from alertmanager.receiver.recovery import remembered
from alertmanager.receiver.state import State, copy_of, current_override
from alertmanager.receiver.store import Look, Store
from common.clock import Clock, iso8601
from common.http import HttpError

log = logging.getLogger("receiver")
STALE_ROUND_SECONDS = 30.0  # rounds come every two seconds; without them nothing converges


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
        state = remembered(configs, state_path, audit, shadow=shadow)
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
            self._commit(state, look, Cause("start"))

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
            summary = apply_request(request, state, self.store.configs, self.clock.now())
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
            if state.override and not current_override(state, now):
                state.override, cause = None, Cause("the override's time is over")
            self.announcer.announce_holds(decision.holds)
            self._commit(state, look, Cause("config edited") if edited else cause)
            self.reconciled_at = now

    @property
    def last_round_at(self) -> float:
        """When a round ended last; before the first one the start."""
        return self._started_at if self.reconciled_at is None else self.reconciled_at

    def problems(self) -> dict[str, str]:
        """What is not as it should be: writing failed, or no round has ended for a while."""
        found = dict(self.store.problems)
        last = self.last_round_at
        if abs(self.clock.now() - last) > STALE_ROUND_SECONDS:
            found["rounds"] = f"no round of reconciling has ended since {iso8601(last)}"
        return found

    def close(self) -> None:
        """Leave sources that hang; run the hooks that wait, for a few seconds."""
        self.sources.close()
        self.announcer.close()

    def _commit(self, state: State, look: Look, cause: Cause, *, must: bool = False) -> None:
        """Place a decision and announce it. must: raises ApplyError unless it is on disk."""
        self.announcer.announce(self.store.place(state, look), cause)
        if must and not self.store.ok:
            raise ApplyError(self.store.problems)
