"""The thresholds: read from the rules, constants only."""

from decimal import Decimal
from pathlib import Path

import pytest

from command.thresholds import thresholds
from common.errors import UserError


def test_the_shipped_rules_have_the_runbooks() -> None:
    assert thresholds() == {
        "half": Decimal("0.50"),
        "warning": Decimal("0.75"),
        "critical": Decimal("0.90"),
        "exhausted": Decimal("1.00"),
    }


def test_a_folder_without_thresholds_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no budget:llm_threshold:ratio constants") as refused:
        thresholds(tmp_path)
    assert str(tmp_path) in str(refused.value)


def test_a_threshold_that_is_no_constant_is_named(tmp_path: Path) -> None:
    rule = "{record: 'budget:llm_threshold:ratio', labels: {threshold: half}, expr: up / 2}"
    (tmp_path / "x.yml").write_text(f"groups: [{{name: x, rules: [{rule}]}}]")
    with pytest.raises(UserError, match=r"x\.yml.*must be a constant.*'up / 2'"):
        thresholds(tmp_path)
