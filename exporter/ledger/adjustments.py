"""Grants and resets: today's money beside the spend, audited, each counted once."""

import sqlite3
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from common.clock import iso8601
from common.errors import UserError
from common.money import PICODOLLARS_PER_USD, picodollars, usd
from exporter.event import digest_of
from exporter.ledger.ids import IdTables

Kind = Literal["grant", "reset"]
Sentence = Annotated[str, Meta(min_length=1, max_length=500)]
MAX_GRANT = 1_000_000 * PICODOLLARS_PER_USD  # a slip of the keyboard, not a day's budget


class Asked(Struct, frozen=True, forbid_unknown_fields=True):
    """What a person asks for, and why."""

    called: ClassVar[str]
    author: Sentence
    reason: Sentence

    def __post_init__(self) -> None:
        if not self.author.strip() or not self.reason.strip():
            raise UserError(f"a {self.called} needs a reason and an author")


class Reset(Asked, frozen=True, kw_only=True):
    """To write off what today has cost so far.

    id: makes a retry harmless; empty: each request counts.
    """

    called: ClassVar[str] = "grant or reset"
    kind: ClassVar[Kind] = "reset"
    id: Annotated[str, Meta(max_length=200)] = ""


class Grant(Reset, frozen=True, kw_only=True):
    """Money for today. amount_usd: in JSON a string or a number, taken exactly."""

    kind: ClassVar[Kind] = "grant"
    amount_usd: Decimal

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < picodollars(self.amount_usd) <= MAX_GRANT:
            raise UserError("a grant must be above 0 and at most 1,000,000 USD")


@dataclass(frozen=True)
class BookedAdjustment:
    """What became of a grant or reset; duplicate: its id was booked before, nothing changed.

    epoch: its number in the ledger, 0 when nothing was written.
    """

    day: date
    kind: Kind
    picodollars: int = 0
    duplicate: bool = False
    epoch: int = 0

    def report(self) -> dict[str, Any]:
        """For the API and the command line."""
        return {
            "day": self.day.isoformat(),
            "kind": self.kind,
            "usd": usd(self.picodollars),
            "duplicate": self.duplicate,
        }


def book(
    db: sqlite3.Connection, ids: IdTables, asked: Reset, day: date, now: float
) -> BookedAdjustment:
    """Write a grant or reset into the ledger, inside the caller's transaction.

    A reset writes off what the day has cost so far, less what was written off before. Raises
    UserError when the id was used for something else.
    """
    granted = picodollars(asked.amount_usd) if isinstance(asked, Grant) else 0
    if asked.id:  # remembered as an event's is; no provider is empty
        digest = digest_of("", asked.kind, asked.id)
        content = digest_of(str(granted), asked.reason, asked.author)
        known = ids.find(digest)
        if known == content:
            return BookedAdjustment(day, asked.kind, duplicate=True)
        if known is not None:
            raise UserError(f"the id {asked.id!r} was used for a different {asked.kind}")
        ids.add(digest, content, now, now)
    amount = granted or _unwritten_spend(db, day)
    if not amount:
        return BookedAdjustment(day, asked.kind)
    row = (day.isoformat(), asked.kind, amount, asked.reason, asked.author, now)
    written = db.execute("INSERT INTO adjustments VALUES (NULL, ?, ?, ?, ?, ?, ?)", row)
    return BookedAdjustment(day, asked.kind, amount, epoch=written.lastrowid or 0)


def of_day(db: sqlite3.Connection, day: date) -> list[dict[str, Any]]:
    """A day's grants and resets, oldest first: the audit trail."""
    rows = db.execute(
        "SELECT kind, picodollars, reason, author, time FROM adjustments WHERE day = ? ORDER BY id",
        (day.isoformat(),),
    )
    return [
        {"kind": kind, "usd": usd(amount), "reason": reason, "author": author, "time": iso8601(at)}
        for kind, amount, reason, author, at in rows
    ]


def _unwritten_spend(db: sqlite3.Connection, day: date) -> int:
    """Pico-dollars of the day (and after it, if the clock went back) that were not written off."""
    query = """SELECT cost_picodollars FROM accounts WHERE day >= :day UNION ALL
        SELECT -picodollars FROM adjustments WHERE day = :day AND kind = 'reset'"""
    # Summed here: SQLite's sum() fails beyond 64 bits.
    return max(0, sum(int(amount) for (amount,) in db.execute(query, {"day": day.isoformat()})))
