"""What a Prometheus' answers mean: old, sick or contradictory ones are no evidence."""

import json
from typing import Any

import msgspec
import pytest

from alertmanager.receiver.evidence.observations import PrometheusAnswer, Ruler
from alertmanager.receiver.evidence.sources import (
    FACTS,
    PrometheusBody,
    peer_text,
    prometheus_answer,
    ruler_of,
)
from tests.support.ladders import shipped_ladder
from tests.support.prometheus_answers import CONTROL, NOW, facts, rule, rules, wanted
from tests.support.rule_files import TESTS

LADDER = shipped_ladder()
DAY = NOW - 1000
FRESH = (NOW - 91, NOW + 5)  # three evaluations of 10 s, a delay of 60 s


def meaning(
    of_rules: dict[str, Any], of_query: dict[str, Any] | None = None, delay: float = 0
) -> PrometheusAnswer:
    groups, vector = (
        msgspec.json.decode(json.dumps(document), type=PrometheusBody).data
        for document in (of_rules, of_query or wanted())
    )
    return prometheus_answer("p", groups.groups, vector.result, LADDER, NOW, delay)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (rule(health="err", lastError="boom"), "has health err"),
        (rule(health="unknown", lastEvaluation="0001-01-01T00:00:00Z"), "has health unknown"),
        (rule(age=16.5), "too long ago"),
        (rule(age=-6), "in the future"),
    ],
)
def test_a_rule_that_is_not_well_is_no_evidence(found: dict[str, Any], words: str) -> None:
    assert words in meaning(rules(found)).unhealthy["control"]


@pytest.mark.parametrize("age", [16.5, 300, -6])
def test_a_sample_that_is_old_or_of_the_future_is_no_evidence(
    age: float,
) -> None:
    assert meaning(rules(rule()), wanted((CONTROL, 0, age))).not_wanted == frozenset()


def test_a_contradiction_within_a_prometheus_is_no_zero() -> None:
    answer = meaning(rules(rule()), wanted((CONTROL, 0, 1), ({**CONTROL, "shard": "b"}, 1, 1)))
    assert (answer.not_wanted, answer.wanted) == (frozenset(), {"control"})


def test_only_a_firing_alert_claims_its_entry_and_only_one_of_the_ladder() -> None:
    alerts = [
        {"labels": {"tuning": "roaster", "roaster": "naivo"}, "state": "firing"},
        {"labels": {"tuning": "roaster", "roaster": "rumi"}, "state": "pending"},
        {"labels": {"tuning": "roaster"}, "state": "firing"},
    ]
    odd = rule("meltdown", alerts=[{"labels": {}, "state": "firing"}])
    answer = meaning(rules(rule(labels={"tuning": "roaster"}, alerts=alerts), odd))
    assert answer.claimed == {"roaster/naivo"}


def test_rules_that_ask_for_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no alert rule with a degradation label"):
        meaning(rules(rule(labels={"severity": "warning"})))


@pytest.mark.parametrize(
    ("interval", "delay", "oldest"), [(5, 0, 15.9), (30, 0, 90.9), (30, 60, 150.9), (5, 34, 49.9)]
)
def test_a_late_rulers_records_may_be_as_old_as_the_flag_says(
    interval: float, delay: float, oldest: float
) -> None:
    found = rules(rule(), interval=interval)
    for age, zero in ((oldest, {"control"}), (oldest + 0.2, set())):
        answer = meaning(found, wanted((CONTROL, 0, age)), delay)
        assert answer.not_wanted == zero
    assert answer.ruler.settling == 3 * interval + delay


def test_the_flag_excuses_records_never_the_rulers_own_evaluations() -> None:
    assert meaning(rules(rule(age=16.5)), None, 60).unhealthy


def test_a_record_of_a_store_that_stopped_is_no_evidence_however_late_it_grows() -> None:
    for age in (20, 60, 600):
        answer = meaning(rules(rule()), wanted((CONTROL, 0, age), facts=facts(age)))
        assert answer.not_wanted == frozenset()
        assert answer.ruler.day_start is None
        assert "records lie" in (answer.ruler.problem() or "")


def test_the_day_and_the_ledgers_of_the_records_are_read() -> None:
    ruler = meaning(rules(rule()), wanted(facts=facts(1))).ruler
    assert (ruler.day_start, ruler.live, ruler.spent) == (NOW - 3600, {"aa"}, {"aa", "bb"})
    assert ruler.lag == 0.5


# What the rules' records prove: how old they may be, of which day they are, who lives.


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


@pytest.mark.parametrize(
    ("epoch", "age", "known"),
    [
        (3, 1.0, {"aa": 3}),
        (3, 0.0, {}),  # recorded after what is wanted: that may be from before the grant
        (3, 40.0, {}),
        (-1, 1.0, {}),
        (1e300, 1.0, {}),
    ],
)
def test_an_epoch_counts_when_what_is_wanted_was_recorded_since(
    epoch: float, age: float, known: dict[str, int]
) -> None:
    told = wanted((CONTROL, 0, 1.0), facts=facts(age, epochs={"aa": epoch}))
    ruler = meaning(rules(rule()), told).ruler
    assert (ruler.epochs, ruler.epochs_at) == (known, NOW - age if known else 0.0)
