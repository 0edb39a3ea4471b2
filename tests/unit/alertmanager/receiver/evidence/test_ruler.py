"""What the rules' records prove: how old they may be, of which day they are, who lives."""

import pytest

from alertmanager.receiver.evidence.ruler import FACTS, Ruler, peer_text, ruler_of
from tests.support.prometheus_answers import NOW
from tests.support.rule_files import TESTS

DAY = NOW - 1000
FRESH = (NOW - 91, NOW + 5)  # three evaluations of 10 s, a delay of 60 s


def ruler(*rows: tuple[str, float], ledger: str = "aa", evaluated_at: float = NOW) -> Ruler:
    """rows: fact and value."""
    labelled = [
        ({"fact": fact, **({"ledger": ledger} if fact in ("live", "spent") else {})}, value)
        for fact, value in rows
    ]
    return ruler_of(labelled, Ruler(10, 60), evaluated_at, FRESH)


@pytest.mark.parametrize(
    ("age", "fresh"), [(0, True), (90, True), (91, False), (-5, True), (-6, False)]
)
def test_a_record_counts_until_three_evaluations_a_second_and_the_delay(
    age: float, fresh: bool
) -> None:
    found = ruler(("day", DAY), ("day_at", NOW - age), ("live", NOW - age), ("spent", NOW - age))
    expected = frozenset({"aa"}) if fresh else frozenset()
    assert found.live == expected
    assert found.day_start == (DAY if fresh else None)
    assert found.spent == expected


@pytest.mark.parametrize(
    ("measured", "scrapes", "least_hold"),
    [(90, 90, 150), (15, 15, 90), (1e300, 180, 240), (float("nan"), 0, 90), (-5, 0, 90)],
)
def test_a_hold_covers_three_scrapes_too_where_those_are_slower_than_evaluations(
    measured: float, scrapes: float, least_hold: float
) -> None:
    found = ruler(("scrapes", measured), ("day", DAY), ("day_at", NOW))
    assert (found.scrapes, found.least_hold, found.settling) == (scrapes, least_hold, 90)
    assert found.day_start == DAY


def test_what_is_measured_of_the_scrapes_is_proven_by_promtool() -> None:
    assert f"'{FACTS['scrapes']}'" in (TESTS / "freshness.test.yml").read_text()


@pytest.mark.parametrize("day", [float("nan"), float("inf"), 1e308, -1.0, NOW + 6])
def test_a_day_that_cannot_be_is_none(day: float) -> None:
    found = ruler(("day", day), ("day_at", NOW), ("spent", NOW))
    assert (found.day_start, found.spent) == (None, frozenset())


def test_a_day_without_its_time_is_none_and_so_is_a_time_without_a_day() -> None:
    assert ruler(("day", DAY)).day_start is None
    assert ruler(("day_at", NOW)).day_start is None


@pytest.mark.parametrize(("since", "known"), [(90, False), (91, True)])
def test_spend_counts_for_a_day_only_when_its_records_have_settled(
    since: float, known: bool
) -> None:
    found = ruler(("day", NOW - since), ("day_at", NOW), ("spent", NOW))
    assert found.spent == (frozenset({"aa"}) if known else frozenset())


def test_a_monstrous_ledger_name_is_cut_alike_everywhere() -> None:
    found = ruler(("day", DAY), ("day_at", NOW), ("live", NOW), ("spent", NOW), ledger="x" * 9999)
    assert found.live == found.spent == {"x" * 64}


def test_a_ledger_name_that_could_forge_a_line_is_shown_escaped() -> None:
    assert peer_text("aa") == "aa"
    assert peer_text("a\x1b[2K\nb") == r"'a\x1b[2K\nb'"


def test_the_lag_is_the_newest_records_and_is_named_beyond_an_interval_and_the_flag() -> None:
    assert ruler().lag is None
    assert ruler().problem() is None
    late = ruler(("day_at", NOW - 99), ("live", NOW - 72))
    assert late.lag == 72
    assert late.problem() == (
        "its records lie 72 s behind its evaluations, more than the interval of 10 s and "
        "--ruler-delay 60: if rule_query_offset or the store delays them, raise that flag"
    )
    assert ruler(("live", NOW - 71)).problem() is None
    assert ruler(("live", NOW + 4)).lag == 0


def test_rows_of_another_kind_are_passed_over() -> None:
    rows = [({"wanted": "0", "degradation": "control"}, NOW), ({"fact": "moon"}, NOW)]
    assert ruler_of(rows, Ruler(5), NOW, FRESH) == Ruler(5)
