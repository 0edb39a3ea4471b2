"""The rules: promtool proves each, and this suite proves that promtool was asked about all."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from command.stack.binaries import need
from tests.support.dashboards import FILES, expressions
from tests.support.rule_files import (
    ROOT,
    RULES,
    TESTS,
    alerts,
    asked_for,
    groups,
    names_in,
    published,
    recorded,
    rules,
)
from tests.support.rule_files import test_cases as promtool_cases
from tests.support.rule_files import test_files as promtool_files

# The dead man's switch never stops: nothing to straddle.
ALWAYS_FIRING = {"Watchdog"}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([need("promtool"), *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("path", promtool_files(), ids=lambda path: path.name)
def test_promtool_proves(path: Path) -> None:
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_prometheus_config_and_its_rules() -> None:
    done = promtool("check", "config", "--lint=all", "--lint-fatal", str(RULES / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_silent_and_firing_in_one_case() -> None:
    """Straddling: the same case sees it silent at one time and firing at another."""
    straddled = set()
    for case in promtool_cases():
        outcomes: dict[str, set[bool]] = {}
        for check in case.get("alert_rule_test", []):
            outcomes.setdefault(check["alertname"], set()).add(bool(check.get("exp_alerts")))
        straddled |= {name for name, seen in outcomes.items() if seen == {True, False}}
    assert set(alerts()) - ALWAYS_FIRING == straddled - ALWAYS_FIRING


def test_every_tested_alert_and_recorded_name_exists() -> None:
    """A silent case for a misspelt alert passes in promtool."""
    for case in promtool_cases():
        for check in case.get("alert_rule_test", []):
            assert check["alertname"] in alerts(), case["name"]
        for check in case.get("promql_expr_test", []):
            assert {n for n in names_in(check["expr"]) if ":" in n} <= recorded(), case["name"]


@pytest.mark.parametrize("path", promtool_files(), ids=lambda path: path.name)
def test_the_order_of_groups_is_said_where_one_reads_another(path: Path) -> None:
    """Unsaid, it is a map's in promtool 2.42: the file would pass and fail by chance."""
    document = yaml.safe_load(path.read_text())
    groups = [
        group["name"]
        for file in document["rule_files"]
        for group in yaml.safe_load((path.parent / file).read_text())["groups"]
    ]
    assert sorted(document.get("group_eval_order", groups[:1])) == sorted(groups)


@pytest.mark.parametrize("name", [name for name, rule in alerts().items() if asked_for(rule)])
def test_an_alert_that_asks_shares_its_condition_with_wanted(name: str) -> None:
    """llm_degradation_wanted cannot say 0 while the condition holds: both read one record."""
    group = next(group for group in groups() if name in {r.get("alert") for r in group["rules"]})
    rules_of_group = group["rules"]
    asked, alert = (
        next(i for i, rule in enumerate(rules_of_group) if matches(rule))
        for matches in (
            lambda rule: rule.get("labels", {}).get("alert") == name,
            lambda rule: rule.get("alert") == name,
        )
    )
    record = rules_of_group[asked]
    assert record["record"] == "budget:llm_degradation:asked"
    assert asked < alert
    assert asked_for(record) == asked_for(rules_of_group[alert])
    assert f'budget:llm_degradation:asked{{alert="{name}"}} == 1' in rules_of_group[alert]["expr"]
    assert "interval" not in group, "wanted takes an older condition for unknown"


def test_every_recording_rule_is_tested() -> None:
    tested: set[str] = set()
    for case in promtool_cases():
        for check in case.get("promql_expr_test", []):
            tested |= names_in(check["expr"])
    assert recorded() <= tested


def test_every_recording_rule_is_read_by_a_rule_a_dashboard_or_a_program() -> None:
    """names.py holds what a program reads; an operator's query alone is in no file of ours."""
    read = published().union(*(names_in(text) for path in FILES for text in expressions(path)))
    for rule in rules():
        read |= names_in(str(rule["expr"])) - {rule.get("record")}
        read |= set(re.findall(r"\w+:llm_\w+:\w+", str(rule.get("annotations"))))
    assert recorded() <= read


def test_every_metric_that_a_rule_reads_is_published_or_recorded() -> None:
    for rule in rules():
        unknown = names_in(str(rule["expr"])) - published() - recorded() - {"up"}
        assert not unknown, rule


@pytest.mark.parametrize("name", alerts())
def test_an_alert_tells_what_why_and_what_to_do(name: str) -> None:
    alert = alerts()[name]
    assert alert["labels"]["severity"] in ("critical", "warning", "info", "none")
    summary = alert["annotations"]["summary"]
    assert summary.endswith(".")
    assert "{{" not in summary, "the summary is a constant sentence"
    assert alert["annotations"]["description"]
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor == name.lower()
    assert anchor in {heading.lower() for heading in headings}, "the runbook has no such section"


def test_every_threshold_stands_once() -> None:
    """A comparison in an alert reads a recorded constant; a number would be a second place."""
    zero_or_one = re.compile(r"(?:[<>]=?|==|!=)\s*(?:bool\s+)?(?!(?:0|1)\b(?![.\d]))-?\d")
    for name, alert in alerts().items():
        assert not zero_or_one.search(alert["expr"]), f"{name} compares with a literal"
    constants = [
        (rule["record"], str(rule.get("labels")))
        for rule in rules()
        if str(rule["expr"]).startswith("vector(") and "record" in rule
    ]
    assert len(constants) == len(set(constants)) >= 4


@pytest.mark.parametrize("threshold", ["0.50", "0.75", "0.90", "1.00"])
def test_a_moved_budget_threshold_is_noticed(threshold: str, tmp_path: Path) -> None:
    """The promtool tests can fail: each, with its constant moved by a thousandth, does."""
    (tmp_path / "rules").mkdir()
    moved = f"vector({float(threshold) + 0.001})"
    text = (RULES / "budget.yml").read_text()
    assert f"vector({threshold})" in text
    (tmp_path / "rules" / "budget.yml").write_text(text.replace(f"vector({threshold})", moved))
    tests = tmp_path / "tests" / "rules"
    tests.mkdir(parents=True)
    copy = tests / "budget.test.yml"
    copy.write_text((TESTS / "budget.test.yml").read_text())
    assert promtool("test", "rules", str(copy)).returncode != 0
