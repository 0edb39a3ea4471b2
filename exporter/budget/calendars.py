"""Budget days through changes of zone or start: a change applies from the next start.

The day that runs when the change is made ends at the first instant, not before its old end, at
which the new calendar shows a later date; so no two days share a name and none is cut short.
"""

import sqlite3
from bisect import bisect_right
from dataclasses import dataclass
from datetime import date, time, timedelta

from exporter.budget.day import BudgetCalendar


@dataclass(frozen=True)
class CalendarRow:
    """A calendar in force from valid_from (Unix seconds); previous_day is the date ending there."""

    valid_from: int
    calendar: BudgetCalendar
    previous_day: date

    @classmethod
    def parse(cls, valid_from: int, timezone: str, starts_at: str, previous: str) -> "CalendarRow":
        calendar = BudgetCalendar(timezone, time.fromisoformat(starts_at))
        return cls(valid_from, calendar, date.fromisoformat(previous))


@dataclass(frozen=True)
class BudgetDay:
    """A budget day: its local date, and its bounds in Unix seconds."""

    date: date
    start: int
    end: int


class Calendars:
    """Every calendar that was in force, oldest first; the first one reaches back without end."""

    def __init__(self, rows: list[CalendarRow]) -> None:
        self.rows = rows
        self._found: BudgetDay | None = None  # the last answer: most events fall on one day

    def at(self, timestamp: float) -> BudgetDay:
        """The budget day of an instant."""
        day = self._found
        if day is None or not day.start <= timestamp < day.end:
            day = self._found = self._find(timestamp)
        return day

    def _find(self, timestamp: float) -> BudgetDay:
        index = max(0, bisect_right(self.rows, timestamp, key=lambda row: row.valid_from) - 1)
        row = self.rows[index]
        following = self.rows[index + 1] if index + 1 < len(self.rows) else None
        day = row.calendar.day_of(timestamp)
        if following is not None and day >= following.previous_day:
            day, end = following.previous_day, following.valid_from
        else:
            end = row.calendar.end(day)
        start = row.calendar.start(day)
        return BudgetDay(day, max(start, row.valid_from) if index else start, end)

    def current(self, timestamp: float) -> BudgetCalendar:
        """The calendar in force at an instant."""
        index = bisect_right(self.rows, timestamp, key=lambda row: row.valid_from) - 1
        return self.rows[max(0, index)].calendar

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


def set_calendar(db: sqlite3.Connection, calendar: BudgetCalendar, now: float) -> Calendars:
    """The ledger's calendars with the configured one in force, now or from the next start."""
    rows = [
        CalendarRow.parse(*row) for row in db.execute("SELECT * FROM calendars ORDER BY valid_from")
    ]
    wanted = Calendars(rows).change(calendar, now)
    if wanted != rows:
        db.execute("BEGIN IMMEDIATE")
        store_calendars(db, wanted)
        db.execute("COMMIT")
    return Calendars(wanted)


def store_calendars(db: sqlite3.Connection, rows: list[CalendarRow]) -> None:
    """Replace the table's rows, inside the caller's transaction."""
    db.execute("DELETE FROM calendars")
    db.executemany(
        "INSERT INTO calendars VALUES (?, ?, ?, ?)",
        [
            (
                row.valid_from,
                row.calendar.timezone,
                row.calendar.day_starts_at.isoformat(),
                row.previous_day.isoformat(),
            )
            for row in rows
        ],
    )
