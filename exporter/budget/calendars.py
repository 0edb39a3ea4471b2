"""Budget days through changes of zone or start: a change applies from the next start.

The day that runs when the change is made ends at the first instant, not before its old end, at
which the new calendar shows a later date; so no two days share a name and none is cut short.
"""

import sqlite3
from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from exporter.budget.day import BudgetCalendar


class CalendarRow(NamedTuple):
    """A calendar in force from valid_from (Unix seconds); previous_day is the date ending there."""

    valid_from: int
    calendar: BudgetCalendar
    previous_day: date


class BudgetDay(NamedTuple):
    """A budget day: its local date, and its bounds in Unix seconds."""

    date: date
    start: int
    end: int


class Calendars:
    """Every calendar that was in force, oldest first; the first one reaches back without end."""

    def __init__(self, rows: list[CalendarRow]) -> None:
        self.rows = rows
        self._found: BudgetDay | None = None  # the last answer: most events fall on one day
        self._on: dict[date, BudgetDay] = {}

    def at(self, timestamp: float) -> BudgetDay:
        day = self._found
        if day is None or not day.start <= timestamp < day.end:
            day = self._found = self._find(timestamp)
        return day

    def on(self, day: date) -> BudgetDay:
        """The budget day of a date; the next one where a change of zone skipped it."""
        found = self._on.get(day) or self._find(datetime.combine(day, time(12), UTC).timestamp())
        while found.date > day:
            found = self._find(found.start - 1)
        while found.date < day:
            found = self._find(found.end)
        return self._on.setdefault(day, found)

    def _find(self, timestamp: float) -> BudgetDay:
        index = self._index(timestamp)
        row, following = self.rows[index], self.rows[index + 1 : index + 2]
        day = row.calendar.day_of(timestamp)
        end = row.calendar.end(day)
        if following and day >= following[0].previous_day:
            day, end = following[0].previous_day, following[0].valid_from
        start = row.calendar.start(day)
        return BudgetDay(day, max(start, row.valid_from) if index else start, end)

    def _index(self, timestamp: float) -> int:
        return max(0, bisect_right(self.rows, timestamp, key=lambda row: row.valid_from) - 1)

    def days_left(self, day: BudgetDay) -> int:
        """Budget days from this one to the end of its month, both included."""
        month, count = (day.date.year, day.date.month), 0
        while (day.date.year, day.date.month) == month:
            day, count = self._find(day.end), count + 1
        return count

    def current(self, timestamp: float) -> BudgetCalendar:
        return self.rows[self._index(timestamp)].calendar

    def change(self, calendar: BudgetCalendar, now: float) -> list[CalendarRow]:
        """The rows after a calendar was configured; a change that is still to come gives way."""
        if not self.rows:
            return [CalendarRow(0, calendar, date.min)]
        if calendar == self.rows[-1].calendar:
            return self.rows
        running = self.at(now)
        rows = [row for row in self.rows if row.valid_from <= now]
        undone = Calendars(rows).at(now)  # the running day, if the change to come is taken back
        if undone.date == running.date and calendar == rows[-1].calendar:
            return rows
        begins = calendar.start(running.date + timedelta(days=1))
        # A day that a change to come already carries beyond its own end turns at the next start.
        stretched = undone.date != running.date
        next_start = calendar.end(calendar.day_of(now)) if stretched else undone.end
        return [*rows, CalendarRow(max(begins, next_start), calendar, running.date)]


def read_calendars(db: sqlite3.Connection) -> Calendars:
    """Those of a ledger; a new one has none."""
    found = [
        CalendarRow(start, BudgetCalendar(zone, time.fromisoformat(at)), date.fromisoformat(day))
        for start, zone, at, day in db.execute("SELECT * FROM calendars ORDER BY valid_from")
    ]
    return Calendars(found)


def set_calendar(
    db: sqlite3.Connection, known: Calendars, calendar: BudgetCalendar, now: float
) -> Calendars:
    """Put a calendar in force, now or from the next start, inside the caller's transaction."""
    wanted = known.change(calendar, now)
    if wanted != known.rows:
        db.execute("DELETE FROM calendars")
        for row in wanted:
            starts_at = row.calendar.day_starts_at.isoformat()
            values = (row.valid_from, row.calendar.timezone, starts_at, str(row.previous_day))
            db.execute("INSERT INTO calendars VALUES (?, ?, ?, ?)", values)
    return Calendars(wanted)
