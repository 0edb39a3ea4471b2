"""What a Prometheus' answers mean: old, sick or contradictory ones are no evidence."""

import json
from typing import Any

import msgspec
import pytest

from alertmanager.receiver.evidence.answers import PrometheusBody, prometheus_answer
from alertmanager.receiver.evidence.observations import PrometheusAnswer
from tests.support.ladders import shipped_ladder
from tests.support.prometheus_answers import CONTROL, NOW, facts, rule, rules, wanted

LADDER = shipped_ladder()


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
