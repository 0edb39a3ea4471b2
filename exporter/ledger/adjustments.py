"""Grants, resets and revokes: today's money beside the spend, audited, each counted once."""

import sqlite3
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from common.clock import iso8601
from common.errors import UserError
from common.money import PICODOLLARS_PER_USD, picodollars, usd
from exporter.config import Budget
from exporter.event import digest_of
from exporter.ledger.books import Adjustment, adjustments
from exporter.ledger.ids import IdTables

Kind = Literal["grant", "reset", "revoke"]
Sentence = Annotated[str, Meta(min_length=1, max_length=500)]
MAX_GRANT = 1_000_000 * PICODOLLARS_PER_USD  # a slip of the keyboard, not a day's budget
UNUSUAL = 10  # daily limits: a grant beyond them may be a slip, too


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

    called: ClassVar[str] = "grant, reset or revoke"
    kind: ClassVar[Kind] = "reset"
    id: Annotated[str, Meta(max_length=200)] = ""


class Grant(Reset, frozen=True, kw_only=True, omit_defaults=True):
    """Money for today. amount_usd: in JSON a string or a number, taken exactly.

    roaster: whose own cap it raises for today; empty: the budget. yes: also if it is unusual.
    """

    kind: ClassVar[Kind] = "grant"
    amount_usd: Decimal
    roaster: str = ""
    yes: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < picodollars(self.amount_usd) <= MAX_GRANT:
            raise UserError("a grant must be above 0 and at most 1,000,000 USD")


class Revoke(Reset, frozen=True, kw_only=True):
    """To undo a grant or reset of today by its number."""

    kind: ClassVar[Kind] = "revoke"
    number: int


@dataclass(frozen=True)
class BookedAdjustment:
    """What became of a grant, reset or revoke."""

    day: date
    kind: Kind
    adjustment: Adjustment | None  # None: there was nothing to write off
    duplicate: bool = False  # its id was booked before

    def report(self) -> dict[str, Any]:
        """For the API and the command line. usd: what was booked now, so 0 of a duplicate."""
        one = self.adjustment
        return {
            "number": one and one.number,
            "day": (one.day if one else self.day).isoformat(),
            "kind": self.kind,
            "undone": one.kind if one and one.revokes else "",
            "usd": usd(abs(one.picodollars) if one and not self.duplicate else 0),
            "roaster": one.roaster if one else "",
            "duplicate": self.duplicate,
        }


def book(
    db: sqlite3.Connection, ids: IdTables, asked: Reset, day: date, now: float, budget: Budget
) -> BookedAdjustment:
    """Write a grant, reset or revoke into the ledger, inside the caller's transaction.

    A reset writes off what the day has cost so far, less what was written off before. Raises
    UserError for what cannot be done, and when the id was used for something else.
    """
    if asked.id:  # remembered as an event's is; no provider is empty
        digest = digest_of("", asked.kind, asked.id)
        amount = str(picodollars(getattr(asked, "amount_usd", 0)))
        more = (getattr(asked, name, "") for name in ("roaster", "number"))
        content = digest_of(amount, asked.reason, asked.author, *(str(one) for one in more if one))
        known = ids.find(digest)
        if known == content:
            newest = "WHERE (a.kind, a.request) = (?, ?) ORDER BY a.id DESC"
            found = adjustments(db, newest, asked.kind, asked.id)
            return BookedAdjustment(day, asked.kind, next(found, None), duplicate=True)
        if known is not None:
            raise UserError(f"the id {asked.id!r} was used for a different {asked.kind}")
        ids.add(digest, content, now, now)
    picos, roaster, revokes = _terms(db, asked, day, budget)
    if not picos:
        return BookedAdjustment(day, asked.kind, None)
    row = (day.isoformat(), asked.kind, picos, asked.reason, asked.author, now)
    insert = "INSERT INTO adjustments VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    written = db.execute(insert, (*row, roaster, asked.id, revokes))
    (booked,) = adjustments(db, "WHERE a.id = ?", written.lastrowid)
    return BookedAdjustment(day, asked.kind, booked)


def of_day(db: sqlite3.Connection, day: date) -> list[dict[str, Any]]:
    """A day's adjustments, oldest first; revokes, revoked_by: another's number or None."""
    rows = db.execute(
        """SELECT id AS number, kind, picodollars AS usd, roaster, revokes,
            (SELECT id FROM adjustments WHERE revokes = a.id) AS revoked_by, reason, author, time
        FROM adjustments a WHERE day = ? ORDER BY id""",
        (day.isoformat(),),
    )
    names = [name for name, *_ in rows.description]
    listed = [dict(zip(names, row, strict=True)) for row in rows]
    return [{**one, "usd": usd(one["usd"]), "time": iso8601(one["time"])} for one in listed]


def _terms(
    db: sqlite3.Connection, asked: Reset, day: date, budget: Budget
) -> tuple[int, str, int | None]:
    """Pico-dollars, the roaster that they are for alone, the number that is revoked."""
    match asked:
        case Grant(amount_usd=amount, roaster=roaster):
            if roaster and roaster not in budget.roasters:
                raise UserError(f"{roaster[:80]!r} has no cap in budget.yml for a grant to raise")
            if amount > UNUSUAL * (limit := budget.daily_limit_usd) and not asked.yes:
                much = f"${amount:f} is more than {UNUSUAL} times the daily limit of ${limit:f}"
                raise UserError(f'{much}; if it is meant, say --yes (over HTTP: "yes": true)')
            return picodollars(amount), roaster, None
        case Revoke(number=number):
            undone = _revocable(list(adjustments(db)), number, day)
            return undone.picodollars, undone.roaster, number
    return _unwritten_spend(db, day), "", None


def _revocable(known: list[Adjustment], number: int, day: date) -> Adjustment:
    """The grant or reset of today with this number. Raises UserError when it is none."""
    for one in known:
        if one.revokes == number:
            raise UserError(f"{number} was revoked before, by {one.number}")
    found = [one for one in known if one.number == number and not one.revokes]
    if not found:
        raise UserError(f"{number} is no grant or reset; GET /api/v1/grants, /resets list today's")
    if found[0].day != day:
        raise UserError(f"{number} is a {found[0].kind} of {found[0].day}: it ended with that day")
    return found[0]


def _unwritten_spend(db: sqlite3.Connection, day: date) -> int:
    """Pico-dollars of the day (and after it, if the clock went back) that were not written off."""
    query = "SELECT cost_picodollars FROM accounts WHERE day >= ?"
    # Summed here: SQLite's sum() fails beyond 64 bits.
    spend = sum(int(cost) for (cost,) in db.execute(query, (day.isoformat(),)))
    today = adjustments(db, "WHERE a.day = ?", day.isoformat())
    return max(0, spend - sum(one.picodollars for one in today if one.kind == "reset"))
