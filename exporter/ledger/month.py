"""The budget of a calendar month: what the ledger has spent of it, and what it leaves a day."""

from calendar import monthrange
from decimal import Decimal

from common.budget_status import MonthFigures
from common.money import picodollars, usd
from exporter.budget.calendars import BudgetDay, Calendars
from exporter.config import Budget
from exporter.ledger.books import Books


def month_of(
    budget: Budget, books: Books, calendars: Calendars, today: BudgetDay
) -> MonthFigures | None:
    """As of a budget day, whose date decides the month; None: no such budget is set.

    The limit counts from the ledger's first day on, or, with an opening balance, as a whole.
    """
    if budget.monthly_limit_usd is None:
        return None
    name, day = f"{today.date:%Y-%m}", today.date
    days = monthrange(day.year, day.month)[1]
    opening, first, left = budget.month_opening_usd.get(name), 1, calendars.days_left(today)
    if opening is None and f"{books.first_day:%Y-%m}" >= name:
        first = min(books.first_day, day).day
    return MonthFigures(
        month=name,
        limit_usd=budget.monthly_limit_usd,
        days=days,
        seen_days=days - first + 1,
        spent_usd=Decimal(usd(books.spent_before(day) + picodollars(opening or 0))),
        opening_usd=opening,
        days_left=left,
        parts=left if budget.monthly_spread == "even" else 1,
    )
