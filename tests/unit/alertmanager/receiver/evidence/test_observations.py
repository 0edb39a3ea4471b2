"""What a round's answers say together: any source claims, only all of them prove."""

from dataclasses import replace

import pytest

from alertmanager.receiver.evidence.observations import (
    AlertmanagerAnswer,
    ExporterAnswer,
    NoAnswer,
    Observations,
    PrometheusAnswer,
)
from tests.support.budget_statuses import figures

LOST = NoAnswer("x", "no answer in time")
NONE: frozenset[str] = frozenset()
CLEAR = PrometheusAnswer("p", NONE, 0.0, {}, frozenset({"control", "roaster/naivo"}), NONE)
TODAY = ExporterAnswer("e", 100.0, figures("1", limit="9"))
FULL = replace(TODAY, day_start=200.0, writable=False)


def test_any_source_claims() -> None:
    manager = AlertmanagerAnswer("a", frozenset({"conserve"}))
    firing = replace(CLEAR, claimed=frozenset({"control"}))
    assert Observations((manager, LOST), (firing, LOST)).claimed() == {"conserve", "control"}


def test_all_prometheuses_prove_what_is_not_wanted_and_any_what_is() -> None:
    other = replace(CLEAR, not_wanted=frozenset({"control"}), wanted=frozenset({"fallback"}))
    both = Observations((), (CLEAR, other, LOST))
    assert (both.not_wanted(), both.wanted()) == ({"control"}, {"fallback"})
    assert Observations().not_wanted() == set()


@pytest.mark.parametrize(
    ("exporters", "earliest", "latest"),
    [
        ((), None, None),
        ((TODAY,), 100.0, 100.0),
        ((TODAY, replace(TODAY, day_start=200.0)), 100.0, 200.0),
        ((TODAY, LOST), None, 100.0),
        ((TODAY, FULL), None, 200.0),  # it cannot book, so its day proves nothing
    ],
)
def test_a_day_has_begun_when_every_exporter_that_can_book_says_so(
    exporters: tuple[ExporterAnswer | NoAnswer, ...], earliest: float | None, latest: float | None
) -> None:
    observed = Observations(exporters=exporters)
    assert (observed.earliest_day(), observed.latest_day()) == (earliest, latest)


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ((CLEAR,), []),
        ((), []),
        ((CLEAR, LOST), [("source_unknown", "x: no answer in time")]),
        (
            (replace(CLEAR, unhealthy={"roaster": "rule X has health err", "control": "old"}),),
            [("rule_unknown", "p: rule X has health err")],
        ),
        (
            (replace(CLEAR, wanted=frozenset({"roaster/naivo"})),),
            [("wanted", "the rules want roaster/naivo")],
        ),
        (
            (replace(CLEAR, not_wanted=NONE),),
            [("evidence_missing", "no fresh llm_degradation_wanted for roaster/naivo")],
        ),
    ],
)
def test_what_keeps_an_entry_from_being_lowered_is_named(
    answers: tuple[PrometheusAnswer | NoAnswer, ...], found: list[tuple[str, str]]
) -> None:
    assert Observations((), answers).blockers({"roaster/naivo"}) == found


def test_exporters_that_differ_in_limit_or_calendar_are_named() -> None:
    one = replace(TODAY, calendar="UTC from 00:00")
    same = replace(one, url="f", day_start=200.0, figures=figures("5", limit="9.00"))
    assert Observations((), (), (one, LOST, same)).disagreement() is None
    dearer = replace(one, url="g", figures=figures("1", limit="10"))
    elsewhere = replace(one, url="h", calendar="Asia/Tokyo from 06:00")
    assert Observations((), (), (one, dearer, same, elsewhere)).disagreement() == (
        "the exporters share one budget and differ: e has $9 a day, UTC from 00:00; "
        "g has $10 a day, UTC from 00:00; h has $9 a day, Asia/Tokyo from 06:00"
    )
