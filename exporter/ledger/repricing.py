"""Booking the cost that was withheld, once there is a price: exact, audited, never lowering."""

import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date
from typing import Any, ClassVar, NamedTuple

from common.money import usd
from exporter.ledger.adjustments import Asked
from exporter.ledger.booking import Booking, priced
from exporter.ledger.books import COLUMNS, UNPRICED_VERSION, AccountKey, Amounts, Series
from exporter.ledger.course import Costs, add_to_slots, slot_of
from exporter.ledger.unpriced import read_unpriced
from exporter.prices.tokenprice import TokenPrice

_FORGET_EMPTY = (
    "DELETE FROM accounts WHERE day = ? AND roaster = ? AND field = ? AND model = ? "  # noqa: S608
    f"AND price_version = {UNPRICED_VERSION} AND {' AND '.join(f'{c} = 0' for c in COLUMNS)}"
)


class Reprice(Asked, frozen=True):
    """To book withheld cost; model None: of every model. dry_run books nothing."""

    called: ClassVar[str] = "reprice"
    model: str | None = None
    dry_run: bool = False


class Product(NamedTuple):
    """What the calls named, and its price now."""

    model: str
    provider: str
    price: TokenPrice


Line = tuple[date, str]  # a day of a model, by its name in the accounts
Found = dict[tuple[date, Series, Product], Amounts]


@dataclass
class Repriced:
    """What a reprice found: sums by line, before (pico-dollars), what has no price still.

    costs: its course. moved: what the accounts changed by, unless it was a dry run.
    """

    dry_run: bool
    lines: dict[Line, dict[Product, Amounts]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Amounts))
    )
    before: dict[Line, int] = field(default_factory=dict)
    withheld: Counter[tuple[str, str]] = field(default_factory=Counter)
    costs: Costs = field(default_factory=Counter)
    moved: list[tuple[AccountKey, Amounts]] = field(default_factory=list)


def run(db: sqlite3.Connection, booking: Booking, asked: Reprice, now: float) -> Repriced:
    """Find what has a price now and, unless it is a dry run, book it; in the caller's transaction.

    Run again, it finds nothing: what is booked is no longer withheld.
    """
    result = Repriced(asked.dry_run)
    found = _find(db, booking, asked, result)
    for (day, series, product), amounts in found.items():
        result.lines[day, series.model][product].add(amounts)
    for day, label in result.lines:
        query = "SELECT cost_picodollars FROM accounts WHERE day = ? AND model = ?"
        costs = db.execute(query, (day.isoformat(), label))
        result.before[day, label] = sum(cost for (cost,) in costs)  # sum() fails beyond 64 bits
    if not asked.dry_run:
        result.moved = _move(db, booking, found)
        add_to_slots(db, result.costs)
        _audit(db, booking, asked, now, result)
    return result


def _find(db: sqlite3.Connection, booking: Booking, asked: Reprice, result: Repriced) -> Found:
    """What has a price now, its minutes forgotten unless it is a dry run; the rest is withheld."""
    found: Found = defaultdict(Amounts)
    for chunk in read_unpriced(db, asked.model):
        gone = []
        for minute in chunk:
            label, model, provider = minute.series.model, minute.model, minute.provider
            prices = booking.prices.find(
                model,
                provider,
                minute.minute * 60,
                minute.largest_prompt,
                minute.amounts.requests,
                # Models beyond the label's cap, which may be many, are looked up by name only.
                look_up=model in (label, asked.model)
                or model.startswith(f"{label}:"),  # in a service tier
            )
            for price, part in priced(minute.amounts, minute.extras, prices, minute.estimated):
                if price is None:
                    result.withheld[model, provider] += part.tokens
                    continue
                found[minute.day, minute.series, Product(model, provider, price)].add(part)
                slot = slot_of(booking.calendars().on(minute.day), minute.minute * 60)
                result.costs[minute.day, slot] += part.cost_picodollars
                gone.append((minute.row,))
        if not asked.dry_run:
            db.executemany("DELETE FROM unpriced WHERE id = ?", gone)
    return found


def _move(
    db: sqlite3.Connection, booking: Booking, found: Found
) -> list[tuple[AccountKey, Amounts]]:
    """Carry the amounts from the unpriced accounts to those of their prices."""
    moved = []
    for (day, series, product), amounts in found.items():
        taken = amounts.minus()
        taken.cost_picodollars = taken.estimated_cost_picodollars = 0  # nothing was booked
        moved.append((AccountKey(day, series, UNPRICED_VERSION), taken))
        moved.append((AccountKey(day, series, booking.version(product.price)), amounts))
    booking.add_accounts(moved)
    db.executemany(_FORGET_EMPTY, {(day.isoformat(), *series) for day, series, _ in found})
    return moved


def _audit(
    db: sqlite3.Connection, booking: Booking, asked: Reprice, now: float, result: Repriced
) -> None:
    for (day, label), products in result.lines.items():
        for (model, provider, price), amounts in products.items():
            what = (day.isoformat(), label, model, provider, booking.version(price))
            tokens = (amounts.input_tokens, amounts.cached_input_tokens, amounts.output_tokens)
            db.execute(
                "INSERT INTO reprices VALUES (NULL, ?,?,?, ?,?,?,?,?, ?,?,?, ?)",
                (now, asked.author, asked.reason, *what, *tokens, amounts.cost_picodollars),
            )


def report(result: Repriced) -> dict[str, Any]:
    """A line per day and model, money before and after as exact decimal strings of USD."""
    costs = {
        line: sum(amounts.cost_picodollars for amounts in products.values())
        for line, products in result.lines.items()
    }
    return {
        "dry_run": result.dry_run,
        "added_usd": usd(sum(costs.values())),
        "lines": [
            {
                "day": line[0].isoformat(),
                "model": line[1],
                "tokens": sum(amounts.tokens for amounts in result.lines[line].values()),
                "before_usd": usd(result.before[line]),
                "added_usd": usd(cost),
                "after_usd": usd(result.before[line] + cost),
                "prices": [
                    {
                        "model": product.model,
                        "source": product.price.words,
                        "tokens": amounts.tokens,
                        "added_usd": usd(amounts.cost_picodollars),
                    }
                    for product, amounts in result.lines[line].items()
                ],
            }
            for line, cost in sorted(costs.items())
        ],
        "withheld": [
            {"model": model, "provider": provider, "tokens": tokens}
            for (model, provider), tokens in sorted(result.withheld.items())
        ],
    }
