"""The rules' arithmetic of the budget is that of common/budget_status.py."""

import subprocess
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from command.stack.binaries import need
from common.budget_status import BudgetFigures, together
from tests.support.budget_statuses import figures
from tests.support.rule_files import RULES

DAY_START = 1_800_000_000
# A budget of one or several ledgers.
CASES = {
    "nothing spent": [figures("0")],
    "some spent": [figures("33.25")],
    "a cent below the limit": [figures("60.29", limit="60.3")],
    "just the limit": [figures("60.3", limit="60.3")],
    "more than the limit": [figures("130.000000001")],
    "a grant": [figures("100", granted="20.5")],
    "a write-off": [figures("95", written_off="50")],
    "written off to the last cent": [figures("95", written_off="95")],
    "more written off than spent": [figures("10", written_off="25")],
    "a grant and a write-off": [figures("150", granted="10", written_off="40.000001")],
    "two ledgers": [figures("30"), figures("45.5")],
    "two ledgers at the limit": [figures("60.2", limit="60.3"), figures("0.1", limit="60.3")],
    "two ledgers with different limits": [figures("30", limit="80"), figures("30", limit="60")],
    "three ledgers, grants and write-offs": [
        figures("30", granted="5"),
        figures("70", written_off="12.5", granted="0.25"),
        figures("1.000000001", written_off="2"),
    ],
}


def series(number: int, ledger: BudgetFigures) -> dict[str, Decimal]:
    """What the exporter of a ledger publishes; it had spent seven dollars before this day."""
    labels, before = f'ledger="ledger-{number}"', Decimal(7)
    day = f'{labels}, day="{DAY_START}"'
    return {
        f"llm_ledger_cost_usd_total{{{labels}}}": before + ledger.spend_usd,
        f"llm_ledger_spend_usd{{{day}}}": ledger.spend_usd,
        f"llm_budget_day_start_timestamp_seconds{{{day}}}": Decimal(DAY_START),
        f"llm_budget_daily_limit_usd{{{day}}}": ledger.limit_usd,
        f"llm_budget_granted_usd{{{day}}}": ledger.granted_usd,
        f"llm_budget_written_off_usd{{{day}}}": ledger.written_off_usd,
    }


def rounded(amount: Decimal) -> float:
    """To nano-dollars, as the rules do."""
    return float(round(amount, 9))


def promtool_case(ledgers: list[BudgetFigures]) -> dict[str, object]:
    """What promtool must find, computed in Python."""
    budget = together(ledgers)
    published = [item for n, one in enumerate(ledgers) for item in series(n, one).items()]
    expected = {
        "budget:llm_spend_usd:today": rounded(budget.spend_usd),
        "budget:llm_written_off_usd:today": float(budget.written_off_usd),
        "budget:llm_limit_usd:today": float(budget.limit),
        "budget:llm_remaining_usd:today": rounded(budget.remaining),
        "budget:llm_utilization:ratio": rounded(budget.utilization),
    }
    asked = 'budget:llm_degradation:asked{alert="LLMBudgetExhausted", degradation="fallback"}'
    checks = [(name, name, value) for name, value in expected.items()]
    checks.append((asked, asked, float(budget.exhausted)))
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": f"{value:f}x5"} for name, value in published],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": "3m",
                "exp_samples": [{"labels": labels, "value": value}],
            }
            for expression, labels, value in checks
        ],
    }


@pytest.mark.parametrize("name", CASES)
def test_the_rules_compute_what_python_computes(name: str, tmp_path: Path) -> None:
    document = {"rule_files": [str(RULES / "budget.yml")], "tests": [promtool_case(CASES[name])]}
    path = tmp_path / "case.yml"
    path.write_text(yaml.safe_dump(document))
    done = subprocess.run([need("promtool"), "test", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_difference_between_rules_and_python_is_noticed(tmp_path: Path) -> None:
    case = promtool_case([figures("50", granted="10")])
    text = yaml.safe_dump({"rule_files": [str(RULES / "budget.yml")], "tests": [case]})
    path = tmp_path / "case.yml"
    path.write_text(text.replace("value: 110.0", "value: 110.000001"))
    assert path.read_text() != text
    done = subprocess.run([need("promtool"), "test", "rules", path], capture_output=True, text=True)
    assert done.returncode != 0
