"""Raise on any word, lower only on proof: the next state, a pure function of evidence and the last.

Raise: a webhook, an Alertmanager (active or suppressed) or a Prometheus says so. Lower: all of them
are known and clear, llm_degradation_wanted is 0 and fresh, and the hold has passed, one level at a
time; at once when every exporter has reached a later budget day than the one on which it rose.
"""

from dataclasses import dataclass, field

from msgspec.structs import replace

from alertmanager.receiver.entries import kind
from alertmanager.receiver.evidence.observations import Seen
from alertmanager.receiver.ladder.ladder import NONE, Ladder
from alertmanager.receiver.state import Active, State, actives, copy_of

BACKSTOP_SECONDS = 60.0  # the exporters say "exhausted" for so long and no alert came
EVIDENCE_GAP_SECONDS = 15.0  # evidence that was missing for longer starts the hold anew
MAX_TUNINGS = 2_000  # twice the roasters that an exporter tells apart
NEW_DAY_SECONDS = 60.0  # what the rules want after so long is the new day's, not yesterday's


@dataclass(frozen=True)
class Hold:
    """Why something is not lowered. reason: one of a few words (a label); detail: for people."""

    entry: str
    reason: str
    detail: str


@dataclass
class Decision:
    """The next state and what it holds on to."""

    state: State
    holds: list[Hold] = field(default_factory=list)


def decide(state: State, seen: Seen, ladder: Ladder, hold_seconds: float, now: float) -> Decision:
    """The next state after one round of asking everyone."""
    decision = Decision(copy_of(state))
    evidence = _Evidence(decision, seen, ladder, hold_seconds, now)
    _forget_the_future(decision.state, now)
    evidence.void_contradicted_claims()
    evidence.decide_level()
    evidence.decide_tunings()
    evidence.decide_backstop()
    return decision


def raised(state: State, ladder: Ladder, now: float, day: float | None) -> State:
    """The state after a webhook: claims can raise at once, without asking anyone.

    day: the start of the budget day as last heard.
    """
    state = copy_of(state)
    claimed = {claim.entry for claim in state.claims.values()}
    _raise(state, claimed, ladder, Active(changed_at=now, risen_day=day))
    return state


def _raise(state: State, claimed: set[str], ladder: Ladder, fresh: Active) -> None:
    top = _top(claimed, ladder)
    if ladder.rank(top) > ladder.rank(state.level):
        state.level, state.active = top, replace(fresh)
    elif top != NONE and top == state.level:
        state.active.clear_since = state.active.clear_seen = None
    for entry in sorted(claimed - set(ladder.names)):
        if entry in state.tunings:
            state.tunings[entry].clear_since = state.tunings[entry].clear_seen = None
        elif len(state.tunings) < MAX_TUNINGS:
            state.tunings[entry] = replace(fresh)


def _forget_the_future(state: State, now: float) -> None:
    """After the clock was set back, what it once said must not keep a hold for ever."""
    for active in actives(state):
        active.changed_at = min(active.changed_at, now)
        active.clear_since = min(active.clear_since, now) if active.clear_since else None
        active.clear_seen = min(active.clear_seen, now) if active.clear_seen else None
    for claim in state.claims.values():
        claim.received_at = min(claim.received_at, now)
    state.resolved = {who: min(ended, now) for who, ended in state.resolved.items()}


def _top(entries: set[str], ladder: Ladder) -> str:
    """The highest level among entries."""
    return max(entries & set(ladder.names), key=ladder.rank, default=NONE)


class _Evidence:
    """One round's evidence, applied to the decision's state."""

    def __init__(
        self, decision: Decision, seen: Seen, ladder: Ladder, hold_seconds: float, now: float
    ) -> None:
        self.decision = decision
        self.state = decision.state
        self.seen = seen
        self.ladder = ladder
        self.hold_seconds = hold_seconds
        self.now = now

    def void_contradicted_claims(self) -> None:
        """Forget a webhook's claim that everyone, asked later, proves over.

        An alert that resolves while it is silenced or inhibited never sends its resolve.
        """
        if self.seen.unknown() or not self.seen.prometheuses:
            return
        evaluated_at = min(seen.evaluated_at for seen in self.seen.answered_prometheuses())
        entries = {claim.entry for claim in self.state.claims.values()} - self.seen.claimed()
        over = {entry for entry in entries if not self._blockers({entry})}
        for fingerprint, claim in list(self.state.claims.items()):
            if claim.entry in over and evaluated_at > claim.received_at:
                del self.state.claims[fingerprint]

    def claimed(self) -> set[str]:
        return self.seen.claimed() | {claim.entry for claim in self.state.claims.values()}

    def decide_level(self) -> None:
        state, ladder = self.state, self.ladder
        claimed = self.claimed()
        fresh = Active(changed_at=self.now, risen_day=self.seen.latest_day())
        _raise(state, claimed, ladder, fresh)
        if state.level == NONE:
            return
        rank = ladder.rank(state.level)
        needed = set(ladder.names[rank:])
        self._learn_day(needed, state.active)
        if not self._may_lower(state.level, needed, claimed, state.active):
            return
        if self._day_advanced(state.active):
            self._to_wanted_level(claimed)
        elif self._held_long_enough(state.level, state.active):
            self._lower_to(ladder.names[rank - 1])

    def _to_wanted_level(self, claimed: set[str]) -> None:
        """On a new budget day: straight to what today asks for."""
        wanted = self.seen.wanted()
        unproven = set(self.ladder.names[1:]) - self.seen.zero() - wanted
        if unproven and self.seen.prometheuses:
            self._hold(self.state.level, "evidence_missing", f"no evidence on {sorted(unproven)}")
            return
        self._lower_to(_top(claimed | wanted, self.ladder))
        self.state.active.risen_day = self.seen.latest_day()

    def _lower_to(self, level: str) -> None:
        risen_day = self.state.active.risen_day
        self.state.level = level
        self.state.active = Active(changed_at=self.now, risen_day=risen_day)

    def decide_tunings(self) -> None:
        claimed = self.claimed()
        for entry, active in list(self.state.tunings.items()):
            self._learn_day({entry}, active)
            if self._may_lower(entry, {entry}, claimed, active) and (
                self._day_advanced(active) or self._held_long_enough(entry, active)
            ):
                del self.state.tunings[entry]

    def decide_backstop(self) -> None:
        """The exporters' own word, should rules and alerts be blind to it."""
        if self.seen.exhausted():
            self._raise_backstop()
        else:
            self._lower_backstop()

    def _raise_backstop(self) -> None:
        state = self.state
        state.exhausted_since = min(state.exhausted_since or self.now, self.now)
        if state.backstop:
            state.backstop.clear_since = state.backstop.clear_seen = None
        elif (
            self.now - state.exhausted_since >= BACKSTOP_SECONDS
            and state.level != self.ladder.names[-1]
        ):
            state.backstop = Active(changed_at=self.now, risen_day=self.seen.latest_day())

    def _lower_backstop(self) -> None:
        complete = self.seen.all_exporters_answered()
        if complete:
            self.state.exhausted_since = None
        backstop = self.state.backstop
        if backstop is None:
            return
        if not complete:
            self._hold("backstop", "exporter_unknown", "not every exporter answers")
        elif self._day_advanced(backstop) or self._held_long_enough("backstop", backstop):
            self.state.backstop = None

    def _may_lower(self, entry: str, needed: set[str], claimed: set[str], active: Active) -> bool:
        """Whether every source is known and clear; notes why not."""
        if needed & claimed:  # asked for, so there is nothing to lower
            active.clear_since = active.clear_seen = None
            return False
        holds = [Hold(entry, reason, detail) for reason, detail in self._blockers(needed)]
        self.decision.holds += holds
        if any(hold.reason == "wanted" for hold in holds):
            active.clear_since = active.clear_seen = None
        return not holds

    def _blockers(self, needed: set[str]) -> list[tuple[str, str]]:
        found = [("source_unknown", f"{s.url}: {s.reason}") for s in self.seen.unknown()]
        if not self.seen.prometheuses:
            return found
        for prometheus in self.seen.answered_prometheuses():
            kinds = sorted({kind(entry) for entry in needed} & set(prometheus.unhealthy))
            problems = (f"{prometheus.url}: {prometheus.unhealthy[name]}" for name in kinds)
            found += [("rule_unknown", problem) for problem in problems]
        wanted = self.seen.wanted()
        found += [("wanted", f"the rules want {entry}") for entry in sorted(needed & wanted)]
        for entry in sorted(needed - self.seen.zero() - wanted):
            found.append(("evidence_missing", f"no fresh llm_degradation_wanted for {entry}"))
        return found

    def _held_long_enough(self, entry: str, active: Active) -> bool:
        """Whether evidence has been clear for the hold, counted from the last change at least."""
        unseen_since = active.clear_seen
        if unseen_since is None or self.now - unseen_since > EVIDENCE_GAP_SECONDS:
            active.clear_since = self.now
        active.clear_seen = self.now
        waited = self.now - max(active.clear_since or self.now, active.changed_at)
        if waited < self.hold_seconds:
            left = min(self.hold_seconds, self.hold_seconds - waited)
            self._hold(entry, "hold", f"clear; the hold ends in {left:.0f} s")
            return False
        return True

    def _hold(self, entry: str, reason: str, detail: str) -> None:
        self.decision.holds.append(Hold(entry, reason, detail))

    def _learn_day(self, needed: set[str], active: Active) -> None:
        """The day it rose on, as soon as an exporter says; late is safe, it only waits longer.

        What a new day's own figures want rose on that day: its end is no longer a new day's.
        """
        day = self.seen.earliest_day()
        if active.risen_day is None:
            active.risen_day = self.seen.latest_day()
        elif day is not None and self.now >= day + NEW_DAY_SECONDS and needed & self.seen.wanted():
            active.risen_day = max(day, active.risen_day)

    def _day_advanced(self, active: Active) -> bool:
        day = self.seen.earliest_day()
        return day is not None and active.risen_day is not None and day > active.risen_day
