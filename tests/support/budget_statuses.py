"""What an exporter says of its budget, in a test."""

from decimal import Decimal
from typing import Any

from common.budget_status import BudgetFigures, BudgetStatus, MonthFigures, ReloadStatus, StatusDay

DAY = StatusDay("2026-11-23", 0, 86_400, "UTC", "00:00")


def month(limit: str | Decimal, spent: str | Decimal = "0", **more: Any) -> MonthFigures:
    """The month's budget of one exporter in USD; the last of thirty days unless said otherwise."""
    fields: dict[str, Any] = {
        "month": "2026-11", "days": 30, "seen_days": 30, "days_left": 1, "parts": 1
    }  # fmt: skip
    spent_usd, limit_usd = Decimal(spent), Decimal(limit)
    return MonthFigures(**{**fields, **more}, limit_usd=limit_usd, spent_usd=spent_usd)


def figures(
    spend: str | Decimal,
    limit: str | Decimal = "100",
    granted: str | Decimal = "0",
    written_off: str | Decimal = "0",
    month: MonthFigures | None = None,
) -> BudgetFigures:
    """Figures of one exporter in USD."""
    return BudgetFigures(
        spend_usd=Decimal(spend),
        written_off_usd=Decimal(written_off),
        granted_usd=Decimal(granted),
        limit_usd=Decimal(limit),
        month=month,
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
