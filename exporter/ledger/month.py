"""The budget of a calendar month: what the ledger has spent of it, and what it leaves a day."""

import logging
import sqlite3
from calendar import monthrange
from decimal import Decimal
from typing import Annotated, ClassVar

from msgspec import Meta

from common.budget_status import MonthFigures
from common.errors import UserError
from common.money import picodollars, usd
from exporter.budget.calendars import BudgetDay, Calendars
from exporter.config import Budget
from exporter.ledger.adjustments import MAX_GRANT, Asked
from exporter.ledger.books import CARRIED, Books

log = logging.getLogger("exporter")


class Carry(Asked, frozen=True, kw_only=True):
    """What a ledger that is gone had spent of a month: this one answers for it from now on.

    Again, for the same ledger and month: the later amount counts.
    """

    called: ClassVar[str] = "hand-over"
    ledger: Annotated[str, Meta(pattern="^[0-9A-Za-z]{1,64}$")]
    month: Annotated[str, Meta(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")]
    amount_usd: Decimal

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= picodollars(self.amount_usd) <= MAX_GRANT:
            raise UserError("a hand-over must be an amount from 0 to 1,000,000 USD")


def carry(
    db: sqlite3.Connection, own: str, budget: Budget, asked: Carry
) -> dict[tuple[str, str], int]:
    """Write a hand-over into the ledger; pico-dollars by month and ledger. Raises UserError."""
    if budget.monthly_limit_usd is None:
        raise UserError("no monthly_limit_usd is set here: nothing is counted by month")
    if asked.ledger == own:
        raise UserError(f"{own} is this ledger: it counts its own spend")
    booked = picodollars(asked.amount_usd)
    key = f"{CARRIED}{asked.month} {asked.ledger}"
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, str(booked)))
    said = (asked.author, asked.amount_usd, asked.ledger, asked.month, asked.reason)
    log.info("%a hands over $%s that ledger %s had spent in %s: %a", *said)
    return {(asked.month, asked.ledger): booked}


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
        carried_usd={
            ledger: Decimal(usd(cost)) for (of, ledger), cost in books.carried.items() if of == name
        },
        days_left=left,
        parts=left if budget.monthly_spread == "even" else 1,
    )
