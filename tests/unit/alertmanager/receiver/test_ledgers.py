"""Ledgers seen today: remembered, missed, retired, forgotten with the day."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from alertmanager.receiver.decide import Hold, decide
from alertmanager.receiver.evidence.observations import (
    ExporterAnswer,
    NoAnswer,
    Observations,
    PrometheusAnswer,
    Ruler,
)
from alertmanager.receiver.ledgers import MAX_LEDGERS, follow, problems, retire, standing
from alertmanager.receiver.state import SeenLedger, State
from common.errors import UserError
from tests.support.budget_statuses import figures, month
from tests.support.ladders import shipped_ladder

DAY, NEXT = 86_400.0, 172_800.0
NONE: frozenset[str] = frozenset()


def exporter(ledger: str, day: float = DAY, url: str = "") -> ExporterAnswer:
    return ExporterAnswer(url or f"at {ledger}", day, figures("1"), ledger=ledger)


def away(ledger: str) -> NoAnswer:
    return NoAnswer(f"at {ledger}", "cannot be reached")


def rules(day: float | None = DAY, spent: str = "", live: str = "") -> PrometheusAnswer:
    """spent, live: ledgers of one letter."""
    ruler = Ruler(5, 0, None, day, frozenset(live), frozenset(spent))
    return PrometheusAnswer("p", NONE, 0.0, {}, NONE, NONE, ruler)


def seen(*rounds: Observations, state: State | None = None) -> State:
    state = state or State()
    for observed in rounds:
        follow(state, observed)
    return state


def both(*answers: Any, prometheus: PrometheusAnswer | None = None) -> Observations:
    return Observations((), (prometheus or rules(),), answers)


def test_a_ledger_is_remembered_from_its_exporter_and_from_the_rules() -> None:
    state = seen(both(exporter("a"), prometheus=rules(spent="ab", live="ab")))
    assert state.ledgers == {"a": SeenLedger(DAY, "at a"), "b": SeenLedger(DAY)}


def test_one_that_neither_answers_nor_is_fresh_is_away_even_if_prometheus_forgot_it() -> None:
    state = seen(both(exporter("a"), prometheus=rules(spent="ab", live="ab")))
    wiped = both(exporter("a"))
    seen(wiped, state=state)
    assert standing(state, wiped) == {"a": "live", "b": "away"}
    assert (
        "seen today, but neither answering nor fresh in the rules: b; nothing"
        in (problems(state, wiped)["ledgers"])
    )
    for back in (
        both(exporter("a"), exporter("b")),
        both(exporter("a"), prometheus=rules(live="b")),
    ):
        assert standing(state, back) == {"a": "live", "b": "live"}
        assert problems(state, back) == {}


def test_a_ledger_is_forgotten_once_every_source_is_on_a_later_day() -> None:
    state = seen(both(exporter("a"), prometheus=rules(spent="b")))
    for not_yet in (
        both(exporter("a", NEXT)),
        both(exporter("a"), prometheus=rules(NEXT)),
        both(exporter("a", NEXT), away("b"), prometheus=rules(NEXT)),
        both(exporter("a", NEXT), prometheus=rules(None)),
        Observations((), (NoAnswer("p", "x"),), (exporter("a", NEXT),)),
        Observations(),
    ):
        seen(not_yet, state=state)
        assert set(state.ledgers) == {"a", "b"}
    seen(both(exporter("a", NEXT), prometheus=rules(NEXT)), state=state)
    assert set(state.ledgers) == {"a"}


def test_a_ledger_that_took_over_an_address_leaves_the_old_one_without() -> None:
    state = seen(both(exporter("a", url="u")), both(exporter("b", url="u")))
    assert state.ledgers == {"a": SeenLedger(DAY), "b": SeenLedger(DAY, "u")}
    retire("a", state, both(exporter("b", url="u")))
    lost = both(NoAnswer("u", "x"))
    assert follow(state, lost).exporters == lost.exporters, "b was waived for a"


def test_a_retired_ledger_waives_its_exporter_until_it_is_back_or_the_day_is_over() -> None:
    gone = both(exporter("a"), away("b"))
    state = seen(both(exporter("a"), exporter("b")), gone)
    assert retire("b", state, gone) == "retire b"
    assert follow(state, gone).exporters == (exporter("a"),)
    assert standing(state, gone) == {"a": "live", "b": "retired"}
    assert problems(state, gone) == {}
    for over in (
        both(exporter("a"), exporter("b")),
        both(exporter("a"), away("b"), prometheus=rules(live="b")),
        both(exporter("a", NEXT), away("b")),
        both(exporter("a"), away("b"), prometheus=rules(NEXT)),
    ):
        waived = seen(gone, state=State(ledgers=copies(state)))
        assert waived.ledgers["b"].retired
        assert follow(waived, over).exporters == over.exporters
        assert not waived.ledgers["b"].retired


def copies(state: State) -> dict[str, SeenLedger]:
    return {
        ledger: SeenLedger(one.day, one.exporter, one.retired)
        for ledger, one in state.ledgers.items()
    }


def test_one_that_is_still_away_on_the_next_day_can_be_retired_again() -> None:
    state = seen(both(exporter("a"), exporter("b")))
    tomorrow = both(exporter("a", NEXT), away("b"), prometheus=rules(NEXT))
    seen(tomorrow, state=state)
    retire("b", state, tomorrow)
    assert follow(state, tomorrow).exporters == (exporter("a", NEXT),)
    assert state.ledgers["b"].retired


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("aaaa", "'aaaa' is no ledger that was seen today or this month; seen: aab1, aac1, abc1"),
        ("aa", "'aa' fits several ledgers; seen: aab1, aac1"),
        ("", "'' is no ledger that was seen today"),
        ("aab1", "ledger aab1 lives"),
        ("aac", "ledger aac1 lives"),
    ],
)
def test_what_cannot_be_retired_is_one_sentence(given: str, words: str) -> None:
    observed = both(exporter("aab1"), prometheus=rules(live=""))
    fresh = replace(rules(), ruler=Ruler(5, day_start=DAY, live=frozenset({"aac1"})))
    observed = replace(observed, prometheuses=(fresh,))
    state = State(ledgers={one: SeenLedger(DAY) for one in ("aab1", "aac1", "abc1")})
    with pytest.raises(UserError, match=r"\A[^\n]+\Z") as refused:
        retire(given, state, observed)
    assert words in str(refused.value)
    assert retire("ab", state, observed) == "retire abc1"


def test_the_only_ledger_is_not_retired_by_a_request_that_names_none() -> None:
    state = State(ledgers={"a": SeenLedger(DAY)})
    with pytest.raises(UserError, match="is no ledger"):
        retire("", state, both(away("a")))


def test_nothing_was_seen_yet() -> None:
    with pytest.raises(UserError, match="seen: none"):
        retire("a", State(), Observations())


def test_the_memory_is_bounded_and_says_so() -> None:
    flood = [exporter(f"{number:04}") for number in range(MAX_LEDGERS + 5)]
    state = seen(both(*flood))
    assert len(state.ledgers) == MAX_LEDGERS
    assert "no more are remembered" in problems(state, both(*flood))["too many ledgers"]
    sentence = problems(state, both())["ledgers"]
    assert "0000, 0001, 0002, 0003, 0004, …; nothing" in sentence
    assert len(sentence) < 300


def of_epochs(*known: int | None, own: int | None = None) -> Observations:
    """known: by each Prometheus, None: it does not answer. own: the exporter's, None: not asked."""
    told = rules(spent="a")
    answers = [
        NoAnswer("p", "no answer in time")
        if one is None
        else replace(told, ruler=replace(told.ruler, epochs={"a": one}, epochs_at=DAY + one))
        for one in known
    ]
    exporters = () if own is None else (replace(exporter("a"), epoch=own),)
    return Observations((), answers, exporters)


def counted(*rounds: Observations) -> list[int]:
    state = State()
    return [seen(one, state=state).epoch for one in rounds]


def test_a_higher_epoch_counts_once_and_one_seen_first_or_restored_does_not() -> None:
    sevens = of_epochs(7, 7, own=7)
    nines = of_epochs(9, 9, own=9)
    assert counted(sevens, nines, of_epochs(9, 7, own=9), nines) == [0, 1, 1, 1]
    assert counted(sevens, of_epochs(9, 8, own=9), nines) == [0, 1, 2]
    restored = of_epochs(2, 2, own=2)
    assert counted(sevens, restored, restored, of_epochs(3, 3, own=3)) == [0, 0, 0, 1]
    state = seen(sevens, nines, Observations((), (rules(spent="a"),), nines.exporters))
    assert (state.ledgers["a"].epoch, state.epoch, state.epoch_at) == (9, 1, DAY + 9)


def test_the_same_grant_does_not_count_again_when_a_prometheus_is_behind_or_lies() -> None:
    assert counted(of_epochs(3, 3), of_epochs(4, None), of_epochs(4, 3), of_epochs(4, 4)) == [
        0, 0, 0, 1,
    ]  # fmt: skip
    assert counted(*(of_epochs(one) for one in (3, 5, 3, 5, 3, 5))) == [0, 1, 1, 1, 1, 1]


def of_month(
    spent: dict[str, float],
    ledgers: str = "a",
    of: str = "2026-11",
    carried: str = "",
    day: float = DAY,
) -> Observations:
    """These ledgers' exporters, and rules that know so much of months; carried: by exporters."""
    answered_for = dict.fromkeys(carried, Decimal(1))
    money = figures("1", month=month("300", month=of, carried_usd=answered_for))
    exporters = [ExporterAnswer(f"at {one}", day, money, ledger=one) for one in ledgers]
    known = replace(rules(day).ruler, months=spent)
    return both(*exporters, prometheus=replace(rules(day), ruler=known))


BOTH = {"2026-11/a": 40.0, "2026-11/b": 60.0}


def test_a_month_that_prometheus_forgot_keeps_the_level_until_a_living_ledger_answers_for_it() -> (
    None
):
    state = seen(of_month(BOTH, "ab"), of_month({"2026-11/b": 59.0}, day=NEXT))
    assert state.months == BOTH
    assert set(state.ledgers) == {"a"}, "b is of the day before"
    assert problems(state, of_month(BOTH, day=NEXT)) == {}
    for forgot in (of_month({}, day=NEXT), of_month({"2026-11/a": 40.0}, day=NEXT)):
        assert "this month is not counted any more: b; nothing" in problems(state, forgot)["month"]
        assert problems(state, replace(forgot, prometheuses=(*forgot.prometheuses, rules(NEXT))))
    (hold,) = (
        one for one in decided(state, of_month({}, day=NEXT)) if one.reason == "exporter_unknown"
    )
    assert "hands it to a living ledger" in hold.detail
    assert retire("b", state, of_month({}, day=NEXT)) == "retire b"
    assert problems(state, of_month({}, carried="b", day=NEXT)) == {}
    assert problems(state, of_month({}, "ab", day=NEXT)) == {}
    seen(of_month({}, of="2026-12", day=NEXT), state=state)
    assert state.months == {}


def decided(state: State, observed: Observations) -> list[Hold]:
    """What keeps a level of the day before, whose alerts are over."""
    state = state.copy()
    state.level = "control"
    return decide(state, observed, shipped_ladder(), 0, NEXT + 60).holds


def test_months_are_bounded_and_only_of_a_time_to_come_or_running() -> None:
    many = {f"2026-11/{n}": 1.0 for n in range(MAX_LEDGERS + 5)} | {"2026-10/b": 1.0}
    assert len(seen(of_month(many)).months) == MAX_LEDGERS
    assert seen(of_month({"2026-10/b": 1.0, "2026-12/b": 2.0})).months == {"2026-12/b": 2.0}
