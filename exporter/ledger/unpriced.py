"""Usage whose cost is withheld, kept by the minute: a later price finds it at its own time."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from exporter.event import UsageEvent
from exporter.ledger.books import COLUMNS, Amounts, Series
from exporter.ledger.schema import upsert
from sdk.client import EXTRAS

CHUNK_ROWS = 5000
# What one minute keeps: an account's columns without money, which is what is missing.
_SUMS = tuple(name for name in COLUMNS if not name.endswith("_picodollars"))
_EXTRAS = tuple(f"extra_{kind}" for kind in EXTRAS)
_KEY = "day, minute, roaster, field, label, model, provider, estimated, extras"
ADD_UNPRICED = upsert("unpriced", _KEY, (*_SUMS, *_EXTRAS), largest=["largest_prompt"])
_SELECT = (
    "SELECT extras, id, day, minute, roaster, field, label, model, provider, estimated, "  # noqa: S608  constants
    f"largest_prompt, {', '.join((*_SUMS, *_EXTRAS))} FROM unpriced "
    "WHERE id > ? AND (? IS NULL OR model = ?) ORDER BY id LIMIT ?"
)


@dataclass(slots=True)
class Unpriced:
    """What came in one minute of one series, model and provider."""

    row: int
    day: date
    minute: int  # Unix time / 60
    series: Series  # of the account, with `other` beyond the labels' cap
    model: str  # as the call named it
    provider: str
    estimated: bool
    largest_prompt: int  # tokens, which a price could depend on
    amounts: Amounts
    extras: dict[str, int]  # those of its tokens that a list may charge apart, by kind


def unpriced_row(event: UsageEvent, day: date, series: Series, amounts: Amounts) -> tuple[Any, ...]:
    """What ADD_UNPRICED adds of an event to its minute."""
    call = (event.product, event.provider, event.estimated, bool(event.extras))
    sums = [getattr(amounts, name) for name in _SUMS]
    extras = [dict(event.extras).get(kind, 0) for kind in EXTRAS]
    minute = int(event.time // 60)
    return (day.isoformat(), minute, *series, *call, *sums, *extras, event.prompt_tokens)


def read_unpriced(db: sqlite3.Connection, model: str | None) -> Iterator[list[Unpriced]]:
    """All unpriced minutes (of a model), in chunks, so that memory is bounded.

    The rows of a chunk may be deleted before the next one is asked for.
    """
    last = 0
    while rows := db.execute(_SELECT, (last, model, model, CHUNK_ROWS)).fetchall():
        yield [_parse(*row) for row in rows]
        last = rows[-1][1]


def _parse(extras: int, row: int, day: str, minute: int, *rest: Any) -> Unpriced:
    roaster, field, label, model, provider, estimated, largest_prompt, *sums = rest
    call = (Series(roaster, field, label), model, provider, bool(estimated), largest_prompt)
    amounts = Amounts(**dict(zip(_SUMS, sums, strict=False)))
    kinds = zip(EXTRAS, sums[len(_SUMS) :], strict=True)
    found = {kind: tokens for kind, tokens in kinds if tokens}
    if extras and not found:  # from before the kinds were kept
        found["unexplained"] = 0
    return Unpriced(row, date.fromisoformat(day), minute, *call, amounts, found)
