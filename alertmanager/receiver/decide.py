"""Raise on any claim, lower only on evidence: the next state, a pure function of both and the last.

Raise: a webhook, an Alertmanager (active or suppressed) or a Prometheus claims it. Lower: all of
them answer and are clear, no ledger of today is away, llm_degradation_wanted is 0 and fresh, and
the hold has passed, one level at a time. At once, when every exporter has reached a later budget
day than that on which it rose, or a person has granted or written off money since it rose.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from msgspec.structs import replace

from alertmanager.receiver import ledgers
from alertmanager.receiver.evidence.observations import HoldReason, Observations
from alertmanager.receiver.ladder.ladder import NONE, Ladder
from alertmanager.receiver.state import Active, State
from common.clock import iso8601

BACKSTOP_SECONDS = 60.0  # the exporters say "exhausted" for so long and no alert came
EVIDENCE_GAP_SECONDS = 15.0  # or two evaluations: missing for longer, the hold starts anew
MAX_TUNINGS = 3_000  # two for each of the 1,000 roasters that an exporter tells apart, and fields


@dataclass(frozen=True)
class Hold:
    """Why something is not lowered. reason: a metric's label; detail: for people."""

    entry: str
    reason: HoldReason
    detail: str
    until: str = ""  # RFC 3339, when it is known


class Decision(NamedTuple):
    """The next state and what it holds on to."""

    state: State
    holds: list[Hold]


def decide(
    state: State, observed: Observations, ladder: Ladder, hold_seconds: float, now: float
) -> Decision:
    """The next state after one round of asking every source."""
    state = state.copy()
    _forget_the_future(state, now)
    waived, problems = ledgers.follow(state, observed), ledgers.problems(state, observed)
    away = "; ".join(problems[about] for about in ("ledgers", "month") if about in problems)
    complete = observed.all_exporters_answered() and state.ledgers.keys() <= observed.live_ledgers()
    complete = complete and "month" not in problems
    this_round = _Round(state, waived, ladder, hold_seconds, now, away, complete)
    this_round.void_contradicted_claims()
    claimed = observed.claimed() | state.claimed()
    this_round.decide_level(claimed)
    this_round.decide_tunings(claimed)
    this_round.decide_backstop()
    return Decision(state, this_round.holds)


def raised(state: State, ladder: Ladder, now: float, day: float | None) -> State:
    """The state after a webhook: claims raise at once, without asking the sources.

    day: the start of the budget day as last observed.
    """
    state = state.copy()
    _raise(state, state.claimed(), ladder, Active(now, day, risen_epoch=state.epoch))
    return state


def _raise(state: State, claimed: set[str], ladder: Ladder, fresh: Active) -> None:
    highest = top(claimed, ladder)
    if ladder.rank(highest) > ladder.rank(state.level):
        state.level, state.active = highest, replace(fresh)
    elif highest != NONE and highest == state.level:
        state.active.restart_hold()
    for entry in sorted(claimed - set(ladder.names)):
        if entry in state.tunings:
            state.tunings[entry].restart_hold()
        elif len(state.tunings) < MAX_TUNINGS:
            state.tunings[entry] = replace(fresh)


def _forget_the_future(state: State, now: float) -> None:
    """After the clock was set back, times from before must not keep a hold for ever."""
    for active in state.actives():
        active.changed_at = min(active.changed_at, now)
        active.clear_since = min(active.clear_since, now) if active.clear_since else None
        active.clear_seen = min(active.clear_seen, now) if active.clear_seen else None
    for claim in state.claims.values():
        claim.received_at = min(claim.received_at, now)
    state.resolved = {key: min(ended, now) for key, ended in state.resolved.items()}
    state.epoch_at = min(state.epoch_at, now)


def top(entries: set[str], ladder: Ladder) -> str:
    """The highest level among entries."""
    return max(entries & set(ladder.names), key=ladder.rank, default=NONE)


@dataclass
class _Round:
    """One round's observations, applied to a state."""

    state: State
    observed: Observations
    ladder: Ladder
    hold_seconds: float
    now: float
    away: str  # ledgers of today, and those whose month is not counted, in sentences
    complete: bool  # every exporter and ledger answers and can book, the retired ones, too
    holds: list[Hold] = field(default_factory=list)

    def void_contradicted_claims(self) -> None:
        """Forget a webhook's claim that all sources, asked later, prove over.

        An alert that resolves while it is silenced or inhibited never sends its resolve.
        """
        if self.observed.unanswered() or not self.observed.prometheuses:
            return
        doubtful = self.state.claimed() - self.observed.claimed()
        over = {entry for entry in doubtful if not self._blockers({entry})}
        for fingerprint, claim in list(self.state.claims.items()):
            if claim.entry in over and self.observed.evaluated_at() > claim.received_at:
                del self.state.claims[fingerprint]

    def decide_level(self, claimed: set[str]) -> None:
        state, ladder = self.state, self.ladder
        _raise(state, claimed, ladder, self._risen_now())
        rank = ladder.rank(state.level)
        needed = set(ladder.names[rank:])
        why = self._clear(state.level, needed, claimed, state.active) if rank else None
        if why is None:
            return
        lower, old = ladder.names[rank - 1], state.active
        fresh = Active(self.now, old.risen_day, risen_epoch=old.risen_epoch)
        if why == "at once":  # straight to what is asked for now
            wanted = self.observed.wanted()
            unproven = set(ladder.names[1:]) - self.observed.not_wanted() - wanted
            if unproven and self.observed.prometheuses:
                detail = f"no fresh evidence on {', '.join(sorted(unproven))}"
                self.holds.append(Hold(state.level, "evidence_missing", detail))
                return
            lower, fresh.risen_day = top(claimed | wanted, ladder), self.observed.latest_day()
            self._learn_epoch(fresh)  # else what is still wanted may be from before the grant
        state.level, state.active = lower, fresh

    def decide_tunings(self, claimed: set[str]) -> None:
        for entry, active in list(self.state.tunings.items()):
            if self._clear(entry, {entry}, claimed, active):
                del self.state.tunings[entry]

    def decide_backstop(self) -> None:
        """The exporters' own figures, should rules and alerts miss that the money is gone."""
        state, backstop = self.state, self.state.backstop
        if self.observed.exhausted():
            state.exhausted_since = min(state.exhausted_since or self.now, self.now)
            long_enough = self.now - state.exhausted_since >= BACKSTOP_SECONDS
            if backstop:
                backstop.restart_hold()
                self._learn_epoch(backstop)
            elif long_enough and state.level != self.ladder.names[-1]:
                state.backstop = self._risen_now()
            return
        if self.complete:
            state.exhausted_since = None
        elif backstop:
            detail = "not every exporter and ledger of today answers and can book"
            self.holds.append(Hold("backstop", "exporter_unknown", detail))
            return
        if backstop and (self._is_past(backstop) or self._held("backstop", backstop)):
            state.backstop = None

    def _risen_now(self) -> Active:
        return Active(self.now, self.observed.latest_day(), risen_epoch=self.state.epoch)

    def _clear(
        self, entry: str, needed: set[str], claimed: set[str], active: Active
    ) -> Literal["at once", "hold"] | None:
        """Whether every source answers and is clear, and it may be lowered at once or by the hold.

        Notes why not.
        """
        self._learn_day(needed, active)
        if needed & self.observed.asked_by_rules():
            self._learn_epoch(active)
        if needed & claimed:  # asked for, so there is nothing to lower
            active.restart_hold()
            return None
        holds = [Hold(entry, reason, detail) for reason, detail in self._blockers(needed)]
        if self.observed.evaluated_at() <= active.changed_at:
            holds.append(Hold(entry, "evidence_missing", "the rules' records are from before it"))
        self.holds += holds
        if any(hold.reason == "wanted" for hold in holds):
            active.restart_hold()
        if holds:
            return None
        if self._is_past(active):
            return "at once"
        return "hold" if self._held(entry, active) else None

    def _blockers(self, needed: set[str]) -> list[tuple[HoldReason, str]]:
        away: list[tuple[HoldReason, str]] = [("exporter_unknown", self.away)] if self.away else []
        return self.observed.blockers(needed) + away

    def _held(self, entry: str, active: Active) -> bool:
        """Whether evidence has been clear for the hold, counted from the last change at least."""
        last, ruler = active.clear_seen, self.observed.slowest_ruler()
        gap = max(EVIDENCE_GAP_SECONDS, 2 * ruler.interval)
        if last is None or self.now - last > gap:
            active.clear_since = self.now
        active.clear_seen = self.now
        waited = self.now - max(active.clear_since or self.now, active.changed_at)
        needed = max(self.hold_seconds, ruler.least_hold)
        if waited < needed:
            left = min(needed, needed - waited)
            detail = f"clear; the hold ends in {left:.0f} s"
            self.holds.append(Hold(entry, "hold", detail, iso8601(self.now + left)))
        return waited >= needed

    def _learn_day(self, needed: set[str], active: Active) -> None:
        """The budget day it rose on, once an exporter says; late is safe, it only waits longer.

        What a new day's own figures want rose on that day, so its end has to wait for the hold.
        """
        day, wanted = self.observed.earliest_day(), needed & self.observed.wanted_today()
        if active.risen_day is None:
            active.risen_day = self.observed.latest_day()
        elif wanted and day is not None:
            active.risen_day = max(day, active.risen_day)

    def _learn_epoch(self, active: Active) -> None:
        """What the money after a grant does not end either rose with that grant."""
        if self._knows_the_epoch(settled=True):
            active.risen_epoch = self.state.epoch

    def _is_past(self, active: Active) -> bool:
        """Whether a new day, or a grant or reset, has ended the cause for which it rose."""
        day = self.observed.earliest_day()
        if day is not None and active.risen_day is not None and day > active.risen_day:
            return True
        granted = self.complete and active.risen_epoch < self.state.epoch
        return granted and self._knows_the_epoch(settled=False)

    def _knows_the_epoch(self, *, settled: bool) -> bool:
        """Whether the evidence is of every exporter's own epoch, of all rules if it is settled.

        A late ruler stores its records one by one: its evidence has always to settle. Otherwise
        one evaluation more is enough: a group that runs late on a busy machine may still have read
        the figures from before the grant.
        """
        exporters, epochs = self.observed.answered_exporters(), self.observed.epochs()
        if any(epochs.get(one.ledger, 0) != one.epoch for one in exporters):
            return False
        rulers = self.observed.rulers()
        late = any(ruler.delay for ruler in rulers)
        chains = (ruler.settling - ruler.delay if late else ruler.interval for ruler in rulers)
        known_at = self.state.epoch_at + max(chains, default=0)
        return not (settled or late) or self.observed.evaluated_at() > known_at
