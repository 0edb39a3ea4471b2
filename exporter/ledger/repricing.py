"""Booking the cost that was withheld, once there is a price: exact, audited, never lowering."""

import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from msgspec import Struct

from common.errors import UserError
from common.money import usd
from exporter.ledger.adjustments import Sentence
from exporter.ledger.booking import Booking, priced
from exporter.ledger.books import COLUMNS, UNPRICED_VERSION, AccountKey, Amounts, Series
from exporter.ledger.unpriced import read_unpriced
from exporter.prices.tokenprice import TokenPrice

_FORGET_EMPTY = (
    "DELETE FROM accounts WHERE day = ? AND roaster = ? AND field = ? AND model = ? "  # noqa: S608
    f"AND price_version = {UNPRICED_VERSION} AND {' AND '.join(f'{c} = 0' for c in COLUMNS)}"
)


class Reprice(Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked: to book withheld cost; model None: of every model. dry_run books nothing."""

    author: Sentence
    reason: Sentence
    model: str | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        if not self.author.strip() or not self.reason.strip():
            raise UserError("a reprice needs a reason and an author")


@dataclass(frozen=True, slots=True)
class PricedDay:
    """One price on one day of one model; label is the model's name in the accounts."""

    day: date
    label: str
    model: str
    provider: str
    price: TokenPrice


@dataclass
class Repriced:
    """What a reprice found: sums by part, before (pico-dollars), what has no price still.

    moved: what the accounts changed by, unless it was a dry run.
    """

    dry_run: bool
    parts: dict[PricedDay, Amounts] = field(default_factory=lambda: defaultdict(Amounts))
    before: dict[tuple[date, str], int] = field(default_factory=dict)
    withheld: Counter[tuple[str, str]] = field(default_factory=Counter)
    moved: list[tuple[AccountKey, Amounts]] = field(default_factory=list)


Found = dict[tuple[Series, PricedDay], Amounts]


def run(db: sqlite3.Connection, booking: Booking, asked: Reprice, now: float) -> Repriced:
    """Find what has a price now and, unless it is a dry run, book it; in the caller's transaction.

    Run again, it finds nothing: what is booked is no longer withheld.
    """
    result = Repriced(asked.dry_run)
    found = _find(db, booking, asked, result.withheld)
    for (_, part), amounts in found.items():
        result.parts[part].add(amounts)
    for part in result.parts:
        result.before[part.day, part.label] = _cost(db, part.day, part.label)
    if not asked.dry_run:
        result.moved = _move(db, booking, found)
        _audit(db, booking, asked, now, result)
    return result


def _find(
    db: sqlite3.Connection, booking: Booking, asked: Reprice, withheld: Counter[tuple[str, str]]
) -> Found:
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
                    withheld[model, provider] += part.tokens
                    continue
                day = PricedDay(minute.day, label, model, provider, price)
                found[minute.series, day].add(part)
                gone.append((minute.row,))
        if not asked.dry_run:
            db.executemany("DELETE FROM unpriced WHERE id = ?", gone)
    return found


def _cost(db: sqlite3.Connection, day: date, label: str) -> int:
    query = "SELECT cost_picodollars FROM accounts WHERE day = ? AND model = ?"
    rows = db.execute(query, (day.isoformat(), label))
    return sum(cost for (cost,) in rows)  # SQLite's sum() fails beyond 64 bits


def _move(
    db: sqlite3.Connection, booking: Booking, found: Found
) -> list[tuple[AccountKey, Amounts]]:
    """Carry the amounts from the unpriced accounts to those of their prices."""
    moved = []
    for (series, part), amounts in found.items():
        taken = amounts.minus()
        taken.cost_picodollars = taken.estimated_cost_picodollars = 0  # nothing was booked
        moved.append((AccountKey(part.day, series, UNPRICED_VERSION), taken))
        moved.append((AccountKey(part.day, series, booking.version(part.price)), amounts))
    booking.add_accounts(moved)
    db.executemany(_FORGET_EMPTY, {(part.day.isoformat(), *series) for series, part in found})
    return moved


def _audit(
    db: sqlite3.Connection, booking: Booking, asked: Reprice, now: float, result: Repriced
) -> None:
    rows = [
        (
            *(now, asked.author, asked.reason, part.day.isoformat()),
            *(part.label, part.model, part.provider, booking.version(part.price)),
            *(amounts.input_tokens, amounts.cached_input_tokens, amounts.output_tokens),
            amounts.cost_picodollars,
        )
        for part, amounts in result.parts.items()
    ]
    db.executemany("INSERT INTO reprices VALUES (NULL, ?,?,?,?, ?,?,?,?, ?,?,?,?)", rows)


def report(result: Repriced) -> dict[str, Any]:
    """A line per day and model, money before and after as exact decimal strings of USD."""
    prices: dict[tuple[date, str], list[dict[str, Any]]] = defaultdict(list)
    added: dict[tuple[date, str], int] = defaultdict(int)
    for part, amounts in result.parts.items():
        prices[part.day, part.label].append(_price_line(part, amounts))
        added[part.day, part.label] += amounts.cost_picodollars
    return {
        "dry_run": result.dry_run,
        "added_usd": usd(sum(added.values())),
        "lines": [
            {
                "day": day.isoformat(),
                "model": label,
                "tokens": sum(price["tokens"] for price in prices[day, label]),
                "before_usd": usd(result.before[day, label]),
                "added_usd": usd(added[day, label]),
                "after_usd": usd(result.before[day, label] + added[day, label]),
                "prices": prices[day, label],
            }
            for day, label in sorted(prices)
        ],
        "withheld": [
            {"model": model, "provider": provider, "tokens": tokens}
            for (model, provider), tokens in sorted(result.withheld.items())
        ],
    }


def _price_line(part: PricedDay, amounts: Amounts) -> dict[str, Any]:
    price = part.price
    return {
        "model": part.model,
        "source": " ".join(filter(None, (price.source, price.provider, price.validity))),
        "tokens": amounts.tokens,
        "added_usd": usd(amounts.cost_picodollars),
    }
