"""The budget's document and its arithmetic; tests/rules compares the latter with the rules."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from common.budget_status import BudgetStatus, together
from tests.support.budget_statuses import budget_status, figures


def test_a_write_off_and_a_grant_both_give_room() -> None:
    """$150 spent, $40 of them written off, of $100 and $20 more: 110 of 120, 10 remain."""
    budget = figures("150", granted="20", written_off="40")
    assert (budget.limit, budget.net_spend, budget.remaining) == (120, 110, 10)
    assert budget.utilization == Decimal(11) / 12
    assert not budget.exhausted


@pytest.mark.parametrize(
    ("spend", "exhausted"), [("59.999999999999", False), ("60", True), ("61", True)]
)
def test_a_budget_is_exhausted_at_its_limit(spend: str, exhausted: bool) -> None:
    assert figures(spend, limit="60").exhausted == exhausted


def test_a_budget_of_nothing_is_used_up() -> None:
    nothing, spent = figures("0", limit="0"), budget_status("5", limit="0")
    assert (nothing.utilization, nothing.exhausted) == (1, True)
    assert spent.utilization > 1
    assert spent.document()["utilization"] == 1000.0


def test_several_ledgers_share_the_smallest_limit_and_their_grants() -> None:
    both = together([figures("0.1", limit="60"), figures("0.200000000001", granted="5")])
    assert both == figures("0.300000000001", limit="60", granted="5")


def test_the_document_reads_back_and_has_no_exponents() -> None:
    status = budget_status("0.000000000001", limit="60.3")
    text = json.dumps(status.document())
    assert '"spend_usd": "0.000000000001"' in text
    assert '"by_roaster": {"blue-tokai": "0.000000000001"}' in text
    assert msgspec.json.decode(text, type=BudgetStatus) == status


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spend_usd": "NaN"}, "NaN is not an amount in USD"),
        ({"limit_usd": "Infinity"}, "is not an amount in USD"),
        ({"granted_usd": "9e999999"}, "more than anybody has"),
        ({"by_field": {"notes": "1e-13"}}, "finer than 1 pico-dollar"),
        ({"day": {}}, "missing required field `date` - at `$.day`"),
        ({"logs": [{"path": "a", "state": "lost"}]}, "Invalid enum value 'lost'"),
    ],
)
def test_a_document_that_does_not_fit_is_refused_in_a_sentence(
    change: dict[str, Any], words: str
) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(budget_status("1").document() | change, BudgetStatus)
    assert words in str(refused.value)
