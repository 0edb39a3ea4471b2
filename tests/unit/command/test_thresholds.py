"""The thresholds: read from the rules, constants only."""

import re
from decimal import Decimal
from pathlib import Path

import pytest

from command.thresholds import LEVELS, level_at, thresholds
from common.errors import UserError
from tests.support.rule_files import rules


def test_the_shipped_rules_have_the_runbooks() -> None:
    assert thresholds() == {
        "half": Decimal("0.50"),
        "warning": Decimal("0.75"),
        "critical": Decimal("0.90"),
        "exhausted": Decimal("1.00"),
    }


@pytest.mark.parametrize(
    ("utilization", "level"),
    [
        ("0", "none"), ("0.75", "none"), ("0.750000000001", "control"), ("0.9", "control"),
        ("0.900000000001", "emergency"), ("0.999999999999", "emergency"), ("1", "fallback"),
        ("Infinity", "fallback"),
    ],
)  # fmt: skip
def test_the_level_that_a_utilization_asks_for_is_the_rules(utilization: str, level: str) -> None:
    assert level_at(Decimal(utilization)) == level


def test_each_levels_threshold_is_that_of_its_alert() -> None:
    """The rules are the place that decides; the command only foretells."""
    asked = {
        found[1]: rule["labels"]["degradation"]
        for rule in rules()
        if rule.get("record") == "budget:llm_degradation:asked"
        and (found := re.search(r'budget:llm_threshold:ratio\{threshold="(\w+)"\}', rule["expr"]))
    }
    assert asked == LEVELS


def test_a_folder_without_thresholds_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no budget:llm_threshold:ratio constants") as refused:
        thresholds(tmp_path)
    assert str(tmp_path) in str(refused.value)


def test_a_threshold_that_is_no_constant_is_named(tmp_path: Path) -> None:
    rule = "{record: 'budget:llm_threshold:ratio', labels: {threshold: half}, expr: up / 2}"
    (tmp_path / "x.yml").write_text(f"groups: [{{name: x, rules: [{rule}]}}]")
    with pytest.raises(UserError, match=r"x\.yml.*must be a constant.*'up / 2'"):
        thresholds(tmp_path)
