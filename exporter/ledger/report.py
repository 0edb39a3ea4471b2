"""What the accounts of a range of budget days sum up to: exact, and read beside the writer."""

import re
import sqlite3
from calendar import monthrange
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.money import usd
from common.names import RFM
from exporter.budget.calendars import read_calendars
from exporter.ledger.backup import reading
from exporter.ledger.books import UNPRICED_VERSION

MAX_ROWS = 50_000  # bounds an answer: some 12 MB of JSON
GROUPS = {"day": "day", "month": "substr(day, 1, 7)"} | {name: name for name in RFM}
TOKENS = ("input_tokens", "cached_input_tokens", "output_tokens")
_UNPRICED = f"({' + '.join(TOKENS)}) * (price_version = {UNPRICED_VERSION})"
_SUMS = ("success + error + rate_limited", *TOKENS, _UNPRICED, "cost_picodollars")
# In halves: SQLite's sum() fails beyond 64 bits, which is nine million dollars.
_HALVES = ", ".join(f"sum(({each}) >> 32), sum(({each}) & 4294967295)" for each in _SUMS)
_EXTENT = """SELECT min(day), max(day),
    (SELECT value FROM meta WHERE key = 'forgotten') FROM accounts"""
FIGURES = ("calls", *TOKENS, "unpriced_tokens", "cost_usd", "cost_per_call_usd")


def report(ledger: Path, since: str, until: str, by: str, now: float) -> dict[str, Any]:
    """What /api/v1/report answers. now: Unix seconds. Raises UserError, also without any calls.

    since, until: a date, today, 7d (seven days ago) or month (the running one's first or last day).
    by: names of GROUPS with commas. A row has its groups and FIGURES: calls that were made, tokens,
    exact decimal strings of USD; no cost per call where some is withheld. begins: the first day.
    """
    groups = list(dict.fromkeys(by.split(",")))
    if unknown := [name for name in groups if name not in GROUPS]:
        raise UserError(f"cannot sum by {unknown[0]!r}; write some of {','.join(GROUPS)}")
    with reading(ledger) as db:
        today = read_calendars(db).at(now).date
        first, last = day_named(since, today), day_named(until, today, last=True)
        if first > last:
            raise UserError(f"the range begins on {first} and ends before it, on {last}")
        begins, ends, forgotten = db.execute(_EXTENT).fetchone()
        sums = _read(db, groups, first, last)
    if not sums:
        had = f"{begins} to {ends}" if begins else "none yet"
        raise UserError(f"no calls from {first} to {last}; the ledger has {had}")
    total = [sum(column) for column in zip(*(values for _, values in sums), strict=True)]
    rows = [dict(zip(groups, names, strict=True)) | _figures(values) for names, values in sums]
    cut = f"{first}" <= (forgotten or "")
    notes = {
        f"Days until {forgotten} are forgotten, but for calls that waited for a price.": cut,
        f"The ledger begins on {begins}, perhaps not at that day's start.": not forgotten
        and f"{first}" <= begins,
        f"The ledger has nothing after {ends}.": ends < f"{min(last, today - timedelta(1))}",
        f"The day {today} is not over.": last >= today,
        f"The cost of {total[-2]} tokens without a price is missing (reprice).": total[-2],
    }
    head = {"from": f"{first}", "to": f"{last}", "begins": begins, "by": groups, "rows": rows}
    return head | {"total": _figures(total), "notes": [text for text in notes if notes[text]]}


def day_named(text: str, today: date, *, last: bool = False) -> date:
    """Raises UserError. last: whether a month means its last day."""
    if text == "month":
        return today.replace(day=monthrange(today.year, today.month)[1] if last else 1)
    try:
        if ago := re.fullmatch("([0-9]{1,4})d", "0d" if text == "today" else text):
            return today - timedelta(int(ago[1]))
        return date.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"{text!r} is no day; write {today}, today, 7d (ago) or month") from error


def _read(db: sqlite3.Connection, groups: list[str], first: date, last: date) -> list[Any]:
    """Pairs of a group's names and sums: by time, then the dearest first. Raises UserError."""
    count, named = len(groups), ", ".join(GROUPS[name] for name in groups)
    query = (
        f"SELECT {named}, {_HALVES} FROM accounts WHERE day BETWEEN ? AND ? "  # noqa: S608
        f"GROUP BY {', '.join(map(str, range(1, count + 1)))} LIMIT {MAX_ROWS + 1}"
    )
    rows = db.execute(query, (f"{first}", f"{last}")).fetchall()
    if len(rows) > MAX_ROWS:
        raise UserError(f"more than {MAX_ROWS} rows; sum by less, or ask for a shorter range")
    highs_lows = (zip(row[count::2], row[count + 1 :: 2], strict=True) for row in rows)
    sums = ([(high << 32) + low for high, low in halves] for halves in highs_lows)
    times = [index for index, name in enumerate(groups) if name in ("day", "month")]
    found = zip((row[:count] for row in rows), sums, strict=True)
    return sorted(found, key=lambda one: ([one[0][n] for n in times], -one[1][-1], one[0]))


def _figures(sums: list[int]) -> dict[str, Any]:
    calls, unpriced, cost = sums[0], sums[-2], sums[-1]
    each = [usd((2 * cost + calls) // (2 * calls))] if calls and not unpriced else []
    return dict(zip(FIGURES, [*sums[:-1], usd(cost), *each], strict=False))
