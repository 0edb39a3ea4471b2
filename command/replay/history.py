"""A usage history: what each minute cost, from a CSV file or a ledger; a ledger's past days."""

import csv
import gzip
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import TextIO

from common.errors import UserError
from common.money import PICODOLLARS_PER_USD
from exporter.ledger.books import Books, account

MINUTES_PER_DAY = 1440
MAX_DAYS = 400  # bounds memory; a year and its holidays
MAX_LINES = 2 * MAX_DAYS * MINUTES_PER_DAY  # a minute may have several lines
MAX_LINE_CHARACTERS = 16 << 10  # a few kilobytes of .gz may be gigabytes, also in one line
# Minutes without usage have no line: a day whose last line is this near its end is whole.
QUIET_END_MINUTES = 60


@dataclass(frozen=True)
class History:
    """Pico-dollars per minute, from the first midnight (UTC) on."""

    picodollars: list[int]

    @property
    def days(self) -> int:
        """How many days were begun."""
        return -(-len(self.picodollars) // MINUTES_PER_DAY)

    def day(self, number: int) -> list[int]:
        """The minutes of a day; fewer than 1,440 when the history ends in it."""
        start = number * MINUTES_PER_DAY
        return self.picodollars[start : start + MINUTES_PER_DAY]


def read_csv(path: Path, usd_per_token: Decimal) -> History:
    """The history in a CSV file (gzip by the suffix .gz), columns minute and tokens, or cost_usd.

    Minutes that are missing cost nothing, also at the end of a day whose last hour was begun; a
    minute on several lines is summed. Raises UserError that names the line.
    """
    minutes: Counter[int] = Counter()
    try:
        # Spreadsheets put a byte order mark before the header.
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            for minute, cost in _rows(path, file, usd_per_token):
                minutes[minute] += cost
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not minutes:
        raise UserError(f"{path} has no lines after its header; nothing to replay")
    last = max(minutes)
    left = MINUTES_PER_DAY - 1 - last % MINUTES_PER_DAY
    end = last + 1 + (left if left < QUIET_END_MINUTES else 0)
    return History([minutes[minute] for minute in range(end)])


def read_ledger(path: Path) -> History:
    """The days of a ledger, each spread evenly: a ledger keeps days, not minutes.

    Opened read-only. Raises UserError when it is not a ledger or has no cost yet.
    """
    days: Counter[int] = Counter()  # SQLite's sum() fails beyond 64 bits
    with _opened(path) as db:
        for day, cost in db.execute("SELECT day, cost_picodollars FROM accounts"):
            days[date.fromisoformat(day).toordinal()] += cost
    if not days:
        raise UserError(f"the ledger {path} has no cost yet; nothing to replay")
    first = sorted(days)[-MAX_DAYS:][0]
    minutes = []
    for day in range(first, min(max(days) + 1, first + MAX_DAYS)):
        share, rest = divmod(days[day], MINUTES_PER_DAY)
        minutes += [share + (minute < rest) for minute in range(MINUTES_PER_DAY)]
    return History(minutes)


def past_days(path: Path, count: int, today: date) -> Books:
    """The books of so many whole days before today. Raises UserError when a ledger has none."""
    books, first = Books(""), today - timedelta(count)
    query = "SELECT * FROM accounts WHERE day >= ? AND day < ?"
    with _opened(path) as db:
        books.book(map(account, db.execute(query, (f"{first}", f"{today}"))))
    if not books.totals:
        raise UserError(f"{path} has no books from {first} to the day before {today}")
    return books


@contextmanager
def _opened(ledger: Path) -> Iterator[sqlite3.Connection]:
    """Read-only. Raises UserError when what is asked shows that it is not a ledger."""
    try:
        with closing(sqlite3.connect(f"{ledger.resolve().as_uri()}?mode=ro", uri=True)) as db:
            yield db
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise UserError(f"cannot read the ledger {ledger}: {error}") from error


def _rows(path: Path, file: TextIO, usd_per_token: Decimal) -> Iterator[tuple[int, int]]:
    reader = csv.DictReader(_bounded_lines(path, file))
    column, usd_per_unit = _column(path, reader.fieldnames or (), usd_per_token)
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        minute = _number(row["minute"], f"{where}: minute")
        if minute != int(minute) or minute >= MAX_DAYS * MINUTES_PER_DAY:
            raise UserError(
                f"{where}: minute {row['minute']!r} is not a whole number below "
                f"{MAX_DAYS * MINUTES_PER_DAY} ({MAX_DAYS} days)"
            )
        amount = _number(row[column], f"{where}: {column}")
        yield int(minute), int((amount * usd_per_unit * PICODOLLARS_PER_USD).to_integral_value())


def _bounded_lines(path: Path, file: TextIO) -> Iterator[str]:
    """Raises UserError on a line, or a number of lines, that no history has."""
    lines = iter(partial(file.readline, MAX_LINE_CHARACTERS), "")
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        if len(line) == MAX_LINE_CHARACTERS:
            raise UserError(f"{where}: {MAX_LINE_CHARACTERS} characters or more; is this a CSV?")
        if number > MAX_LINES:
            raise UserError(f"{where}: more than {MAX_LINES} lines; replay a shorter history")
        yield line


def _column(path: Path, found: Sequence[str], usd_per_token: Decimal) -> tuple[str, Decimal]:
    """The column that tells the cost, and USD per its unit."""
    units = {"cost_usd": Decimal(1), "cost": Decimal(1), "tokens": usd_per_token}
    for column, usd_per_unit in units.items() if "minute" in found else ():
        if column in found:
            return column, usd_per_unit
    raise UserError(
        f"{path}, line 1: the columns must be minute and tokens (or cost_usd), "
        f"not {', '.join(found) or 'none'}"
    )


def _number(text: str | None, what: str) -> Decimal:
    try:
        number = Decimal((text or "").strip())
    except InvalidOperation as error:
        raise UserError(f"{what} {text!r} is not a number") from error
    if not number.is_finite() or number < 0 or number > 10**15:
        raise UserError(f"{what} {text!r} is not a number from 0 to 10^15")
    return number
