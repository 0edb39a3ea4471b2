"""The rules' arithmetic of the budget is that of common/budget_status.py."""

import random
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from alertmanager.receiver.evidence.observations import ExporterAnswer, Observations
from command.stack.binaries import need
from common.budget_status import BudgetFigures, MonthFigures, together
from tests.support.budget_statuses import figures, month
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
    "a month that leaves less": [figures("3", month=month("300", "260"))],
    "a month that leaves nothing": [figures("0", month=month("60.3", "60.3"))],
    "an overspent month and a grant": [figures("5", granted="20", month=month("300", "310"))],
    "two ledgers in a month, in ten parts": [
        figures("1", month=month("300", "200.2", seen_days=15, days_left=10, parts=10)),
        figures("2", month=month("310", "0.3", days_left=9, parts=9)),
    ],
    "a month and a ledger without one": [figures("3", month=month("300", "260")), figures("2")],
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
        f"llm_ledger_info{{{labels}}}": Decimal(1),
        f"llm_ledger_writable{{{labels}}}": Decimal(1),
    } | (month_series(day, ledger.month) if ledger.month else {})


def month_series(day: str, month: MonthFigures) -> dict[str, Decimal]:
    labels = f'{day}, month="{month.month}"'
    return {
        f"llm_month_limit_usd{{{labels}}}": month.limit_usd,
        f"llm_month_seen_ratio{{{labels}}}": Decimal(month.seen_days) / month.days,
        f"llm_month_spent_usd{{{labels}}}": month.spent_usd,
        f"llm_month_dates_left{{{labels}}}": Decimal(month.days_left),
        f"llm_month_parts{{{labels}}}": Decimal(month.parts),
    } | {  # which rules/month.yml records of a ledger that is gone
        f'ledger_month:llm_spent:held{{ledger="{gone}", month="{month.month}"}}': usd
        for gone, usd in month.carried_usd.items()
    }


def rounded(amount: Decimal) -> float:
    """To nano-dollars, as the rules do."""
    return float(round(amount, 9))


def inputs(ledgers: list[BudgetFigures]) -> dict[str, Any]:
    """What promtool is given: the exporters' figures for five minutes."""
    published = [item for n, one in enumerate(ledgers) for item in series(n, one).items()]
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": f"{value:f}x5"} for name, value in published],
    }


def promtool_case(ledgers: list[BudgetFigures]) -> dict[str, Any]:
    """What promtool must find, computed in Python."""
    budget = together(ledgers)
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
    return inputs(ledgers) | {
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


def reference(ledgers: list[BudgetFigures]) -> tuple[float, bool]:
    """In whole nano-dollars: the utilization, at most 1000 either way, and whether all is spent."""
    nano = [
        [int(amount * 10**9) for amount in (one.spend_usd, one.written_off_usd, one.granted_usd)]
        for one in ledgers
    ]
    net = sum(spend - off for spend, off, _ in nano)
    limit = min(int(one.limit_usd * 10**9) for one in ledgers)
    if months := [one.month for one in ledgers if one.month]:
        seen, parts = max(one.seen_days for one in months), max(one.parts for one in months)
        whole = min(int(one.limit_usd * 10**9) for one in months) * seen
        spent = [one.spent_usd + sum(one.carried_usd.values()) for one in months]
        left = max(0, whole - 30 * sum(int(each * 10**9) for each in spent))
        limit = min(limit, (2 * left + 30 * parts) // (60 * parts))  # rounded, half up
    limit += sum(granted for _, _, granted in nano)
    if limit:
        return max(-1000.0, min(1000.0, net / limit)), net >= limit
    return (1.0 if not net else 1000.0 if net > 0 else -1000.0), net >= 0


def some_ledgers(chance: random.Random) -> list[BudgetFigures]:
    """Up to three, of a budget whose limits, grants and months may be nothing or almost nothing."""
    nano = Decimal("1e-9")
    monthly = chance.choice(
        [None, nano, Decimal("60.3"), Decimal(chance.randrange(1, 10**12)) * nano]
    )
    parts = chance.choice([1, 1, 2, 30]) if monthly and monthly > 1 else 1
    near = [Decimal(0), -nano * parts, nano * parts, Decimal(5) * parts, Decimal(-5)]
    count = chance.randrange(1, 4)
    spent = max(Decimal(0), (monthly or 0) - chance.choice(near))
    gone = chance.choice([Decimal(0), (spent / 3).quantize(nano)])  # by a ledger that is gone
    spent -= gone
    shares = [(spent / count).quantize(nano) for _ in range(count - 1)]
    limit = chance.choice([Decimal(0), nano, Decimal("60.3")])
    unit = chance.choice([nano, Decimal("20.1")])
    found = []
    for number in range(count):
        amount = [chance.choice([Decimal(0), unit]) for _ in range(2)]
        of_month = monthly and month(
            monthly,
            shares[number] if number < count - 1 else spent - sum(shares),
            parts=parts,
            carried_usd={"gone": gone} if gone and not number else {},
        )
        off = chance.choice([Decimal(0), amount[0]])
        granted = chance.choice([Decimal(0), Decimal(0), amount[1]])
        found.append(figures(amount[0], limit, granted, off, of_month or None))
    return found


def test_nothing_left_is_never_less_than_exhausted_for_rules_status_and_backstop(
    tmp_path: Path,
) -> None:
    chance, cases = random.Random(13), []
    outcomes = set()
    for _ in range(150):
        ledgers = some_ledgers(chance)
        utilization, exhausted = reference(ledgers)
        outcomes.add((exhausted, together(ledgers).limit == 0, any(one.month for one in ledgers)))
        shown = max(-1000.0, min(1000.0, float(together(ledgers).utilization)))
        assert shown == pytest.approx(utilization, abs=1e-9)
        answers = [ExporterAnswer(f"{n}", DAY_START, one) for n, one in enumerate(ledgers)]
        assert Observations((), (), answers).exhausted() == exhausted
        asked = int(round(utilization, 9) >= 1)  # the rules round
        assert asked or not exhausted
        ratio = "clamp_max(clamp_min(budget:llm_utilization:ratio, -1000), 1000)"
        fallback = '{degradation="fallback"}'
        checks = [
            {"expr": expr, "eval_time": "5m", "exp_samples": [{"labels": "{}", "value": value}]}
            for expr, value in (
                (f"abs({ratio} - {utilization!r}) <= bool 1e-9", 1),
                (f"sum(budget:llm_degradation:asked{fallback})", asked),
                (f"sum(llm_degradation_wanted{fallback})", asked),
            )
        ]
        cases.append(inputs(ledgers) | {"name": f"{ledgers}", "promql_expr_test": checks})
    assert len(outcomes) >= 6
    files = [str(RULES / "budget.yml"), str(RULES / "degradation.yml")]
    document = {"rule_files": files, "group_eval_order": ["budget", "degradation"], "tests": cases}
    path = tmp_path / "cases.yml"
    path.write_text(yaml.safe_dump(document))
    done = subprocess.run([need("promtool"), "test", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[:3000]
