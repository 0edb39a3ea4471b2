"""Usage whose cost is withheld, kept by the minute: a later price finds it at its own time."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

from exporter.ledger.books import COLUMNS, Amounts, Series
from exporter.ledger.schema import upsert
from exporter.usage import EXTRAS

CHUNK_ROWS = 5000
# What one minute keeps: an account's columns without money, which is what is missing.
_SUMS = tuple(name for name in COLUMNS if not name.endswith("_picodollars"))
_EXTRAS = tuple(f"extra_{kind}" for kind in EXTRAS)
_KEY = "day, minute, roaster, field, label, model, provider, estimated, extras"
_ADD = upsert("unpriced", _KEY, (*_SUMS, *_EXTRAS), largest="largest_prompt")
_SELECT = (
    f"SELECT id, {_KEY}, largest_prompt, {', '.join((*_SUMS, *_EXTRAS))} FROM unpriced "  # noqa: S608  constants
    "WHERE id > ? AND (? IS NULL OR model = ?) ORDER BY id LIMIT ?"
)


class UnpricedKey(NamedTuple):
    """One minute (Unix time / 60) of one series, model and provider.

    series names the account, with `other` beyond the labels' cap; model is what the call named.
    """

    day: date
    minute: int
    series: Series
    model: str
    provider: str
    estimated: bool
    extras: bool


@dataclass(slots=True)
class Unpriced:
    """What came in such a minute; the prompt lengths that a price could depend on.

    extras: those of the tokens that a list may charge apart, by the kinds of usage.EXTRAS.
    """

    amounts: Amounts = field(default_factory=Amounts)
    largest_prompt: int = 0
    extras: Counter[str] = field(default_factory=Counter)


def add_unpriced(db: sqlite3.Connection, minutes: dict[UnpricedKey, Unpriced]) -> None:
    """Put a batch's unpriced minutes into their table."""
    rows = []
    for (day, minute, series, *rest), item in minutes.items():
        sums = [getattr(item.amounts, name) for name in _SUMS]
        sums += [item.extras[kind] for kind in EXTRAS]
        rows.append((day.isoformat(), minute, *series, *rest, *sums, item.largest_prompt))
    db.executemany(_ADD, rows)


def read_unpriced(
    db: sqlite3.Connection, model: str | None
) -> Iterator[list[tuple[int, UnpricedKey, Unpriced]]]:
    """All unpriced minutes (of a model) with their row ids, in chunks, so that memory is bounded.

    The rows of a chunk may be deleted before the next one is asked for.
    """
    last = 0
    while rows := db.execute(_SELECT, (last, model, model, CHUNK_ROWS)).fetchall():
        yield [_parse(*row) for row in rows]
        last = rows[-1][0]


def _parse(
    identity: int, day: str, minute: int, roaster: str, field: str, label: str, *rest: Any
) -> tuple[int, UnpricedKey, Unpriced]:
    model, provider, estimated, extras, largest_prompt, *sums = rest
    series = Series(roaster, field, label)
    key = UnpricedKey(
        date.fromisoformat(day), minute, series, model, provider, bool(estimated), bool(extras)
    )
    amounts = Amounts(**dict(zip(_SUMS, sums, strict=False)))
    kinds = zip(EXTRAS, sums[len(_SUMS) :], strict=True)
    found = Counter({kind: tokens for kind, tokens in kinds if tokens})
    if extras and not found:  # from before the kinds were kept
        found["unexplained"] = 0
    return identity, key, Unpriced(amounts, largest_prompt, found)
