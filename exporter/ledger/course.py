"""The course of each budget day: its cost by slots of five minutes, and what of it is unknown."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from itertools import accumulate

from common.money import PICODOLLARS_PER_USD, picodollars, usd
from exporter.budget.calendars import BudgetDay, Calendars
from exporter.ledger.schema import upsert

SLOT_SECONDS = 300
NO_SLOT = -1  # of cost from before courses were kept: of its day only the sum is known
REMEMBERED_DAYS = 40  # history looks back 28, an event may be 35 days late
Course = Counter[int]  # a day's pico-dollars by slot
Costs = Counter[tuple[date, int]]  # pico-dollars by day and slot
Gap = tuple[str, float, float]  # lacks "usage" or its "course"; Unix seconds from and until
_ADD_TO_SLOT = upsert("slots", "day, slot", ("usd", "picodollars"))
_ADD_GAP = "INSERT INTO gaps VALUES (?, ?, ?)"


def slot_of(day: BudgetDay, timestamp: float) -> int:
    """By the instant's minute: unpriced usage keeps no more, and a reprice must find its slot."""
    elapsed = timestamp // 60 * 60 - day.start
    return int(min(max(elapsed, 0), day.end - day.start - 1) // SLOT_SECONDS)


def spent(course: Course, length: int, elapsed: Iterable[int]) -> list[int]:
    """What was spent so many seconds after the start; linear within a slot, rounded down.

    length: seconds that the day has; after them all of it is spent.
    """
    count = -(-length // SLOT_SECONDS)
    before = list(accumulate((course[slot] for slot in range(count)), initial=0))
    sums = []
    for seconds in elapsed:
        slot, rest = divmod(min(seconds, length - 1), SLOT_SECONDS)
        part = course[slot] * rest // min(SLOT_SECONDS, length - slot * SLOT_SECONDS)
        sums.append(before[slot] + part if seconds < length else course.total())
    return sums


def add_to_slots(db: sqlite3.Connection, costs: Costs) -> None:
    """Add to rows of the slots table, inside the caller's transaction."""
    for (day, slot), cost in costs.items():
        if cost:
            db.execute(_ADD_TO_SLOT, (str(day), slot, *divmod(cost, PICODOLLARS_PER_USD)))


def read_courses(db: sqlite3.Connection, first: str) -> dict[date, Course]:
    """Those from a day on. Halves are summed, because SQLite's sum() fails beyond 64 bits."""
    courses = defaultdict[date, Course](Counter)
    for day, slot, whole, rest in db.execute("SELECT * FROM slots WHERE day >= ?", (first,)):
        courses[date.fromisoformat(day)][slot] = whole * PICODOLLARS_PER_USD + rest
    query = """SELECT day, sum(cost_picodollars >> 32), sum(cost_picodollars & 0xffffffff)
        FROM accounts WHERE day >= ? GROUP BY day"""
    for day, high, low in db.execute(query, (first,)):
        course = courses[date.fromisoformat(day)]
        course[NO_SLOT] = (high << 32) + low - course.total()
    return courses


def set_limit(db: sqlite3.Connection, today: date, limit: Decimal) -> None:
    """Record the limit in force; a row holds until the next one, the last of a day counts."""
    db.execute("DELETE FROM limits WHERE day > ?", (str(today),))  # if the clock went back
    newest = db.execute("SELECT usd FROM limits ORDER BY day DESC LIMIT 1").fetchone()
    if newest != (text := usd(picodollars(limit)),):
        db.execute("INSERT OR REPLACE INTO limits VALUES (?, ?)", (str(today), text))


def note_gaps(db: sqlite3.Connection, calendars: Calendars, now: float) -> None:
    """At start: note the time before the ledger, before it kept courses, and since a backup."""
    copied = db.execute("DELETE FROM meta WHERE key = 'copied' RETURNING value").fetchone()
    if copied:
        db.execute(_ADD_GAP, ("usage", float(copied[0]), now))
    if not db.execute("SELECT 1 FROM gaps WHERE began = -1").fetchone():
        (first,) = db.execute("SELECT min(day) FROM accounts").fetchone()
        if first:  # when its first day began to be seen is not known
            db.execute(_ADD_GAP, ("course", -1, now))
        ended = calendars.on(date.fromisoformat(first)).end if first else now
        db.execute(_ADD_GAP, ("usage", -1, ended))
