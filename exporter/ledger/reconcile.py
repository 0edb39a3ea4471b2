"""What the provider took, by its balance as polled, against the books of the same time."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from common.clock import iso8601
from common.errors import UserError
from common.money import PICODOLLARS_PER_USD, usd
from exporter.budget.calendars import read_calendars
from exporter.config import Provider
from exporter.ledger.backup import ledger_at
from exporter.ledger.balances import USD, Balance
from exporter.ledger.books import UNPRICED_VERSION
from exporter.ledger.course import NO_SLOT, SLOT_SECONDS, Course, read_courses, spent
from exporter.ledger.report import day_named

DAY = 86_400
UNPOLLED_SECONDS = 900  # a longer silence may hide a top-up
MAX_DAYS = 400
MAX_SILENCES = 5  # that are told, the newest
CENT = PICODOLLARS_PER_USD // 100  # what balances are rounded to
MORE_CHARGED = (
    "More was charged than booked{}: a caller with this key that does not report, refused events, "
    "or prices that are too low?"
)
MORE_BOOKED = (
    "More was booked than charged{}: prices that are too high, calls on another account, or a "
    "balance that follows late?"
)
Steps = dict[str, list[Balance]]  # by currency, the oldest first; in pico-dollars


class Day(Struct, frozen=True):
    """A day of UTC, by which providers bill, or the part of it in the range. Exact USD.

    A rise of the balance is a top-up. difference_usd: charged less booked. None: it was not polled.
    """

    day: str
    booked_usd: str
    charged_usd: str | None = None
    topped_up_usd: str | None = None
    difference_usd: str | None = None


class Reconciliation(Struct, frozen=True):
    """What /api/v1/reconcile answers. since, until: RFC 3339, as far as the balance is known.

    problem: why there is no balance to compare with, or empty. causes: likely ones, in sentences.
    """

    since: str
    until: str
    problem: str
    days: list[Day]
    total: Day
    causes: list[str]


def reconcile(
    ledger: Path, since: str, now: float, provider: Provider | None, *, balance: bool = True
) -> Reconciliation:
    """Read beside the writer. since: a day of UTC as in a report, or an ISO time. UserError.

    balance: False leaves it out, and then the books are told until now.
    """
    began, ended, problem = _instant(since, now), now, ""
    with ledger_at(ledger) as db:
        try:
            try:
                if not balance:
                    raise UserError("the balance was not asked for")
                steps = _steps(db, began, provider)
                ended = min(max(rows[-1].until for rows in steps.values()), now)
                began = min(max(began, min(rows[0].since for rows in steps.values())), ended)
            except UserError as error:
                steps, problem = {}, str(error)
            books = _Books(db, began)
            causes = _known_causes(db, began, ended, books)
        except sqlite3.Error as error:
            raise UserError(f"cannot read the ledger {ledger}: {error}") from error
    moved = _moved(steps, began, ended)
    marks = [began, *range(int(began // DAY + 1) * DAY, int(-(-ended // DAY)) * DAY, DAY), ended]
    # Of a slot that runs, all is of the time until now.
    settled = ended if ended < now - SLOT_SECONDS else now + SLOT_SECONDS
    parts = [
        (a, books.cost(a, settled if b == ended else b), *moved[int(a // DAY)])
        for a, b in pairwise(marks)
    ]
    days = [_day(iso8601(a)[:10], *money, polled=not problem) for a, *money in parts]
    sums = [sum(column) for column in zip(*(money for _, *money in parts), strict=True)]
    total = _day("total", *sums, polled=not problem)
    causes += list(_silences(steps, began, provider, books))[-MAX_SILENCES:]
    causes += [] if problem else usual_causes(days, total)
    return Reconciliation(iso8601(began), iso8601(ended), problem, days, total, causes)


class _Books:
    """What the ledger booked since the budget day of an instant."""

    def __init__(self, db: sqlite3.Connection, began: float) -> None:
        self._calendars = read_calendars(db)
        self.first = f"{self._calendars.at(began).date}"
        self.courses = read_courses(db, self.first)

    def cost(self, began: float, ended: float) -> int:
        """Pico-dollars by the calls' own times, linear within the slots; Unix seconds."""
        total, day = 0, self._calendars.at(began)
        while day.start < ended:
            elapsed = (max(int(instant) - day.start, 0) for instant in (began, ended))
            course = self.courses.get(day.date, Course())
            before, after = spent(course, day.end - day.start, elapsed)
            total, day = total + after - before, self._calendars.at(day.end)
        return total


def _instant(text: str, now: float) -> float:
    """Unix seconds of a day's start in UTC, or of an ISO time, UTC if it names no zone."""
    try:
        time = datetime.fromisoformat(text if ":" in text else "a day")
    except ValueError:
        time = datetime.fromisoformat(f"{day_named(text, datetime.fromtimestamp(now, UTC).date())}")
    began = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    if not now - MAX_DAYS * DAY < began < now:
        raise UserError(f"{text!r} is not within the last {MAX_DAYS} days")
    return began


def _steps(db: sqlite3.Connection, began: float, provider: Provider | None) -> Steps:
    """By currency, from the balance that held then, the pico-dollars. Raises UserError."""
    rate = provider.usd_per_unit if provider else None
    found = defaultdict[str, list[Balance]](list)
    query = """SELECT * FROM balances WHERE until >= ? OR id IN
        (SELECT max(id) FROM balances WHERE since <= ? GROUP BY currency) ORDER BY id"""
    for row in db.execute(query, (began, began)):
        found[row[1]].append(Balance(*row))
    if not found:
        raise UserError("no balance was polled yet: set `provider:` in budget.yml, and its key")
    funded = {one: rows for one, rows in found.items() if any(row.total for row in rows)} or found
    if len(foreign := sorted(funded.keys() - {USD})) > 1:
        both = " and ".join(foreign)
        raise UserError(f"the account is in {both}, and provider.usd_per_unit is one rate")
    return {one: [row.in_usd(rate) for row in rows] for one, rows in funded.items()}


def _moved(steps: Steps, began: float, ended: float) -> dict[int, list[int]]:
    """Pico-dollars by day of UTC since 1970: by how much the balance fell, and rose."""
    moved: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for rows in steps.values():
        for old, new in pairwise(rows):
            change = new.total - old.total
            moved[int(max(began, min(new.since, ended - 1)) // DAY)][change > 0] += abs(change)
    return moved


def _day(name: str, booked: int, charged: int, topped_up: int, *, polled: bool) -> Day:
    money = (usd(charged), usd(topped_up), usd(charged - booked)) if polled else ()
    return Day(name, usd(booked), *money)


def _known_causes(db: sqlite3.Connection, began: float, ended: float, books: _Books) -> list[str]:
    """What the ledger itself knows of why it may be wrong, in sentences."""
    query = f"""SELECT sum((price_version = {UNPRICED_VERSION}) *
            (input_tokens + cached_input_tokens + output_tokens)),
        sum(estimated_cost_picodollars / 1e12) FROM accounts WHERE day >= ?"""  # noqa: S608
    tokens, estimated = db.execute(query, (books.first,)).fetchone()
    query = "SELECT * FROM gaps WHERE kind = 'usage' AND began < ? AND ended > ?"
    gaps = [(max(a, began), min(b, ended)) for _, a, b in db.execute(query, (ended, began))]
    sentences = {
        f"{tokens} tokens have no price and no cost yet (llm-budget reprice).": tokens,
        f"${estimated or 0:.2f} of the books is estimated (usage not reported).": estimated,
        f"Of {len(books.courses)} days some are known by their total only, which counts at their "
        "end.": any(course[NO_SLOT] for course in books.courses.values()),
    }  # fmt: skip
    lacking = [f"The ledger may lack usage from {iso8601(a)} to {iso8601(b)}." for a, b in gaps]
    return [*lacking, *(text for text in sentences if sentences[text])]


def _silences(
    steps: Steps, began: float, provider: Provider | None, books: _Books
) -> Iterator[str]:
    """Where a top-up may be hidden; and what was granted and expired."""
    often = 3 * provider.every_seconds if provider else 0
    for old, new in (pair for rows in steps.values() for pair in pairwise(rows)):
        start, fell = max(old.until, began), old.total - new.total
        silent = new.since - start > max(often, UNPOLLED_SECONDS)
        expired = old.granted - new.granted >= PICODOLLARS_PER_USD
        if not (silent or expired) or abs(fell - (cost := books.cost(start, new.since))) < CENT:
            continue
        between = f"from {iso8601(start)} to {iso8601(new.since)}"
        both = f"it fell by ${usd(fell)} and ${usd(cost)} was booked"
        if silent:
            yield f"The balance was not polled {between}, when {both}; was it topped up in between?"
        else:
            yield f"The granted balance fell {between}, when {both}; did a grant expire?"


def usual_causes(days: list[Day], total: Day) -> list[str]:
    """By the sign of the difference, and by its course."""
    off = {day.day: Decimal(day.difference_usd or 0) for day in days}
    if abs(whole := Decimal(total.difference_usd or 0)) < Decimal("0.01") * len(days):
        return []  # balances are in cents
    parts = [off[one.day] / Decimal(one.booked_usd) for one in days if one.booked_usd != "0"]
    if len(parts) > 2 and max(parts) - min(parts) < Decimal("0.02"):
        return [f"Each day is off by about {sum(parts) / len(parts):+.1%}: are the prices right?"]
    most = max(off, key=lambda day: abs(off[day]))
    when = f", most of it on {most}" if len(off) > 1 and off[most] / whole > Decimal("0.8") else ""
    return [(MORE_CHARGED if whole > 0 else MORE_BOOKED).format(when)]
