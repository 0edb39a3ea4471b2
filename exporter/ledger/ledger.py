"""The ledger: one writer thread, many submissions a transaction, answered when they are on disk."""

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from exporter.config import Config
from exporter.core.clock import Clock
from exporter.core.errors import UserError
from exporter.core.files import FileLock
from exporter.intake.event import UsageEvent
from exporter.ledger import adjustments
from exporter.ledger.adjustments import Adjustment, Booked
from exporter.ledger.booking import Batch, Booking, Outcome
from exporter.ledger.books import COLUMNS, AccountKey, Amounts, Books
from exporter.ledger.calendars import CalendarRow, Calendars, Day
from exporter.ledger.pricing import PriceList
from exporter.ledger.schema import open_ledger

MAX_EVENTS_PER_COMMIT = 20_000
MAX_WAITING_EVENTS = 200_000
PROBE_SECONDS = 2.0  # how often an unwritable ledger is tried again


T = TypeVar("T")


class LedgerUnavailableError(Exception):
    """Nothing was booked; try again. str() says why."""


def unavailable(error: Exception) -> LedgerUnavailableError:
    """The sentence for whoever waits."""
    return LedgerUnavailableError(f"the ledger cannot be written: {error}")


@dataclass
class Submission:
    """Events to book together, or a probe; resolved when it is on disk."""

    events: list[UsageEvent] = field(default_factory=list)
    probe: bool = False
    future: "Future[Outcome]" = field(default_factory=Future)


@dataclass
class Task:
    """Work in a transaction of its own, in its turn between the submissions."""

    work: Callable[[sqlite3.Connection, float], Any]  # database, Unix seconds
    applied: Callable[[Any], None]  # after the commit, with work's result: the picture in memory
    future: "Future[Any]" = field(default_factory=Future)


@dataclass
class IntakeCounters:
    """What the writer did since it started, beside the accounts."""

    overflowed: dict[str, int] = field(default_factory=dict)
    time_adjusted: int = 0


class Ledger:
    """Owns the database. submit() from any thread; books for readers."""

    def __init__(self, path: Path, config: Config, clock: Clock) -> None:
        """Open, migrate, load. Raises UserError when locked, newer, damaged or not writable."""
        self.path = path
        self.clock = clock
        self.counters = IntakeCounters()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path.with_name(path.name + ".lock"), "an exporter")
        except OSError as error:
            raise UserError(f"cannot use the ledger {path}: {error.strerror}") from error
        self._db = open_ledger(path)
        self.calendars = self._set_calendar(config)
        self._booking = Booking(self._db, PriceList(config.prices), config.limits, self.day_of)
        self.books = self._load()
        self._queue: queue.Queue[Submission | Task | None] = queue.Queue()
        self._waiting = 0
        self._waiting_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="ledger-writer")
        self._thread.start()

    def today(self) -> Day:
        """The budget day by the clock."""
        return self.calendars.at(self.clock.now())

    def day_of(self, timestamp: float) -> date:
        """The budget day of an instant (Unix seconds)."""
        return self.calendars.at(timestamp).date

    def submit(self, events: list[UsageEvent]) -> "Future[Outcome]":
        """Book events; the future resolves when they are on disk.

        It raises LedgerUnavailableError when they could not be written: then none of them was.
        """
        return self._enqueue(Submission(events))

    def write(
        self,
        work: Callable[[sqlite3.Connection, float], T],
        applied: Callable[[T], None] = lambda _: None,
    ) -> "Future[T]":
        """Run work(database, now) in a transaction of its own, on the writer thread.

        applied(its result) then brings the picture in memory up to date. The future raises the
        UserError of work, or LedgerUnavailableError; then nothing was written.
        """
        task = Task(work, applied)
        self._queue.put(task)
        return task.future

    def adjust(self, asked: Adjustment) -> "Future[Booked]":
        """Grant money for today, or write off what today has cost so far."""

        def work(db: sqlite3.Connection, now: float) -> Booked:
            return adjustments.book(db, self._booking.ids, asked, self.day_of(now), now)

        def applied(booked: Booked) -> None:
            self.books.adjust(booked.day, booked.kind, booked.picodollars)

        return self.write(work, applied)

    def adjusted_today(self) -> "Future[list[dict[str, Any]]]":
        """Today's grants and resets with reason, author and time."""
        return self.write(lambda db, now: adjustments.of_day(db, self.day_of(now)))

    def reconfigure(self, config: Config) -> "Future[Calendars]":
        """Take prices, label caps and calendar of another config, between two transactions."""
        prices = PriceList(config.prices)

        def work(db: sqlite3.Connection, now: float) -> Calendars:
            rows = self.calendars.change(config.budget.calendar, now)
            if rows != self.calendars.rows:
                _store_calendars(db, rows)
            return Calendars(rows)

        def applied(calendars: Calendars) -> None:
            self.calendars = calendars
            self._booking.prices = prices
            self._booking.labels.cap(config.limits)

        return self.write(work, applied)

    def close(self) -> None:
        """Book what was submitted, then close."""
        self._queue.put(None)
        self._thread.join()
        self._db.close()
        self._lock.close()

    def _enqueue(self, submission: Submission) -> "Future[Outcome]":
        with self._waiting_lock:
            if self._waiting + len(submission.events) > MAX_WAITING_EVENTS:
                raise LedgerUnavailableError("too many events are waiting to be written")
            self._waiting += len(submission.events)
        self._queue.put(submission)
        return submission.future

    def _run(self) -> None:
        while True:
            try:
                first = self._queue.get(timeout=None if self.books.writable else PROBE_SECONDS)
            except queue.Empty:
                self._probe()
                continue
            group, ended = self._group(first)
            self._process(group)
            if ended:
                return

    def _process(self, group: list[Submission | Task]) -> None:
        """In order: neighbouring submissions in one transaction, each task in its own."""
        for _, neighbours in groupby(group, type):
            items = list(neighbours)
            if submissions := [item for item in items if isinstance(item, Submission)]:
                self._commit(submissions)
            for task in (item for item in items if isinstance(item, Task)):
                self._execute(task)

    def _group(self, first: Submission | Task | None) -> tuple[list[Submission | Task], bool]:
        """Everything that waits, up to a commit's size; and whether the end was reached."""
        group: list[Submission | Task] = []
        events = 0
        item = first
        while item is not None:
            group.append(item)
            events += len(item.events) if isinstance(item, Submission) else 0
            if events >= MAX_EVENTS_PER_COMMIT:
                return group, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _commit(self, group: list[Submission]) -> None:
        now = self.clock.now()
        batch = Batch()
        outcomes: list[Outcome] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for submission in group:
                outcomes.append(self._booking.book(submission.events, now, batch))
                if submission.probe:
                    self._db.execute("INSERT OR REPLACE INTO meta VALUES ('probe', ?)", (str(now),))
            self._booking.write(batch)
            self._booking.ids.drop_expired(now)
            self._db.execute("COMMIT")
        except Exception as error:  # whatever it was, nobody may wait for ever
            self._fail(group, batch, error)
            return
        self._applied(batch, now)
        for submission, outcome in zip(group, outcomes, strict=True):
            self._done(submission)
            submission.future.set_result(outcome)

    def _execute(self, task: Task) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            result = task.work(self._db, self.clock.now())
            self._db.execute("COMMIT")
        except Exception as error:  # whatever it was, nobody may wait for ever
            self._roll_back(Batch())
            if isinstance(error, UserError):
                task.future.set_exception(error)
                return
            self.books.writable = False
            task.future.set_exception(unavailable(error))
            return
        with self.books.lock:
            task.applied(result)
        task.future.set_result(result)

    def _applied(self, batch: Batch, now: float) -> None:
        with self.books.lock:
            self.books.book(batch.accounts.items())
            self.books.last_commit = now
            self.books.writable = True
            self.books.size_bytes = self._size()
            for label, count in batch.overflowed.items():
                self.counters.overflowed[label] = self.counters.overflowed.get(label, 0) + count
            self.counters.time_adjusted += batch.adjusted

    def _fail(self, group: list[Submission], batch: Batch, error: Exception) -> None:
        """Nothing was booked: say so to everyone who waits, and try again later."""
        self.books.writable = False
        self._roll_back(batch)
        for submission in group:
            self._done(submission)
            submission.future.set_exception(unavailable(error))

    def _roll_back(self, batch: Batch) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._booking.rolled_back(batch)
        except sqlite3.Error:
            pass  # the disk is worse than thought; the probe finds out when it is back

    def _done(self, submission: Submission) -> None:
        with self._waiting_lock:
            self._waiting -= len(submission.events)

    def _probe(self) -> None:
        """Write something small; when that works the ledger is writable again."""
        self._commit([Submission(probe=True)])

    def _set_calendar(self, config: Config) -> Calendars:
        rows = [
            CalendarRow.parse(*row)
            for row in self._db.execute("SELECT * FROM calendars ORDER BY valid_from")
        ]
        wanted = Calendars(rows).change(config.budget.calendar, self.clock.now())
        if wanted != rows:
            self._db.execute("BEGIN IMMEDIATE")
            _store_calendars(self._db, wanted)
            self._db.execute("COMMIT")
        return Calendars(wanted)

    def _load(self) -> Books:
        """Read the whole ledger's sums."""
        (ledger_id,) = self._db.execute("SELECT value FROM meta WHERE key = 'ledger_id'").fetchone()
        books = Books(ledger_id, size_bytes=self._size())
        columns = ", ".join(COLUMNS)
        query = f"SELECT day, roaster, field, model, price_version, {columns} FROM accounts"  # noqa: S608
        for row in self._db.execute(query):
            key = AccountKey(date.fromisoformat(row[0]), (row[1], row[2], row[3]), row[4])
            books.book([(key, Amounts(*row[5:]))])
            self._booking.labels.learn(key.series)
        query = "SELECT day, kind, picodollars FROM adjustments"
        for day, kind, picodollars in self._db.execute(query):
            books.adjust(date.fromisoformat(day), kind, picodollars)
        return books

    def _size(self) -> int:
        return self.path.stat().st_size


def _store_calendars(db: sqlite3.Connection, rows: list[CalendarRow]) -> None:
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
