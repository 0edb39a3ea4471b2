"""What an exporter says of its budget, in a test."""

from decimal import Decimal
from typing import Any

from common.budget_status import BudgetFigures, BudgetStatus, ReloadStatus, StatusDay

DAY = StatusDay("2026-11-23", 0, 86_400, "UTC", "00:00")


def figures(
    spend: str | Decimal, limit: str = "100", granted: str = "0", written_off: str = "0"
) -> BudgetFigures:
    """Figures of one exporter in USD."""
    return BudgetFigures(
        spend_usd=Decimal(spend),
        written_off_usd=Decimal(written_off),
        granted_usd=Decimal(granted),
        limit_usd=Decimal(limit),
    )


def budget_status(spend: str, limit: str = "100", **more: Any) -> BudgetStatus:
    """The whole document, all of the spend by one roaster for one field."""
    fields: dict[str, Any] = {
        "ledger": "0123456789abcdef",
        "writable": True,
        "now": 43_200.0,
        "day": DAY,
        "spend_usd": Decimal(spend),
        "written_off_usd": Decimal(0),
        "granted_usd": Decimal(0),
        "limit_usd": Decimal(limit),
        "reserve_usd": Decimal(20),
        "requests": 1,
        "by_roaster": {"blue-tokai": Decimal(spend)},
        "by_field": {"notes": Decimal(spend)},
        "unpriced_tokens": 0,
        "config": ReloadStatus("2026-11-23T00:00:00.000Z", None),
        "logs": [],
    }
    return BudgetStatus(**{**fields, **more})
