"""The ledger: one writer thread, many submissions a transaction, answered when they are on disk."""

import queue
import sqlite3
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from exporter.config import Config
from exporter.core.clock import Clock
from exporter.core.errors import UserError
from exporter.core.files import FileLock
from exporter.intake.event import UsageEvent
from exporter.ledger.booking import Batch, Booking, Outcome
from exporter.ledger.books import COLUMNS, AccountKey, Amounts, Books
from exporter.ledger.calendars import CalendarRow, Calendars, Day
from exporter.ledger.pricing import PriceList
from exporter.ledger.schema import open_ledger

MAX_EVENTS_PER_COMMIT = 20_000
MAX_WAITING_EVENTS = 200_000
PROBE_SECONDS = 2.0  # how often an unwritable ledger is tried again


class LedgerUnavailableError(Exception):
    """Nothing was booked; try again. str() says why."""


@dataclass
class Submission:
    """Events to book together, an adjustment, or a probe; resolved when it is on disk."""

    events: list[UsageEvent] = field(default_factory=list)
    adjustment: tuple[str, int, str, str] | None = None  # kind, pico-dollars, reason, author
    probe: bool = False
    future: "Future[Outcome]" = field(default_factory=Future)


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
        self._queue: queue.Queue[Submission | None] = queue.Queue()
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

    def adjust(self, kind: str, picodollars: int, reason: str, author: str) -> "Future[Outcome]":
        """Grant money for today (kind "grant"), or write off ("reset")."""
        return self._enqueue(Submission(adjustment=(kind, picodollars, reason, author)))

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
            if group:
                self._commit(group)
            if ended:
                return

    def _group(self, first: Submission | None) -> tuple[list[Submission], bool]:
        """Everything that waits, up to a commit's size; and whether the end was reached."""
        group: list[Submission] = []
        events = 0
        item = first
        while item is not None:
            group.append(item)
            events += len(item.events)
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
        adjustments: list[tuple[str, int]] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for submission in group:
                outcomes.append(self._booking.book(submission.events, now, batch))
                if submission.adjustment:
                    adjustments.append(self._adjust(*submission.adjustment, now))
                if submission.probe:
                    self._db.execute("INSERT OR REPLACE INTO meta VALUES ('probe', ?)", (str(now),))
            self._booking.write(batch)
            self._booking.ids.drop_expired(now)
            self._db.execute("COMMIT")
        except Exception as error:  # whatever it was, nobody may wait for ever
            self._fail(group, batch, error)
            return
        self._applied(batch, adjustments, now)
        for submission, outcome in zip(group, outcomes, strict=True):
            self._done(submission)
            submission.future.set_result(outcome)

    def _adjust(
        self, kind: str, picodollars: int, reason: str, author: str, now: float
    ) -> tuple[str, int]:
        day = self.day_of(now).isoformat()
        self._db.execute(
            "INSERT INTO adjustments (day, kind, picodollars, reason, author, time) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (day, kind, picodollars, reason, author, now),
        )
        return kind, picodollars

    def _applied(self, batch: Batch, adjustments: list[tuple[str, int]], now: float) -> None:
        with self.books.lock:
            self.books.book(batch.accounts.items())
            for kind, picodollars in adjustments:
                self.books.adjust(self.day_of(now), kind, picodollars)
            self.books.last_commit = now
            self.books.writable = True
            self.books.size_bytes = self._size()
            for label, count in batch.overflowed.items():
                self.counters.overflowed[label] = self.counters.overflowed.get(label, 0) + count
            self.counters.time_adjusted += batch.adjusted

    def _fail(self, group: list[Submission], batch: Batch, error: Exception) -> None:
        """Nothing was booked: say so to everyone who waits, and try again later."""
        self.books.writable = False
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._booking.rolled_back(batch)
        except sqlite3.Error:
            pass  # the disk is worse than thought; the probe finds out when it is back
        for submission in group:
            self._done(submission)
            submission.future.set_exception(
                LedgerUnavailableError(f"the ledger cannot be written: {error}")
            )

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
            self._store_calendars(wanted)
        return Calendars(wanted)

    def _store_calendars(self, rows: list[CalendarRow]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("DELETE FROM calendars")
        self._db.executemany(
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
        self._db.execute("COMMIT")

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
