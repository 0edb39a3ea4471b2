"""Raise on any claim, lower only on evidence."""

from dataclasses import replace
from typing import Any

import pytest

from alertmanager.receiver.decide import (
    BACKSTOP_SECONDS,
    EVIDENCE_GAP_SECONDS,
    Decision,
    decide,
    raised,
)
from alertmanager.receiver.evidence.observations import (
    AlertmanagerAnswer,
    ExporterAnswer,
    NoAnswer,
    Observations,
    PrometheusAnswer,
    Ruler,
)
from alertmanager.receiver.state import Active, Claim, SeenLedger, State
from tests.support.budget_statuses import figures
from tests.support.ladders import shipped_ladder

LADDER = shipped_ladder()
LEVELS = LADDER.names[1:]
HOLD = 600.0
NOW = 1_000_000.0
TODAY, TOMORROW = 900_000.0, 986_400.0
LOST = NoAnswer("x", "no answer in time")


def prometheus(firing: set[str] = frozenset(), **changes: Any) -> PrometheusAnswer:  # type: ignore[assignment]
    """A healthy one; wanted is what fires, unless told otherwise."""
    wanted = changes.pop("wanted", set(firing))
    not_wanted = changes.pop("not_wanted", ({*LEVELS, "roaster/naivo"}) - set(wanted))
    ruler = Ruler(interval=5, day_start=changes.pop("day", TOMORROW))
    answer = PrometheusAnswer(
        "p", frozenset(firing), NOW, {}, frozenset(not_wanted), frozenset(wanted), ruler
    )
    return replace(answer, **changes)


def exporter(spend: str = "10", day: float = TODAY) -> ExporterAnswer:
    return ExporterAnswer("e", day, figures(spend))


def observed(
    firing: set[str] = frozenset(),  # type: ignore[assignment]
    active: set[str] | None = None,
    exporters: tuple[Any, ...] = (exporter(),),
    **changes: Any,
) -> Observations:
    managers = (AlertmanagerAnswer("a", frozenset(firing if active is None else active)),)
    return Observations(managers, (prometheus(firing, **changes),), exporters)


CLEAR = observed()


def at(level: str, **changes: Any) -> State:
    """A level that rose today, long ago."""
    return State(level=level, active=Active(changed_at=NOW - 5000, risen_day=TODAY), **changes)


def run(
    state: State, evidence: Observations, seconds: float = HOLD + 2, step: float = 2.0
) -> Decision:
    """Rounds with the same evidence, evaluated anew, for that long."""
    now, end = NOW, NOW + seconds
    decision = Decision(state, [])
    while now <= end:
        answers = [
            one if isinstance(one, NoAnswer) else replace(one, evaluated_at=now)
            for one in evidence.prometheuses
        ]
        this = replace(evidence, prometheuses=answers)
        decision = decide(decision.state, this, LADDER, HOLD, now)
        now += step
    return decision


def reasons(decision: Decision) -> set[str]:
    return {hold.reason for hold in decision.holds}


@pytest.mark.parametrize(
    "evidence",
    [
        observed({"emergency"}, active=set()),  # Prometheus alone
        observed(active={"emergency"}),  # Alertmanager alone, active or suppressed
        Observations((AlertmanagerAnswer("a", frozenset({"emergency"})),), (LOST,), (LOST,)),
        Observations((LOST,), (prometheus({"emergency"}),), ()),
    ],
)
def test_any_claim_raises_at_once(evidence: Observations) -> None:
    assert decide(State(), evidence, LADDER, HOLD, NOW).state.level == "emergency"


def test_a_webhook_alone_raises_and_needs_nobody() -> None:
    state = State(claims={"f": Claim("control", NOW, NOW)})
    assert decide(state, Observations(), LADDER, HOLD, NOW).state.level == "control"


def test_clear_evidence_lowers_one_level_a_hold() -> None:
    assert run(at("fallback"), CLEAR, HOLD - 4).state.level == "fallback"
    assert run(at("fallback"), CLEAR, HOLD + 4).state.level == "emergency"
    assert run(at("fallback"), CLEAR, 3 * HOLD + 20).state.level == "conserve"
    assert run(at("fallback"), CLEAR, 5 * HOLD).state.level == "none"


def test_it_stops_at_what_is_still_asked_for() -> None:
    decision = run(at("fallback"), observed({"control"}), 10 * HOLD)
    assert decision.state.level == "control"


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (Observations((LOST,), (prometheus(),), (exporter(),)), "source_unknown"),
        (Observations(CLEAR.alertmanagers, (LOST,), (exporter(),)), "source_unknown"),
        (
            Observations((*CLEAR.alertmanagers, LOST), (prometheus(),), (exporter(),)),
            "source_unknown",
        ),
        (Observations(CLEAR.alertmanagers, (prometheus(), LOST), (exporter(),)), "source_unknown"),
        (observed(not_wanted=set()), "evidence_missing"),  # absent, or too old
        (observed(not_wanted={"conserve", "control", "emergency"}), "evidence_missing"),
        (observed(wanted={"fallback"}), "wanted"),  # contradiction: no alert, yet wanted
        (observed(unhealthy={"fallback": "rule X has health err"}), "rule_unknown"),
        (observed(day=None), "evidence_missing"),  # of which day are they?
    ],
)
def test_missing_old_or_contradictory_evidence_holds_for_ever(
    evidence: Observations, reason: str
) -> None:
    for exporters in (evidence.exporters, (exporter(day=TOMORROW),)):  # a new day changes nothing
        decision = run(at("fallback"), replace(evidence, exporters=exporters), 5 * HOLD)
        assert decision.state.level == "fallback"
        assert reason in reasons(decision)


def test_two_prometheuses_must_both_prove() -> None:
    evidence = Observations(
        CLEAR.alertmanagers, (prometheus(), prometheus(not_wanted=set())), (exporter(),)
    )
    assert run(at("control"), evidence, 3 * HOLD).state.level == "control"


def test_a_contradiction_starts_the_hold_anew() -> None:
    halfway = run(at("control"), CLEAR, HOLD - 10).state
    blip = decide(halfway, observed(wanted={"control"}), LADDER, HOLD, NOW + HOLD - 8).state
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
    assert (
        decide(at("fallback"), observed(exporters=tomorrow), LADDER, HOLD, NOW).state.level
        == "none"
    )
    wants = observed({"control"}, exporters=tomorrow)
    assert decide(at("fallback"), wants, LADDER, HOLD, NOW).state.level == "control"


def test_a_new_day_counts_only_when_every_exporter_is_there() -> None:
    for exporters in (
        (exporter(day=TOMORROW), exporter(day=TODAY)),
        (exporter(day=TOMORROW), LOST),
        (),
    ):
        evidence = observed(exporters=exporters)
        assert decide(at("fallback"), evidence, LADDER, HOLD, NOW).state.level == "fallback"


def test_yesterdays_alert_does_not_outlive_the_lift_and_todays_waits_its_hold() -> None:
    tomorrow = (exporter(day=TOMORROW),)
    restored = decide(at("fallback"), observed(exporters=tomorrow), LADDER, HOLD, NOW).state
    again = decide(restored, observed({"control"}, exporters=tomorrow), LADDER, HOLD, NOW + 2).state
    assert again.level == "control"
    clear = decide(again, observed(exporters=tomorrow), LADDER, HOLD, NOW + 4).state
    assert clear.level == "control"


def test_without_prometheus_a_lift_waits_for_the_resolve_and_the_hold() -> None:
    evidence = Observations(CLEAR.alertmanagers, (), (exporter(),))
    claimed = at("control", claims={"f": Claim("control", 0, 0)})
    assert run(claimed, evidence, 5 * HOLD).state.level == "control"
    assert run(at("control"), evidence, HOLD + 4).state.level == "conserve"


def test_a_claim_whose_resolve_never_came_is_void_once_everyone_proves_it_over() -> None:
    claimed = at("control", claims={"f": Claim("control", 0, NOW - 100)})
    assert decide(claimed, CLEAR, LADDER, HOLD, NOW).state.claims == {}
    newer = at("control", claims={"f": Claim("control", 0, NOW + 1)})
    assert decide(newer, CLEAR, LADDER, HOLD, NOW).state.claims  # evaluated before it came
    for doubt in (
        observed(active={"control"}),
        observed(not_wanted=set()),
        replace(CLEAR, alertmanagers=(LOST,)),
    ):
        assert decide(claimed, doubt, LADDER, HOLD, NOW).state.claims


def test_an_automatic_tuning_follows_its_alert_like_a_level() -> None:
    tuned = decide(State(), observed({"roaster/naivo"}), LADDER, HOLD, NOW).state
    assert set(tuned.tunings) == {"roaster/naivo"}
    assert tuned.level == "none"
    assert set(run(tuned, CLEAR, HOLD - 4).state.tunings) == {"roaster/naivo"}
    assert run(tuned, CLEAR, HOLD + 4).state.tunings == {}
    assert run(
        tuned, observed(not_wanted=set(LEVELS)), 5 * HOLD
    ).state.tunings  # no evidence on this one


def test_the_backstop_acts_when_the_alerts_are_blind() -> None:
    blind = replace(CLEAR, exporters=(exporter("60"), exporter("40")))
    assert run(State(), blind, BACKSTOP_SECONDS - 4).state.backstop is None
    state = run(State(), blind, BACKSTOP_SECONDS + 4).state
    assert state.in_force(LADDER, NOW).level == "fallback"
    assert run(state, replace(CLEAR, exporters=(LOST,)), 5 * HOLD).state.backstop
    fresh = replace(CLEAR, exporters=(exporter("99.99"),))
    assert run(state, fresh, HOLD - 4).state.backstop
    assert run(state, fresh, HOLD + BACKSTOP_SECONDS + 4).state.backstop is None
    tomorrow = replace(CLEAR, exporters=(exporter("0", TOMORROW),))
    assert decide(state, tomorrow, LADDER, HOLD, NOW).state.backstop is None


def test_the_backstop_leaves_a_fallback_of_the_alerts_alone() -> None:
    evidence = replace(observed({"fallback"}), exporters=(exporter("100"),))
    assert run(State(), evidence, 3 * BACKSTOP_SECONDS).state.backstop is None


def test_a_clock_that_goes_back_lifts_nothing() -> None:
    halfway = run(at("control"), CLEAR, HOLD / 2).state
    assert decide(halfway, CLEAR, LADDER, HOLD, NOW - 10_000).state.level == "control"


def test_a_new_day_waits_until_every_level_below_is_known_too() -> None:
    tomorrow = (exporter(day=TOMORROW),)
    half = observed(not_wanted={"fallback", "emergency"}, exporters=tomorrow)
    decision = decide(at("emergency"), half, LADDER, HOLD, NOW)
    assert decision.state.level == "emergency"
    assert reasons(decision) == {"evidence_missing"}
    assert (
        decide(at("emergency"), observed(exporters=tomorrow), LADDER, HOLD, NOW).state.level
        == "none"
    )


def test_what_a_new_day_wants_itself_waits_its_hold_when_it_ends() -> None:
    tomorrow = (exporter(day=TOMORROW),)  # NOW is hours into it
    wants = decide(
        at("control"), observed({"control"}, exporters=tomorrow), LADDER, HOLD, NOW
    ).state
    clear = decide(wants, observed(exporters=tomorrow), LADDER, HOLD, NOW + 2).state
    assert clear.level == "control"
    assert run(clear, observed(exporters=tomorrow), HOLD + 8).state.level == "conserve"


@pytest.mark.parametrize("other", [LOST, replace(exporter(), writable=False)])
def test_an_exporter_that_is_away_or_cannot_book_keeps_everything_up(other: Any) -> None:
    for evidence in (
        observed(exporters=(exporter(), other)),
        Observations(CLEAR.alertmanagers, (), (exporter(), other)),
    ):
        decision = run(at("control"), evidence, 3 * HOLD)
        assert decision.state.level == "control"
        assert reasons(decision) == {"exporter_unknown"}


def test_a_ledger_of_today_that_is_away_keeps_everything_up_until_it_is_retired() -> None:
    seen = {"aa": SeenLedger(TOMORROW)}
    decision = run(at("control", ledgers=seen, backstop=Active(0, TODAY)), CLEAR, 3 * HOLD)
    assert decision.state.level == "control"
    assert decision.state.backstop
    assert reasons(decision) == {"exporter_unknown"}
    assert "rules: aa; nothing" in decision.holds[0].detail
    claimed = at("control", ledgers=seen, claims={"f": Claim("control", 0, NOW - 100)})
    assert decide(claimed, CLEAR, LADDER, HOLD, NOW).state.claims
    retired = {"aa": SeenLedger(TOMORROW, retired=True)}
    waived = run(at("control", ledgers=retired, backstop=Active(0, TODAY)), CLEAR, HOLD + 4).state
    assert waived.level == "conserve"
    assert waived.backstop, "its spend still counts, and the exporters' figures lack it"


def test_the_exporter_of_a_retired_ledger_may_be_away() -> None:
    gone = replace(CLEAR, exporters=(exporter(), NoAnswer("b", "no answer in time")))
    seen = {"bb": SeenLedger(TOMORROW, "b", retired=True)}
    assert run(at("control", ledgers=seen), gone, HOLD + 4).state.level == "conserve"
    other = {"bb": SeenLedger(TOMORROW, "elsewhere", retired=True)}
    assert run(at("control", ledgers=other), gone, HOLD + 4).state.level == "control"


def test_yesterdays_records_lower_nothing_on_a_new_day() -> None:
    tomorrow = (exporter(day=TOMORROW),)
    old = observed(exporters=tomorrow, day=TODAY)
    decision = decide(at("fallback"), old, LADDER, HOLD, NOW)
    assert decision.state.level == "fallback"
    assert reasons(decision) == {"evidence_missing"}
    both = (prometheus(), prometheus(day=TODAY))
    half = Observations(CLEAR.alertmanagers, both, tomorrow)
    assert decide(at("fallback"), half, LADDER, HOLD, NOW).state.level == "fallback"
    new = observed(exporters=tomorrow)
    assert decide(at("fallback"), new, LADDER, HOLD, NOW).state.level == "none"


@pytest.mark.parametrize(
    ("ruler", "age", "level"),
    [
        (Ruler(30, 60, day_start=TOMORROW), 150, "none"),  # may still be yesterday's wish
        (Ruler(30, 60, day_start=TOMORROW), 151, "control"),  # today's, which waits its hold
        (Ruler(30, 60, day_start=TODAY), 151, "none"),
        (Ruler(5, 0, day_start=TOMORROW), 16, "control"),
    ],
)
def test_a_late_ruler_wants_for_the_new_day_only_once_its_records_have_settled(
    ruler: Ruler, age: float, level: str
) -> None:
    tomorrow, evaluated = (exporter(day=TOMORROW),), TOMORROW + age
    wants = observed({"control"}, exporters=tomorrow, evaluated_at=evaluated, ruler=ruler)
    risen = State(level="control", active=Active(TODAY + 60, TODAY))
    state = decide(risen, wants, LADDER, HOLD, evaluated).state
    clear = observed(exporters=tomorrow, evaluated_at=evaluated)
    assert decide(state, clear, LADDER, HOLD, evaluated + 2).state.level == level


@pytest.mark.parametrize(("interval", "gap"), [(5, EVIDENCE_GAP_SECONDS), (30, 60)])
def test_a_gap_of_two_evaluations_keeps_the_hold(interval: float, gap: float) -> None:
    slow = observed(ruler=Ruler(interval, day_start=TODAY))
    halfway = run(at("control"), slow, HOLD / 2).state.active
    assert halfway.clear_seen is not None
    for late, since in ((gap, halfway.clear_since), (gap + 1, halfway.clear_seen + gap + 1)):
        state = State(level="control", active=replace_active(halfway))
        after = decide(state, slow, LADDER, HOLD, halfway.clear_seen + late).state
        assert after.active.clear_since == since


def replace_active(active: Active) -> Active:
    return Active(active.changed_at, active.risen_day, active.clear_since, active.clear_seen)


@pytest.mark.parametrize(
    ("ruler", "least"),
    [
        (Ruler(5, 0), 15),
        (Ruler(30, 0), 90),
        (Ruler(30, 60), 150),
        (Ruler(5, 60, scrapes=90), 150),
    ],
)
def test_a_hold_that_is_too_short_waits_for_three_intervals_and_the_rulers_delay(
    ruler: Ruler, least: float
) -> None:
    slow = replace(prometheus(), ruler=replace(ruler, day_start=TODAY))
    evidence = Observations(CLEAR.alertmanagers, (prometheus(), slow), (exporter(),))
    state = decide(at("control"), evidence, LADDER, 10.0, NOW).state
    for second in range(2, int(least), 2):
        state = decide(state, evidence, LADDER, 10.0, NOW + second).state
        assert state.level == "control"
    assert decide(state, evidence, LADDER, 10.0, NOW + least).state.level == "conserve"


def test_evidence_from_before_the_rise_lowers_nothing() -> None:
    tomorrow = (exporter(day=TOMORROW),)
    level, tuning = Active(NOW, TODAY), Active(NOW, TODAY)
    state = State(level="control", active=level, tunings={"roaster/naivo": tuning})
    for evidence in (CLEAR, observed(exporters=tomorrow)):
        kept = decide(state, evidence, LADDER, 0.0, NOW + 14)
        assert (kept.state.level, set(kept.state.tunings)) == ("control", {"roaster/naivo"})
        assert reasons(kept) == {"evidence_missing"}
    newer = observed(exporters=tomorrow, evaluated_at=NOW + 1)
    lowered = decide(state, newer, LADDER, 0.0, NOW + 14).state
    assert (lowered.level, lowered.tunings) == ("none", {})


def granted(
    own: int = 4,
    known: int = 4,
    firing: set[str] = frozenset(),
    **changes: Any,  # type: ignore[assignment]
) -> Observations:
    """Evidence of the ledger aa. own: its exporter's epoch; known: the records'."""
    ruler = Ruler(
        5, changes.pop("delay", 0.0), day_start=TODAY,
        live=frozenset({"aa"}), epochs={"aa": known}, epochs_at=NOW,
    )  # fmt: skip
    exporters = (replace(exporter(), ledger="aa", epoch=own), *changes.pop("others", ()))
    return observed(firing, exporters=exporters, ruler=ruler, **changes)


def before_the_grant(level: str = "fallback", **changes: Any) -> State:
    return at(level, ledgers={"aa": SeenLedger(TODAY, "e", epoch=3)}, **changes)


def test_a_grant_lowers_at_once_to_what_is_still_wanted() -> None:
    after = decide(before_the_grant(), granted(), LADDER, HOLD, NOW).state
    assert after.level == "none"
    tuned = before_the_grant(tunings={"roaster/naivo": Active(NOW - 50, TODAY)})
    assert not decide(tuned, granted(), LADDER, HOLD, NOW).state.tunings
    part = run(before_the_grant(), granted(firing={"control"}), 8).state
    assert part.level == "control"
    clear = replace(granted(), prometheuses=(prometheus(ruler=granted().rulers()[0]),))
    assert run(part, clear, HOLD - 8).state.level == "control", "that is no longer the grant's"
    assert run(part, clear, HOLD + 8).state.level == "conserve"


def test_records_from_before_a_grant_or_a_reset_lower_nothing() -> None:
    for known in (3, 0):
        decision = run(before_the_grant(), granted(known=known), 3 * HOLD)
        assert decision.state.level == "fallback"
        assert reasons(decision) == {"evidence_missing"}
        assert "ledger:llm_evidence:epoch of aa's newest grant" in decision.holds[0].detail


def test_what_the_money_after_a_grant_wants_waits_its_hold_when_it_ends() -> None:
    still = run(before_the_grant(), granted(firing={"fallback"}), 8).state
    assert (still.level, still.active.risen_epoch) == ("fallback", 1)
    assert run(still, granted(), HOLD - 8).state.level == "fallback"
    assert run(still, granted(), HOLD + 8).state.level == "emergency"


def test_what_was_still_wanted_from_before_the_grant_goes_with_it() -> None:
    """Of a rule group that was evaluated before; a later evaluation says so."""
    stale = granted(wanted={"conserve"})
    state = decide(before_the_grant(), stale, LADDER, HOLD, NOW).state
    assert state.level == "conserve"
    clear = replace(
        granted(), prometheuses=(replace(granted().prometheuses[0], evaluated_at=NOW + 2),)
    )
    assert decide(state, clear, LADDER, HOLD, NOW + 2).state.level == "none"


def test_a_claim_and_an_exhausted_budget_after_the_grant_use_it_up() -> None:
    away = replace(granted(), alertmanagers=(LOST,))
    state = decide(before_the_grant("control"), away, LADDER, HOLD, NOW).state
    assert (state.level, state.epoch) == ("control", 1)
    behind = granted(active={"control"})  # an Alertmanager that was not told that it is over
    assert (
        decide(run(state, behind, 8).state, granted(), LADDER, HOLD, NOW + 10).state.level == "none"
    )
    state = run(state, granted(firing={"control"}, wanted=set(), not_wanted=set()), 8).state
    assert run(state, granted(), HOLD - 8).state.level == "control"
    spent = granted()
    spent = replace(spent, exporters=(replace(spent.exporters[0], figures=figures("200")),))
    still = run(before_the_grant("fallback", backstop=Active(NOW - 100, TODAY)), spent, 8).state
    assert decide(still, granted(), LADDER, HOLD, NOW + 10).state.backstop


@pytest.mark.parametrize(
    "evidence",
    [
        granted(own=3, known=4),  # the exporter answered before the grant, or was restored
        granted(others=(replace(exporter(), url="f", ledger="bb", epoch=1),)),
        granted(known=3, own=3),
        granted(known=2, own=2),  # a restored ledger
    ],
)
def test_without_a_grant_that_all_agree_on_the_hold_counts(evidence: Observations) -> None:
    assert decide(before_the_grant(), evidence, LADDER, HOLD, NOW).state.level == "fallback"
    assert decide(at("fallback"), evidence, LADDER, HOLD, NOW).state.level == "fallback"


def test_a_grant_while_a_ledger_is_away_lowers_nothing() -> None:
    state = before_the_grant()
    state.ledgers["bb"] = SeenLedger(TODAY)
    assert run(state, granted(), 3 * HOLD).state.level == "fallback"
    for other in (LOST, replace(exporter(), url="f", ledger="cc", writable=False)):
        decision = run(before_the_grant(), granted(others=(other,)), 3 * HOLD)
        assert decision.state.level == "fallback"


def test_without_an_exporter_that_answers_a_grant_waits_the_hold() -> None:
    nobody = replace(granted(), exporters=())
    assert decide(before_the_grant(), nobody, LADDER, HOLD, NOW).state.level == "fallback"
    retired = before_the_grant()
    retired.ledgers["bb"] = SeenLedger(TODAY, "x", retired=True)
    gone = granted(others=(LOST,))
    assert decide(retired, gone, LADDER, HOLD, NOW).state.level == "fallback"
    assert run(retired, gone, HOLD + 8).state.level == "emergency", "by the hold"


def test_a_level_that_rises_after_the_grant_waits_its_hold() -> None:
    evidence = granted()
    lowered = decide(before_the_grant(), evidence, LADDER, HOLD, NOW).state
    lowered.claims["f"] = Claim("control", NOW, NOW + 1)
    risen = raised(lowered, LADDER, NOW + 1, TODAY)
    risen.claims.clear()
    assert run(risen, evidence, HOLD - 8).state.level == "control"


def test_the_records_of_a_late_ruler_have_to_settle_after_a_grant() -> None:
    late = granted(delay=20)
    assert run(before_the_grant(), late, 14).state.level == "fallback"
    assert run(before_the_grant(), late, 16).state.level == "none", "three evaluations later"


def test_a_backstop_ends_with_the_grant() -> None:
    state = before_the_grant("control", backstop=Active(NOW - 100, TODAY))
    assert decide(state, granted(), LADDER, HOLD, NOW).state.backstop is None
    old = before_the_grant("control", backstop=Active(NOW - 100, TODAY))
    assert decide(old, granted(known=3), LADDER, HOLD, NOW).state.backstop
