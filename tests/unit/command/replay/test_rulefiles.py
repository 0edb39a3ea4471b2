"""The rules in the order of a replay: each pass reads earlier ones only."""

import pytest

from command.paths import RULES
from command.replay.rulefiles import Rule, document, load, passes
from common.errors import UserError
from common.names import FORECAST


def test_every_pass_of_the_shipped_rules_reads_earlier_passes_only() -> None:
    rules = load(RULES)
    recorded = {rule.name for rule in rules if "record" in rule.body}
    seen: set[str] = set()
    for rules_of_pass in passes(rules, {FORECAST}):
        for rule in rules_of_pass:
            assert rule.reads & recorded - {rule.name} <= seen, rule.name
        seen |= {rule.name for rule in rules_of_pass}
    assert FORECAST in seen


def test_all_rules_of_a_name_come_in_one_pass_and_keep_their_group() -> None:
    rules = [
        Rule("a", {"record": "x:llm_a:y", "expr": "llm_raw"}),
        Rule("a", {"record": "x:llm_b:y", "expr": "vector(1)", "labels": {"k": "1"}}),
        Rule("b", {"record": "x:llm_b:y", "expr": "x:llm_a:y", "labels": {"k": "2"}}),
    ]
    first, second = passes(rules, {"x:llm_b:y"})
    assert first == rules[:1]
    assert second == rules[1:]
    assert [group["name"] for group in document(second)["groups"]] == ["a", "b"]


def test_rules_that_wait_for_each_other_are_named() -> None:
    rules = [
        Rule("g", {"record": "x:llm_a:y", "expr": "x:llm_b:y"}),
        Rule("g", {"record": "x:llm_b:y", "expr": "x:llm_a:y"}),
    ]
    with pytest.raises(UserError, match="x:llm_a:y, x:llm_b:y"):
        passes(rules, {"x:llm_a:y"})


def test_a_rule_that_reads_its_own_past_waits_for_nobody() -> None:
    rules = [Rule("g", {"record": "x:llm_a:y", "expr": "llm_raw or last_over_time(x:llm_a:y[1h])"})]
    assert passes(rules, {"x:llm_a:y"}) == [rules]
