"""Usage whose cost is withheld, kept by the minute: a later price finds it at its own time."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

from exporter.ledger.books import Amounts, Series

CHUNK_ROWS = 5000
# What one minute keeps: an account's columns without money, which is what is missing.
_SUMS = (
    "success, error, rate_limited, cached, fallback, input_tokens, cached_input_tokens, "
    "output_tokens, batch_items, batch_slots"
)
_ADD = ", ".join(f"{name} = {name} + excluded.{name}" for name in _SUMS.split(", "))
_KEY = "day, minute, roaster, field, label, model, provider, estimated, extras"
_UPSERT = (
    f"INSERT INTO unpriced ({_KEY}, largest_prompt, {_SUMS}) "  # noqa: S608  constants
    f"VALUES ({', '.join('?' * 20)}) ON CONFLICT ({_KEY}) DO UPDATE SET {_ADD}, "
    "largest_prompt = max(largest_prompt, excluded.largest_prompt)"
)
_SELECT = (
    f"SELECT id, {_KEY}, largest_prompt, {_SUMS} FROM unpriced "  # noqa: S608  constants
    "WHERE id > ? AND (? IS NULL OR model = ?) ORDER BY id LIMIT ?"
)


@dataclass(frozen=True, slots=True)
class UnpricedKey:
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
    """What came in such a minute; the prompt lengths that a price could depend on."""

    amounts: Amounts = field(default_factory=Amounts)
    largest_prompt: int = 0

    @property
    def calls(self) -> int:
        return self.amounts.requests


def add_unpriced(db: sqlite3.Connection, minutes: dict[UnpricedKey, Unpriced]) -> None:
    """Put a batch's unpriced minutes into their table."""
    db.executemany(
        _UPSERT,
        [
            (
                *(key.day.isoformat(), key.minute, *key.series),
                *(key.model, key.provider, key.estimated, key.extras, item.largest_prompt),
                *(getattr(item.amounts, name) for name in _SUMS.split(", ")),
            )
            for key, item in minutes.items()
        ],
    )


def read_unpriced(
    db: sqlite3.Connection, model: str | None
) -> Iterator[list[tuple[int, UnpricedKey, Unpriced]]]:
    """All unpriced minutes (of a model) with their row ids, in chunks, so that memory is bounded.

    The rows of a chunk may be deleted before the next one is asked for.
    """
    last = 0
    while rows := db.execute(_SELECT, (last, model, model, CHUNK_ROWS)).fetchall():
        yield [_parse(row) for row in rows]
        last = rows[-1][0]


def _parse(row: tuple[int, ...]) -> tuple[int, UnpricedKey, Unpriced]:
    identity, day, minute, roaster, name, label, model, provider, *flags = row[:10]
    series = (str(roaster), str(name), str(label))
    estimated, extras = map(bool, flags)
    when = date.fromisoformat(str(day))
    key = UnpricedKey(when, minute, series, str(model), str(provider), estimated, extras)
    largest, *sums = row[10:]
    amounts = Amounts(**dict(zip(_SUMS.split(", "), sums, strict=True)))
    return identity, key, Unpriced(amounts, largest)
