"""Raise on any word, lower only on proof."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from alertmanager.receiver.decide import BACKSTOP_SECONDS, EVIDENCE_GAP_SECONDS, Decision, decide
from alertmanager.receiver.evidence.observations import (
    AlertmanagerSeen,
    ExporterSeen,
    PrometheusSeen,
    Seen,
    Unknown,
)
from alertmanager.receiver.precedence import level_in_force
from alertmanager.receiver.state import Active, Claim, Override, State
from tests.support.ladders import shipped_ladder

LADDER = shipped_ladder()
LEVELS = LADDER.names[1:]
HOLD = 600.0
NOW = 1_000_000.0
TODAY, TOMORROW = 900_000.0, 986_400.0
LOST = Unknown("x", "no answer in time")


def prometheus(firing: set[str] = frozenset(), **changes: Any) -> PrometheusSeen:  # type: ignore[assignment]
    """A healthy one; wanted is what fires, unless told otherwise."""
    wanted = changes.pop("wanted", set(firing))
    zero = changes.pop("zero", ({*LEVELS, "roaster/naivo"}) - set(wanted))
    seen = PrometheusSeen("p", frozenset(firing), NOW, {}, frozenset(zero), frozenset(wanted))
    return replace(seen, **changes)


def exporter(spend: str = "10", day: float = TODAY) -> ExporterSeen:
    return ExporterSeen("e", day, Decimal(spend), Decimal(0), Decimal(0), Decimal(100))


def seen(
    firing: set[str] = frozenset(),  # type: ignore[assignment]
    active: set[str] | None = None,
    exporters: tuple[Any, ...] = (exporter(),),
    **changes: Any,
) -> Seen:
    managers = (AlertmanagerSeen("a", frozenset(firing if active is None else active)),)
    return Seen(managers, (prometheus(firing, **changes),), exporters)


CLEAR = seen()


def at(level: str, **changes: Any) -> State:
    """A level that rose today, long ago."""
    return State(level=level, active=Active(changed_at=NOW - 5000, risen_day=TODAY), **changes)


def run(state: State, evidence: Seen, seconds: float = HOLD + 2, step: float = 2.0) -> Decision:
    """Rounds with the same evidence, for that long."""
    now, end = NOW, NOW + seconds
    decision = Decision(state)
    while now <= end:
        decision = decide(decision.state, evidence, LADDER, HOLD, now)
        now += step
    return decision


def reasons(decision: Decision) -> set[str]:
    return {hold.reason for hold in decision.holds}


@pytest.mark.parametrize(
    "evidence",
    [
        seen({"emergency"}, active=set()),  # Prometheus alone
        seen(active={"emergency"}),  # Alertmanager alone, active or suppressed
        Seen((AlertmanagerSeen("a", frozenset({"emergency"})),), (LOST,), (LOST,)),
        Seen((LOST,), (prometheus({"emergency"}),), ()),
    ],
)
def test_any_word_raises_at_once(evidence: Seen) -> None:
    assert decide(State(), evidence, LADDER, HOLD, NOW).state.level == "emergency"


def test_a_webhook_alone_raises_and_needs_nobody() -> None:
    state = State(claims={"f": Claim("control", NOW, NOW)})
    assert decide(state, Seen(), LADDER, HOLD, NOW).state.level == "control"


def test_clear_evidence_lowers_one_level_a_hold() -> None:
    assert run(at("fallback"), CLEAR, HOLD - 4).state.level == "fallback"
    assert run(at("fallback"), CLEAR, HOLD + 4).state.level == "emergency"
    assert run(at("fallback"), CLEAR, 3 * HOLD + 20).state.level == "conserve"
    assert run(at("fallback"), CLEAR, 5 * HOLD).state.level == "none"


def test_it_stops_at_what_is_still_asked_for() -> None:
    decision = run(at("fallback"), seen({"control"}), 10 * HOLD)
    assert decision.state.level == "control"


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (Seen((LOST,), (prometheus(),), (exporter(),)), "source_unknown"),
        (Seen(CLEAR.alertmanagers, (LOST,), (exporter(),)), "source_unknown"),
        (Seen((*CLEAR.alertmanagers, LOST), (prometheus(),), (exporter(),)), "source_unknown"),
        (Seen(CLEAR.alertmanagers, (prometheus(), LOST), (exporter(),)), "source_unknown"),
        (seen(zero=set()), "evidence_missing"),  # absent, or too old
        (seen(zero={"conserve", "control", "emergency"}), "evidence_missing"),
        (seen(wanted={"fallback"}), "wanted"),  # contradiction: no alert, yet wanted
        (seen(unhealthy={"fallback": "rule X has health err"}), "rule_unknown"),
    ],
)
def test_missing_old_or_contradictory_evidence_holds_for_ever(evidence: Seen, reason: str) -> None:
    for exporters in (evidence.exporters, (exporter(day=TOMORROW),)):  # a new day changes nothing
        decision = run(at("fallback"), replace(evidence, exporters=exporters), 5 * HOLD)
        assert decision.state.level == "fallback"
        assert reason in reasons(decision)


def test_two_prometheuses_must_both_prove() -> None:
    evidence = Seen(CLEAR.alertmanagers, (prometheus(), prometheus(zero=set())), (exporter(),))
    assert run(at("control"), evidence, 3 * HOLD).state.level == "control"


def test_a_contradiction_starts_the_hold_anew() -> None:
    halfway = run(at("control"), CLEAR, HOLD - 10).state
    blip = decide(halfway, seen(wanted={"control"}), LADDER, HOLD, NOW + HOLD - 8).state
    later = decide(blip, CLEAR, LADDER, HOLD, NOW + HOLD + 10).state
    assert later.level == "control"


def test_a_short_silence_keeps_the_hold_and_a_long_one_starts_it_anew() -> None:
    halfway = run(at("control"), CLEAR, HOLD / 2).state
    start = halfway.active.clear_since
    last = halfway.active.clear_seen
    assert start is not None
    assert last is not None
    soon = decide(halfway, CLEAR, LADDER, HOLD, last + EVIDENCE_GAP_SECONDS).state
    assert soon.active.clear_since == start
    late = decide(halfway, CLEAR, LADDER, HOLD, last + EVIDENCE_GAP_SECONDS + 1).state
    assert late.active.clear_since == last + EVIDENCE_GAP_SECONDS + 1


def test_a_new_budget_day_lowers_at_once_to_what_it_wants() -> None:
    tomorrow = (exporter(day=TOMORROW),)
    assert decide(at("fallback"), seen(exporters=tomorrow), LADDER, HOLD, NOW).state.level == "none"
    wants = seen({"control"}, exporters=tomorrow)
    assert decide(at("fallback"), wants, LADDER, HOLD, NOW).state.level == "control"


def test_a_new_day_counts_only_when_every_exporter_is_there() -> None:
    for exporters in (
        (exporter(day=TOMORROW), exporter(day=TODAY)),
        (exporter(day=TOMORROW), LOST),
        (),
    ):
        evidence = seen(exporters=exporters)
        assert decide(at("fallback"), evidence, LADDER, HOLD, NOW).state.level == "fallback"


def test_yesterdays_alert_does_not_outlive_the_lift_and_todays_waits_its_hold() -> None:
    tomorrow = (exporter(day=TOMORROW),)
    restored = decide(at("fallback"), seen(exporters=tomorrow), LADDER, HOLD, NOW).state
    again = decide(restored, seen({"control"}, exporters=tomorrow), LADDER, HOLD, NOW + 2).state
    assert again.level == "control"
    clear = decide(again, seen(exporters=tomorrow), LADDER, HOLD, NOW + 4).state
    assert clear.level == "control"


def test_without_prometheus_a_lift_waits_for_the_resolve_and_the_hold() -> None:
    evidence = Seen(CLEAR.alertmanagers, (), (exporter(),))
    claimed = at("control", claims={"f": Claim("control", 0, 0)})
    assert run(claimed, evidence, 5 * HOLD).state.level == "control"
    assert run(at("control"), evidence, HOLD + 4).state.level == "conserve"


def test_a_claim_whose_resolve_never_came_is_void_once_everyone_proves_it_over() -> None:
    claimed = at("control", claims={"f": Claim("control", 0, NOW - 100)})
    assert decide(claimed, CLEAR, LADDER, HOLD, NOW).state.claims == {}
    newer = at("control", claims={"f": Claim("control", 0, NOW + 1)})
    assert decide(newer, CLEAR, LADDER, HOLD, NOW).state.claims  # evaluated before it came
    for doubt in (
        seen(active={"control"}),
        seen(zero=set()),
        replace(CLEAR, alertmanagers=(LOST,)),
    ):
        assert decide(claimed, doubt, LADDER, HOLD, NOW).state.claims


def test_an_automatic_tuning_follows_its_alert_like_a_level() -> None:
    tuned = decide(State(), seen({"roaster/naivo"}), LADDER, HOLD, NOW).state
    assert set(tuned.tunings) == {"roaster/naivo"}
    assert tuned.level == "none"
    assert set(run(tuned, CLEAR, HOLD - 4).state.tunings) == {"roaster/naivo"}
    assert run(tuned, CLEAR, HOLD + 4).state.tunings == {}
    assert run(tuned, seen(zero=set(LEVELS)), 5 * HOLD).state.tunings  # no evidence on this one


def test_the_backstop_acts_when_the_alerts_are_blind() -> None:
    blind = replace(CLEAR, exporters=(exporter("60"), exporter("40")))
    assert run(State(), blind, BACKSTOP_SECONDS - 4).state.backstop is None
    state = run(State(), blind, BACKSTOP_SECONDS + 4).state
    assert level_in_force(state, LADDER, NOW) == "fallback"
    assert run(state, replace(CLEAR, exporters=(LOST,)), 5 * HOLD).state.backstop
    fresh = replace(CLEAR, exporters=(exporter("99.99"),))
    assert run(state, fresh, HOLD - 4).state.backstop
    assert run(state, fresh, HOLD + BACKSTOP_SECONDS + 4).state.backstop is None
    tomorrow = replace(CLEAR, exporters=(exporter("0", TOMORROW),))
    assert decide(state, tomorrow, LADDER, HOLD, NOW).state.backstop is None


def test_the_backstop_leaves_a_fallback_of_the_alerts_alone() -> None:
    evidence = replace(seen({"fallback"}), exporters=(exporter("100"),))
    assert run(State(), evidence, 3 * BACKSTOP_SECONDS).state.backstop is None


def test_a_persons_word_beats_the_backstop_and_the_backstop_the_alerts() -> None:
    state = State(level="control", backstop=Active())
    assert level_in_force(state, LADDER, NOW) == "fallback"
    state.override = Override("pin", "none", "r", "a", NOW, NOW + 60)
    assert level_in_force(state, LADDER, NOW) == "none"
    assert level_in_force(state, LADDER, NOW + 60) == "fallback"  # its time is over
    floor = State(level="control", override=Override("degrade", "emergency", "r", "a", NOW))
    assert level_in_force(floor, LADDER, NOW) == "emergency"
    floor.level = "fallback"
    assert level_in_force(floor, LADDER, NOW) == "fallback"


def test_a_clock_that_goes_back_lifts_nothing() -> None:
    halfway = run(at("control"), CLEAR, HOLD / 2).state
    assert decide(halfway, CLEAR, LADDER, HOLD, NOW - 10_000).state.level == "control"


def test_a_new_day_waits_until_every_level_below_is_known_too() -> None:
    tomorrow = (exporter(day=TOMORROW),)
    half = seen(zero={"fallback", "emergency"}, exporters=tomorrow)
    decision = decide(at("emergency"), half, LADDER, HOLD, NOW)
    assert decision.state.level == "emergency"
    assert reasons(decision) == {"evidence_missing"}
    assert (
        decide(at("emergency"), seen(exporters=tomorrow), LADDER, HOLD, NOW).state.level == "none"
    )


def test_what_a_new_day_wants_itself_waits_its_hold_when_it_ends() -> None:
    tomorrow = (exporter(day=TOMORROW),)  # NOW is hours into it
    wants = decide(at("control"), seen({"control"}, exporters=tomorrow), LADDER, HOLD, NOW).state
    clear = decide(wants, seen(exporters=tomorrow), LADDER, HOLD, NOW + 2).state
    assert clear.level == "control"
    assert run(clear, seen(exporters=tomorrow), HOLD + 8).state.level == "conserve"
