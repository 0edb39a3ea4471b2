"""The promtool tests as vmalert-tool gets them; tests/long/versions runs them with it."""

from pathlib import Path

import pytest
import yaml

from tests.support.vmalert_tests import convert, nameless, values

RULES = """
groups:
  - name: first
    interval: 1m
    rules:
      - {record: a:llm_b:c, expr: llm_b}
      - {record: a:llm_b:d, expr: llm_b}
      - {alert: LLMB, expr: "a:llm_b:c > 1"}
  - name: second
    rules:
      - {record: a:llm_d:e, expr: a:llm_b:c}
"""
TEST = """
rule_files: [rules.yml]
evaluation_interval: 1m
group_eval_order: [second, first]
tests:
  - name: one
    interval: 1m
    input_series: [{series: llm_b, values: 0x10 16x2 stale}]
    alert_rule_test: [{eval_time: 1m, alertname: LLMB}]
    promql_expr_test:
      - {expr: "round(a:llm_b:c)", eval_time: 2m, exp_samples: [{labels: "{}", value: 0.5}]}
"""


@pytest.mark.parametrize(
    ("promtool", "vmalert_tool"),
    [
        ("0x5", "0+0x5"),
        ("1 0x600 2", "1 0+0x600 2"),
        ("0+0.3x143 43.2-0.6x143 129.6x12", "0+0.3x143 43.2-0.6x143 129.6+0x12"),
        ("-1x3 1e-6x2 2.5E+3x2", "-1+0x3 1e-6+0x2 2.5E+3+0x2"),
        ("-1+-2x3", "-1+-2x3"),
        ("1x60 stale _x5 _", "1+0x60 stale _x5 _"),
    ],
)
def test_a_repeated_value_is_spelt_out(promtool: str, vmalert_tool: str) -> None:
    assert values(promtool) == vmalert_tool


def test_only_what_loses_its_name_in_promql_is_asked_for_without_it() -> None:
    assert nameless("round(x)") == "0 + round(x)"
    assert nameless("max_over_time(x[1h])") == "0 + max_over_time(x[1h])"
    assert nameless("last_over_time(x[1h])") == "last_over_time(x[1h])"
    assert nameless("x == round(x)") == "x == round(x)"


def test_no_rule_reads_its_own_groups_records(tmp_path: Path) -> None:
    source, target = tmp_path / "from", tmp_path / "to"
    source.mkdir()
    target.mkdir()
    (source / "rules.yml").write_text(RULES)
    (source / "x.test.yml").write_text(TEST)
    written = yaml.safe_load(convert(source / "x.test.yml", target).read_text())
    groups = yaml.safe_load((target / "rules.yml").read_text())["groups"]
    assert [group["name"] for group in groups] == written["group_eval_order"]
    assert [group.get("interval") for group in groups] == [None, "1m", "1m"]
    assert [[rule.get("record", rule.get("alert")) for rule in one["rules"]] for one in groups] == [
        ["a:llm_d:e"],
        ["a:llm_b:c", "a:llm_b:d"],
        ["LLMB"],
    ]
    (test,) = written["tests"]
    # Not the number 16 that YAML takes 0x10 for.
    assert test["input_series"] == [{"series": "llm_b", "values": "0+0x10 16+0x2 stale"}]
    assert test["metricsql_expr_test"][0]["expr"] == "0 + round(a:llm_b:c)"
    assert "promql_expr_test" not in test
