"""A usage history: what each minute cost, from a CSV file or a ledger; a ledger's past days."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from common.errors import UserError
from common.money import PICODOLLARS_PER_USD
from exporter.ledger.backup import reading
from exporter.ledger.books import Books, account

MINUTES_PER_DAY = 1440
MAX_DAYS = 400  # bounds memory; a year and its holidays
SLOT_MINUTES = 5  # of a ledger's course
SLOTS = MINUTES_PER_DAY // SLOT_MINUTES
# Minutes without usage have no line: a day whose first or last line is this near its end is whole.
QUIET_MINUTES = 60
DAYS_AGO = (*range(1, 8), 14, 21, 28)  # the past days that an exporter tells of
# But for days that are forgotten (ledger.keep_days), of which a part may be left.
ACCOUNTS = """SELECT day, cost_picodollars FROM accounts
    WHERE day > coalesce((SELECT value FROM meta WHERE key = 'forgotten'), '')"""
EVEN = "each day's spend is spread evenly, so that only the totals are real"


@dataclass(frozen=True)
class History:
    """Pico-dollars per minute, from the first midnight on. note: what about them is not real."""

    picodollars: list[int]
    note: str = ""
    first_whole: int = 0  # the first day that was seen from its beginning

    @property
    def days(self) -> int:
        """How many days were begun."""
        return -(-len(self.picodollars) // MINUTES_PER_DAY)

    def day(self, number: int) -> list[int]:
        """The minutes of a day; fewer than 1,440 when the history ends in it."""
        start = number * MINUTES_PER_DAY
        return self.picodollars[start : start + MINUTES_PER_DAY]

    def before(self, number: int) -> dict[int, list[int]]:
        """The past days that an exporter would tell of on a day, by how many days ago."""
        return {ago: self.day(number - ago) for ago in DAYS_AGO if number - ago >= self.first_whole}


def of_minutes(minutes: Mapping[int, int], note: str = "") -> History:
    """The history of some minutes' costs; those that are missing cost nothing."""
    first, last = min(minutes), max(minutes)
    midnight, left = first - first % MINUTES_PER_DAY, -(last + 1) % MINUTES_PER_DAY
    end = last + 1 + (left if left < QUIET_MINUTES else 0)
    costs = [minutes.get(minute, 0) for minute in range(midnight, end)]
    return History(costs, note, first_whole=int(first - midnight >= QUIET_MINUTES))


def read_ledger(path: Path) -> History:
    """The days of a ledger, by its slots of five minutes; without them, each spread evenly.

    A day of 25 hours is cut to 24, its last hour's cost at its end. Opened read-only. Raises
    UserError when it is not a ledger or has no cost yet.
    """
    days: Counter[int] = Counter()  # what no slot tells; SQLite's sum() fails beyond 64 bits
    slots: Counter[tuple[int, int]] = Counter()
    with reading(path) as db:
        for day, cost in db.execute(ACCOUNTS):
            days[date.fromisoformat(day).toordinal()] += cost
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'slots'").fetchone():
            for day, slot, usd, rest in db.execute("SELECT * FROM slots"):
                ordinal, cost = (
                    date.fromisoformat(day).toordinal(),
                    usd * PICODOLLARS_PER_USD + rest,
                )
                slots[ordinal, min(slot, SLOTS - 1)] += cost
                days[ordinal] -= cost
    if not days:
        raise UserError(f"the ledger {path} has no cost yet; nothing to replay")
    days = Counter({day: max(0, cost) for day, cost in days.items()})  # slots outlive accounts
    minutes: list[int] = []
    for day in range(max(min(days), max(days) + 1 - MAX_DAYS), max(days) + 1):
        whole = spread(days[day], MINUTES_PER_DAY)
        course = [m for slot in range(SLOTS) for m in spread(slots[day, slot], SLOT_MINUTES)]
        minutes += map(sum, zip(whole, course, strict=True))
    return History(minutes, f"{path}: on some days {EVEN}" if any(days.values()) else "")


def spread(cost: int, minutes: int) -> list[int]:
    """So much, evenly; the sum is exact."""
    share, rest = divmod(cost, minutes)
    return [share + (minute < rest) for minute in range(minutes)]


def past_days(path: Path, count: int, today: date) -> Books:
    """The books of so many whole days before today. Raises UserError when a ledger has none."""
    books, first = Books(""), today - timedelta(count)
    query = "SELECT * FROM accounts WHERE day >= ? AND day < ?"
    with reading(path) as db:
        books.book(map(account, db.execute(query, (f"{first}", f"{today}"))))
    if not books.totals:
        raise UserError(f"{path} has no books from {first} to the day before {today}")
    return books
