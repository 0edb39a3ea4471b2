"""A usage history in a CSV file, by the minute or by time."""

import csv
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from datetime import time as clock
from decimal import Decimal, InvalidOperation
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TextIO

from command.replay.history import EVEN, MAX_DAYS, MINUTES_PER_DAY, History, of_minutes, spread
from common.errors import UserError, words
from common.money import PICODOLLARS_PER_USD
from exporter.ledger.balances import USD

MIDNIGHT = clock()
BLANK = re.compile(r"\s+(?=[+-]|UTC$)")  # before an offset
MAX_LINES = 2 * MAX_DAYS * MINUTES_PER_DAY  # a minute may have several lines
MAX_LINE_CHARACTERS = 16 << 10  # a few kilobytes of .gz may be gigabytes, also in one line
When = tuple[int, datetime | None]  # the minute since some midnight UTC; the time as written
Line = tuple[When, int]  # pico-dollars
Rates = tuple[Decimal | None, Decimal | None]  # USD for a token, for another currency's unit


def read_csv(
    path: Path, usd_per_token: Decimal, called: Mapping[str, str] | None = None
) -> History:
    """The history in a CSV file: columns minute or time (ISO 8601), and cost_usd or tokens.

    Gzip by the suffix .gz; separated by commas, semicolons or tabs. called: the file's names for
    them. Times are of any zone, UTC when they name none; days begin at midnight UTC. Where all
    are dates or midnights, a line is a day's. Raises UserError that names the line.
    """
    minutes: Counter[int] = Counter()
    days: Counter[date | None] = Counter()
    for (minute, time), cost in costs(path, called or {}, (usd_per_token, None)):
        minutes[minute] += cost
        days[time.date() if time and time.time() == MIDNIGHT else None] += cost
    if max(minutes) - min(minutes) >= MAX_DAYS * MINUTES_PER_DAY:
        raise UserError(f"{path} spans more than {MAX_DAYS} days; replay a shorter history")
    if None in days:
        return of_minutes(minutes)
    even = {
        day.toordinal() * MINUTES_PER_DAY + minute: part
        for day, cost in days.items() if day
        for minute, part in enumerate(spread(cost, MINUTES_PER_DAY))
    }  # fmt: skip
    return of_minutes(even, f"{path} has a line a day: {EVEN}")


def costs(path: Path, called: Mapping[str, str], rates: Rates) -> Iterator[Line]:
    """The lines of a file as read_csv has it; of tokens or currencies without a rate: UserError."""
    try:
        # Spreadsheets put a byte order mark before the header.
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield from _rows(path, file, called, rates)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {words(error)}") from error


def _rows(path: Path, file: TextIO, called: Mapping[str, str], rates: Rates) -> Iterator[Line]:
    lines = _bounded_lines(path, file)
    header = next(lines, "")
    mark = max(",;\t", key=header.count)
    form: dict[str, Any] = {"delimiter": mark, "skipinitialspace": True}
    found = [name.strip() for name in next(csv.reader([header], **form), [])]
    when, cost = _columns(path, found, called, COSTS if rates[0] else COSTS[:-1])
    currency = next((name for name in found if name.lower().endswith("currency")), "")
    moment, reader = None, csv.DictReader(lines, found, **form)
    for row in reader:
        where = f"{path}, line {reader.line_num + 1}: "
        moment = READERS[when](row[called.get(when, when)], f"{where}{when}")
        amount = row[called.get(cost, cost)]
        if amount and mark != ",":
            amount = amount.replace(",", ".")  # the decimal comma
        unit = cost if cost == "tokens" else (row.get(currency) or USD).strip().upper()
        usd = _number(amount, f"{where}{cost}") * _rate(unit, rates, where)
        yield moment, int((usd * PICODOLLARS_PER_USD).to_integral_value())
    if moment is None:
        raise UserError(f"{path} has no lines after its header")
    if when == "minute":
        yield (0, None), 0  # minutes count from the first midnight


def _rate(unit: str, rates: Rates, where: str) -> Decimal:
    if not (rate := Decimal(1) if unit == USD else rates[unit != "tokens"]):
        known = "to reconcile it set provider.usd_per_unit in budget.yml, the USD for a"
        raise UserError(f"{where}the currency is {unit[:20]}; {known} {unit[:20]}")
    return rate


def _bounded_lines(path: Path, file: TextIO) -> Iterator[str]:
    """Raises UserError on a line, or a number of lines, that no history has."""
    lines = iter(partial(file.readline, MAX_LINE_CHARACTERS), "")
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        if len(line) == MAX_LINE_CHARACTERS:
            raise UserError(f"{where}: {MAX_LINE_CHARACTERS} characters or more; is this a CSV?")
        if number > MAX_LINES:
            raise UserError(f"{where}: more than {MAX_LINES} lines; take a part of it")
        yield line


def _columns(
    path: Path, found: Sequence[str], called: Mapping[str, str], costs: Sequence[str]
) -> tuple[str, str]:
    """What tells when, and what the cost. Raises UserError with the columns found and wanted."""
    for when, cost in product(READERS, costs):
        if called.get(when, when) in found and called.get(cost, cost) in found:
            return when, cost
    names = " and ".join(f"{known}={name}" for known, name in called.items())
    raise UserError(
        f"{path}, line 1: the columns must be time or minute, and {' or '.join(costs[::2])}"
        f"{f' ({names})' if names else ''}, not {', '.join(found) or 'none'}"
        "; name others with --columns time=…,cost_usd=…"
    )


def _minute(text: str | None, what: str) -> When:
    minute = _number(text, what)
    if minute != int(minute) or minute >= MAX_DAYS * MINUTES_PER_DAY:
        most = f"{MAX_DAYS * MINUTES_PER_DAY} ({MAX_DAYS} days)"
        raise UserError(f"{what} {text!r} is not a whole number below {most}")
    return int(minute), None


def _time(text: str | None, what: str) -> When:
    try:
        time = datetime.fromisoformat(BLANK.sub("", (text or "").strip()).replace("UTC", "Z"))
        instant = (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{what} {text!r} is not an ISO 8601 time") from error
    minute = instant.toordinal() * MINUTES_PER_DAY + instant.hour * 60 + instant.minute
    return minute, time


READERS: dict[str, Callable[[str | None, str], When]] = {"minute": _minute, "time": _time}
COSTS = ("cost_usd", "cost", "tokens")


def _number(text: str | None, what: str) -> Decimal:
    try:
        number = Decimal((text or "").strip())
    except InvalidOperation as error:
        raise UserError(f"{what} {text!r} is not a number") from error
    if not number.is_finite() or number < 0 or number > 10**15:
        raise UserError(f"{what} {text!r} is not a number from 0 to 10^15")
    return number
