"""What the provider took, by its balance as polled, against the books of the same time."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import Any

from common.clock import iso8601
from common.errors import UserError
from common.money import PICODOLLARS_PER_USD, usd
from exporter.budget.calendars import read_calendars
from exporter.config import Provider
from exporter.ledger.backup import reading
from exporter.ledger.balances import USD, Balance
from exporter.ledger.books import UNPRICED_VERSION
from exporter.ledger.course import NO_SLOT, SLOT_SECONDS, Course, read_courses, spent
from exporter.ledger.report import day_named

MAX_DAYS = 400
UNPOLLED_SECONDS = 900  # a longer silence may hide a top-up
MAX_SILENCES = 5  # that are told, the newest
CENT = PICODOLLARS_PER_USD // 100  # what balances are rounded to
COLUMNS = ("charged_usd", "topped_up_usd", "booked_usd", "difference_usd")
MORE_CHARGED = """More was charged than booked{}: a caller with this key that does not report, \
refused events, or prices that are too low?"""
MORE_BOOKED = """More was booked than charged{}: prices that are too high, calls on another \
account, or a balance that follows late?"""
Steps = dict[str, list[Balance]]  # by currency, the oldest first; in pico-dollars
Part = tuple[int | None, int | None, int]  # charged, topped up (None: not known) and booked


def reconcile(
    ledger: Path, since: str, now: float, provider: Provider | None, *, balance: bool = True
) -> dict[str, Any]:
    """What /api/v1/reconcile answers, read beside the writer; its zone is since's. UserError.

    since: of instant(). balance: False leaves it out, and then the books are told until now.
    """
    start, steps, problem = instant(since, now), Steps(), ""
    began, ended, zone = start.timestamp(), now, start.tzinfo
    with reading(ledger) as db:
        try:
            steps = _steps(db, began, provider, balance)
            ended = min(max(rows[-1].until for rows in steps.values()), now)
            began = min(max(began, min(rows[0].since for rows in steps.values())), ended)
        except UserError as error:
            problem = str(error)
        books = _Books(db, began)
        causes = list(_known_causes(db, began, ended, books))
    pairs = [pair for rows in steps.values() for pair in pairwise(rows)]
    moved = Counter[tuple[str, bool]]()  # by how much the balance fell, or rose
    for old, new in pairs:
        day = f"{datetime.fromtimestamp(max(began, min(new.since, ended - 1)), zone).date()}"
        moved[day, new.total > old.total] += abs(new.total - old.total)
    # Of the slots in which polling began and ended, all is of the polled time: who polls books.
    first = began if began == start.timestamp() else books.slot(began)
    bounds = {began: first, ended: max(ended, books.slot(ended - 0.001) + SLOT_SECONDS)}
    parts: dict[str, Part] = {
        day: (
            *((None, None) if problem else (moved[day, False], moved[day, True])),
            books.cost(bounds.get(a, a), bounds.get(b, b)),
        )
        for day, a, b in _days(began, ended, zone)
    }
    often = max(3 * provider.every_seconds if provider else 0, UNPOLLED_SECONDS)
    causes += list(_silences(pairs, began, often, books))[-MAX_SILENCES:]
    told = {"since": iso8601(began), "until": iso8601(ended), "zone": f"{zone}", "problem": problem}
    return told | compare(parts, causes)


def compare(parts: Mapping[str, Part], causes: list[str]) -> dict[str, Any]:
    """The days, their total, and what is likely the cause of a difference; causes: known ones."""
    columns: Any = zip(*parts.values(), strict=True)
    total = [None if None in column else sum(column) for column in columns]
    rows = []
    for day, (charged, topped_up, booked) in (dict[str, Any](parts) | {"total": total}).items():
        off = None if charged is None else charged - booked
        figures = zip(COLUMNS, (charged, topped_up, booked, off), strict=True)
        rows.append({"day": day} | {name: it if it is None else usd(it) for name, it in figures})
    causes = [*causes, *_usual_causes(parts)]
    return {"days": rows[:-1], "total": rows[-1], "causes": causes}


def instant(text: str, now: float, zone: tzinfo = UTC) -> datetime:
    """A day's start as in a report, or an ISO time; of that zone if it names none. UserError."""
    try:
        found = datetime.fromisoformat(text if ":" in text else "a day")
    except ValueError:
        found = datetime.combine(day_named(text, datetime.fromtimestamp(now, zone).date()), time())
    found = found if found.tzinfo else found.replace(tzinfo=zone)
    if not now - MAX_DAYS * 86_400 < found.timestamp() < now:
        raise UserError(f"{text!r} is not within the last {MAX_DAYS} days")
    return found


class _Books:
    """What the ledger booked since the budget day of an instant."""

    def __init__(self, db: sqlite3.Connection, began: float) -> None:
        self._calendars = read_calendars(db)
        self.first = f"{self._calendars.at(began).date}"
        self.courses = read_courses(db, self.first)

    def slot(self, at: float) -> float:
        """When the slot of an instant began."""
        return at - (at - self._calendars.at(at).start) % SLOT_SECONDS

    def cost(self, began: float, ended: float) -> int:
        """Pico-dollars by the calls' own times, linear within the slots; Unix seconds."""
        total, day = 0, self._calendars.at(began)
        while day.start < ended:
            elapsed = (max(int(instant) - day.start, 0) for instant in (began, ended))
            course = self.courses.get(day.date, Course())
            before, after = spent(course, day.end - day.start, elapsed)
            total, day = total + after - before, self._calendars.at(day.end)
        return total


def _steps(db: sqlite3.Connection, began: float, provider: Provider | None, asked: bool) -> Steps:
    """From the balance that held then. Raises UserError."""
    found, rate = defaultdict[str, list[Balance]](list), provider.usd_per_unit if provider else None
    query = """SELECT * FROM balances WHERE until >= ? OR id IN
        (SELECT max(id) FROM balances WHERE since <= ? GROUP BY currency) ORDER BY id"""
    for row in db.execute(query, (began, began)) if asked else ():
        found[row[1]].append(Balance(*row))
    if not found:
        none = "no balance was polled yet: set `provider:` in budget.yml, and its key"
        raise UserError(none if asked else "the balance was not asked for")
    funded = {one: rows for one, rows in found.items() if any(row.total for row in rows)} or found
    if len(foreign := sorted(funded.keys() - {USD})) > 1:
        both = " and ".join(foreign)
        raise UserError(f"the account is in {both}, and provider.usd_per_unit is one rate")
    return {one: [row.in_usd(rate) for row in rows] for one, rows in funded.items()}


def _days(began: float, ended: float, zone: tzinfo | None) -> Iterator[tuple[str, float, float]]:
    """Each day of the range, and from when until when it is in it."""
    start, day = began, datetime.fromtimestamp(began, zone).date()
    while (end := datetime.combine(day + timedelta(1), time(), zone).timestamp()) < ended:
        yield f"{day}", start, end
        start, day = end, day + timedelta(1)
    yield f"{day}", start, ended


def _known_causes(
    db: sqlite3.Connection, began: float, ended: float, books: _Books
) -> Iterator[str]:
    """What the ledger itself knows of why it may be wrong, in sentences."""
    query = "SELECT began, ended FROM gaps WHERE kind = 'usage' AND began < ? AND ended > ?"
    for a, b in db.execute(query, (ended, began)):
        both = f"{iso8601(max(a, began))} to {iso8601(min(b, ended))}"
        yield f"The ledger may lack usage from {both}."
    query = f"""SELECT total((price_version = {UNPRICED_VERSION}) *
            (input_tokens + cached_input_tokens + output_tokens)),
        total(estimated_cost_picodollars / 1e12) FROM accounts WHERE day >= ?"""  # noqa: S608
    tokens, estimated = db.execute(query, (books.first,)).fetchone()
    sentences = {
        f"{tokens:.0f} tokens have no price and no cost yet (llm-budget reprice).": tokens,
        f"${estimated:.2f} of the books is estimated (usage not reported).": estimated,
        f"Of {len(books.courses)} days some are known by their total only, which counts at their "
        "end.": any(course[NO_SLOT] for course in books.courses.values()),
    }  # fmt: skip
    yield from (text for text in sentences if sentences[text])


def _silences(
    pairs: list[tuple[Balance, Balance]], began: float, often: int, books: _Books
) -> Iterator[str]:
    """Where a top-up may be hidden; and what was granted and expired."""
    for old, new in pairs:
        start, fell = max(old.until, began), old.total - new.total
        silent = new.since - start > often
        expired = old.granted - new.granted >= PICODOLLARS_PER_USD
        if not (silent or expired) or abs(fell - (cost := books.cost(start, new.since))) < CENT:
            continue
        when = f"from {iso8601(start)} to {iso8601(new.since)}, when it fell by ${usd(fell)} and"
        when = f"{when} ${usd(cost)} was booked"
        if silent:
            yield f"The balance was not polled {when}; was it topped up in between?"
        else:
            yield f"The granted balance fell {when}; did a grant expire?"


def _usual_causes(parts: Mapping[str, Part]) -> Iterator[str]:
    """By the sign of the difference, and by its course."""
    off = {
        day: charged - booked for day, (charged, _, booked) in parts.items() if charged is not None
    }
    if abs(whole := sum(off.values())) < CENT * max(len(off), 1):
        return  # balances are in cents
    shares = [off[day] / parts[day][2] for day in off if parts[day][2]]
    if len(shares) > 2 and max(shares) - min(shares) < 0.02:
        yield f"Each day is off by about {sum(shares) / len(shares):+.1%}: are the prices right?"
        return
    most = max(off, key=lambda day: abs(off[day]))
    when = f", most of it on {most}" if len(off) > 1 and off[most] / whole > 0.8 else ""
    yield (MORE_CHARGED if whole > 0 else MORE_BOOKED).format(when)
