"""Booking the cost that was withheld, once there is a price: exact, audited, never lowering."""

import sqlite3
from collections import Counter, defaultdict
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


Found = dict[tuple[date, Series, Product], Amounts]
Lines = dict[tuple[date, str], dict[Product, Amounts]]  # by day, and model as the accounts name it


class Repriced(NamedTuple):
    """The report; what the accounts changed by, nothing in a dry run."""

    report: dict[str, Any]
    moved: list[tuple[AccountKey, Amounts]]
    costs: Costs  # of the slots of days


def run(db: sqlite3.Connection, booking: Booking, asked: Reprice, now: float) -> Repriced:
    """Find what has a price now; unless it is a dry run, book it in the caller's transaction."""
    found, costs, withheld = _find(db, booking, asked)
    lines: Lines = defaultdict(lambda: defaultdict(Amounts))
    for (day, series, product), amounts in found.items():
        lines[day, series.model][product].add(amounts)
    report = {
        "dry_run": asked.dry_run,
        "added_usd": usd(sum(amounts.cost_picodollars for amounts in found.values())),
        "lines": [_line(db, *line, products) for line, products in sorted(lines.items())],
        "withheld": [
            {"model": model, "provider": provider, "tokens": tokens}
            for (model, provider), tokens in sorted(withheld.items())
        ],
    }
    if asked.dry_run:
        return Repriced(report, [], Counter())
    moved = _move(db, booking, found)
    add_to_slots(db, costs)
    _audit(db, booking, asked, now, lines)
    return Repriced(report, moved, costs)


def _find(
    db: sqlite3.Connection, booking: Booking, asked: Reprice
) -> tuple[Found, Costs, Counter[tuple[str, str]]]:
    """What has a price now, its minutes forgotten unless it is a dry run; tokens of the rest."""
    found: Found = defaultdict(Amounts)
    costs: Costs = Counter()
    withheld: Counter[tuple[str, str]] = Counter()
    for chunk in read_unpriced(db, asked.model):
        gone = []
        for minute in chunk:
            label, model, provider = minute.series.model, minute.model, minute.provider
            call = (model, provider, minute.minute * 60, minute.largest_prompt)
            # Models beyond the label's cap, which may be many, are looked up by name only.
            look_up = model in (label, asked.model) or model.startswith(f"{label}:")  # in a tier
            prices = booking.prices.find(*call, minute.amounts.requests, look_up=look_up)
            for price, part in priced(minute.amounts, minute.extras, prices, minute.estimated):
                if price is None:
                    withheld[model, provider] += part.tokens
                    continue
                found[minute.day, minute.series, Product(model, provider, price)].add(part)
                slot = slot_of(booking.calendars().on(minute.day), minute.minute * 60)
                costs[minute.day, slot] += part.cost_picodollars
                gone.append((minute.row,))
        if not asked.dry_run:
            db.executemany("DELETE FROM unpriced WHERE id = ?", gone)
    return found, costs, withheld


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
    db: sqlite3.Connection, booking: Booking, asked: Reprice, now: float, lines: Lines
) -> None:
    for (day, label), products in lines.items():
        for (model, provider, price), amounts in products.items():
            what = (day.isoformat(), label, model, provider, booking.version(price))
            tokens = (amounts.input_tokens, amounts.cached_input_tokens, amounts.output_tokens)
            db.execute(
                "INSERT INTO reprices VALUES (NULL, ?,?,?, ?,?,?,?,?, ?,?,?, ?)",
                (now, asked.author, asked.reason, *what, *tokens, amounts.cost_picodollars),
            )


def _line(
    db: sqlite3.Connection, day: date, label: str, products: dict[Product, Amounts]
) -> dict[str, Any]:
    """A day of a model; before anything is moved. Money as exact decimal strings of USD."""
    query = "SELECT cost_picodollars FROM accounts WHERE day = ? AND model = ?"
    costs = db.execute(query, (day.isoformat(), label))
    before = sum(cost for (cost,) in costs)  # sum() of SQL fails beyond 64 bits
    added = sum(amounts.cost_picodollars for amounts in products.values())
    return {
        "day": day.isoformat(),
        "model": label,
        "tokens": sum(amounts.tokens for amounts in products.values()),
        "before_usd": usd(before),
        "added_usd": usd(added),
        "after_usd": usd(before + added),
        "prices": [
            {
                "model": product.model,
                "source": product.price.words,
                "tokens": amounts.tokens,
                "added_usd": usd(amounts.cost_picodollars),
            }
            for product, amounts in products.items()
        ],
    }
