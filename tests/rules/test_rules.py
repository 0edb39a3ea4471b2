"""The rules: promtool proves each, and this suite proves that promtool was asked about all."""

import re
import subprocess
from pathlib import Path
from typing import Any

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
    """llm_degradation_wanted cannot say 0 while it fires: one comparison, or one record."""
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
    reads = f'budget:llm_degradation:asked{{alert="{name}"}} == 1'
    condition = rules_of_group[alert]["expr"]
    assert reads in condition or condition == record["expr"].replace(" bool ", " ")
    assert "interval" not in group, "wanted takes an older condition for unknown"


ASKED = [rule for rule in rules() if rule.get("record") == "budget:llm_degradation:asked"]
# A ledger with nothing spent.
QUIET = {
    "llm_ledger_info": 1, "llm_ledger_writable": 1, "llm_ledger_spend_usd": 0,
    "llm_budget_daily_limit_usd": 100, "llm_budget_granted_usd": 0,
    "llm_budget_written_off_usd": 0, "llm_budget_day_start_timestamp_seconds": 0,
}  # fmt: skip


def is_proved_unwanted(asked: dict[str, Any], expr: str, folder: Path) -> bool:
    """Whether llm_degradation_wanted says 0 of what a condition asks for, with it replaced."""
    (what,) = {"degradation", "tuning"} & asked["labels"].keys()
    changed = [
        {
            "name": group["name"],
            "rules": [{**rule, "expr": expr} if rule == known else rule for rule in group["rules"]],
        }
        for group in groups()
        for known in [{key: value for key, value in asked.items() if key != "file"}]
    ]
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": changed}))
    proof = f'llm_degradation_wanted{{{what}="{asked["labels"][what]}"}} == 0'
    labels = 'instance="a",ledger="aaaa",day="0"'
    case = {
        "interval": "5s",
        "input_series": [
            {"series": f"{name}{{{labels}}}", "values": f"{value}x20"}
            for name, value in QUIET.items()
        ],
        "promql_expr_test": [{"expr": proof, "eval_time": "60s", "exp_samples": []}],
    }
    document = {
        "rule_files": [str(folder / "rules.yml")],
        "group_eval_order": [group["name"] for group in changed],
        "evaluation_interval": "5s",
        "tests": [case],
    }
    (folder / "case.yml").write_text(yaml.safe_dump(document))
    done = promtool("test", "rules", str(folder / "case.yml"))
    assert done.returncode == 0 or "exp: nil" in done.stdout + done.stderr, done.stderr
    return done.returncode != 0


@pytest.mark.parametrize("number", range(len(ASKED)), ids=lambda n: ASKED[n]["labels"]["alert"])
def test_a_condition_that_is_no_number_proves_nothing_unwanted(number: int, tmp_path: Path) -> None:
    assert is_proved_unwanted(ASKED[number], "vector(0)", tmp_path)
    assert not is_proved_unwanted(ASKED[number], "vector(NaN)", tmp_path)


def test_no_expression_is_longer_than_a_person_can_read() -> None:
    for rule in rules():
        assert len(" ".join(str(rule["expr"]).split())) <= 400, rule


def test_alerts_and_evidence_are_three_steps_from_the_exporters_figures() -> None:
    """A ruler that stores its records late needs an evaluation for each step."""
    read: dict[str, set[str]] = {}
    for rule in rules():
        if rule["file"] in ("budget.yml", "degradation.yml"):
            read.setdefault(rule.get("record") or rule["alert"], set()).update(
                names_in(str(rule["expr"]))
            )

    def steps(name: str) -> int:
        return 1 + max((steps(one) for one in read[name] & read.keys()), default=0)

    path = ["LLMBudgetWarning", "LLMBudgetCritical", "LLMBudgetExhausted"]
    assert {name: steps(name) for name in path} == dict.fromkeys(path, 3)
    assert steps("budget:llm_evidence:complete") == 3


def test_failing_rules_are_looked_for_in_every_group_of_ours() -> None:
    (listed,) = re.findall(r"\.\*;\(([\w|]+)\)", alerts()["LLMRulesFailing"]["expr"])
    assert sorted(listed.split("|")) == sorted(group["name"] for group in groups())


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


def test_no_amount_is_written_with_the_prefix_of_a_unit() -> None:
    """humanize makes $16.9m of $0.0169."""
    for name, alert in alerts().items():
        text = str(alert["annotations"])
        assert not re.search(r"\$\{\{[^}]*humanize", text), name


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
