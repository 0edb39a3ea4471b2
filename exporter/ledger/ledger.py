"""The ledger: many submissions a transaction, answered when they are on disk."""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from common.clock import Clock
from common.errors import UserError
from common.files import FileLock
from exporter.budget.calendars import Calendars, Day, set_calendar, store_calendars
from exporter.config import Config
from exporter.event import UsageEvent
from exporter.ledger import adjustments, repricing
from exporter.ledger.adjustments import Adjustment, Booked
from exporter.ledger.booking import Batch, Booking, Outcome
from exporter.ledger.loading import load
from exporter.ledger.progress import LogProgress, read_places, write_progress
from exporter.ledger.repricing import Reprice, Repriced
from exporter.ledger.schema import open_ledger
from exporter.ledger.writer import LedgerUnavailableError, Submission, Task, Writer
from exporter.prices.pricelist import PriceList
from exporter.prices.tokenprice import TokenPrice

# An account beyond 64 bits (nine million dollars a day) must not keep others from being booked.
_UNSTORABLE = (OverflowError, sqlite3.IntegrityError)
log = logging.getLogger("exporter")

T = TypeVar("T")


def unavailable(error: Exception) -> LedgerUnavailableError:
    """The sentence for whoever waits."""
    return LedgerUnavailableError(f"the ledger cannot be written: {error}")


@dataclass
class IntakeCounters:
    """What the writer did since it started, beside the accounts."""

    overflowed: dict[str, int] = field(default_factory=dict)
    time_adjusted: int = 0


class Ledger:
    """Owns the database. submit() from any thread; books for readers."""

    def __init__(self, path: Path, config: Config, clock: Clock) -> None:
        """Open, migrate, load. Raises UserError when locked, newer, damaged or not writable."""
        self.path = path = path.resolve()  # one lock, by whichever link it is named
        self.clock = clock
        self.counters = IntakeCounters()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path.with_name(path.name + ".lock"), "an exporter")
        except OSError as error:
            raise UserError(f"cannot use the ledger {path}: {error.strerror}") from error
        try:
            self._db = open_ledger(path)
            self._open(config)
        except UserError:
            self._lock.close()
            raise
        self._writer = Writer(self._commit, self._execute, lambda: self.books.writable)

    def _open(self, config: Config) -> None:
        """Read the books. Raises UserError when the file is damaged or cannot be written."""
        try:
            self._identity = os.stat(self.path)
            self.calendars = set_calendar(self._db, config.budget.calendar, self.clock.now())
            prices = PriceList(config.prices, config.budget.calendar)
            self._booking = Booking(self._db, prices, config.limits, self.day_of)
            self.books = load(self._db, self._booking, self._identity.st_size)
            self.places = read_places(self._db)  # as of the start; the log source keeps them
        except sqlite3.Error as error:
            self._db.close()
            raise UserError(f"cannot open the ledger {self.path}: {error}") from error

    def today(self) -> Day:
        """The budget day by the clock."""
        return self.calendars.at(self.clock.now())

    def day_of(self, timestamp: float) -> date:
        """The budget day of an instant (Unix seconds)."""
        return self.calendars.at(timestamp).date

    def submit(
        self, events: list[UsageEvent], progress: LogProgress | None = None
    ) -> "Future[Outcome]":
        """Book events, and progress with them; the future resolves when both are on disk.

        It raises LedgerUnavailableError when they could not be written: then none of them was.
        """
        return self._writer.submit(Submission(events, progress))

    def write(
        self,
        work: Callable[[sqlite3.Connection, float], T],
        applied: Callable[[T], None] = lambda _: None,
    ) -> "Future[T]":
        """Run work(database, now) in a transaction of its own, on the writer thread.

        applied(its result) then brings the picture in memory up to date. The future raises the
        UserError of work, or LedgerUnavailableError; then nothing was written.
        """
        return self._writer.run(Task(work, applied))

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
        prices = PriceList(config.prices, config.budget.calendar)

        def work(db: sqlite3.Connection, now: float) -> Calendars:
            rows = self.calendars.change(config.budget.calendar, now)
            if rows != self.calendars.rows:
                store_calendars(db, rows)
            return Calendars(rows)

        def applied(calendars: Calendars) -> None:
            self.calendars = calendars
            self._booking.prices = prices
            self._booking.labels.cap(config.limits)

        return self.write(work, applied)

    def reprice(self, wish: Reprice) -> "Future[Repriced]":
        """Book withheld cost that has a price now; the future resolves to what was found."""

        def work(db: sqlite3.Connection, now: float) -> Repriced:
            return repricing.run(db, self._booking, wish, now)

        return self.write(work, lambda done: self.books.move(done.moved))

    def prices_in_force(self) -> dict[str, TokenPrice]:
        """The price by the clock, of every configured model and of those genai-prices priced."""
        return self._booking.prices.in_force(self.clock.now(), dict(self._booking.genai_models))

    def close(self) -> None:
        """Book what was submitted, then close."""
        self._writer.close()
        self._db.close()
        self._lock.close()

    def _commit(self, group: list[Submission]) -> None:
        """One transaction for all of them; apart, if the data of one of them cannot be stored."""
        now = self.clock.now()
        batch = Batch()
        try:
            self._begin()
            outcomes = [self._booking.book(entry.events, now, batch) for entry in group]
            self._booking.write(batch)
            for entry in group:
                if entry.progress:
                    write_progress(self._db, entry.progress, now)
            self._booking.ids.drop_expired(now)
            self._end(now)
        except Exception as error:  # whatever it was, nobody may wait for ever
            self._roll_back(batch)
            if isinstance(error, _UNSTORABLE) and len(group) > 1:
                for submission in group:
                    self._commit([submission])
            else:
                self._fail(group, error)
            return
        self._applied(batch, now)
        for submission, outcome in zip(group, outcomes, strict=True):
            submission.future.set_result(outcome)

    def _execute(self, task: Task) -> None:
        now = self.clock.now()
        try:
            self._begin()
            result = task.work(self._db, now)
            self._end(now)
        except Exception as error:  # whatever it was, nobody may wait for ever
            self._roll_back(Batch())
            if isinstance(error, UserError):
                task.future.set_exception(error)
                return
            self._set_writable(False, str(error))
            task.future.set_exception(unavailable(error))
            return
        with self.books.lock:
            task.applied(result)
            self._committed(now)
        task.future.set_result(result)

    def _begin(self) -> None:
        """Open a transaction on the ledger's own file. Raises OSError or sqlite3.Error."""
        if self._db.in_transaction:  # rolling back failed, too
            self._db.execute("ROLLBACK")
        stat = os.stat(self.path)
        if not os.path.samestat(stat, self._identity):
            raise OSError("its file was replaced; put it back or restart the exporter")
        self.books.size_bytes = stat.st_size  # what only the write-ahead log holds is not in it yet
        self._db.execute("BEGIN IMMEDIATE")

    def _end(self, now: float) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('last_commit', ?)", (str(now),))
        self._db.execute("COMMIT")

    def _applied(self, batch: Batch, now: float) -> None:
        with self.books.lock:
            self.books.book(batch.accounts.items())
            self._committed(now)
            for label, count in batch.overflowed.items():
                self.counters.overflowed[label] = self.counters.overflowed.get(label, 0) + count
            self.counters.time_adjusted += batch.adjusted

    def _committed(self, now: float) -> None:
        self.books.last_commit = now
        self._set_writable(True)

    def _set_writable(self, writable: bool, reason: str = "") -> None:
        if writable != self.books.writable:
            log.warning("the ledger %s", "is written again" if writable else f"fails: {reason}")
        self.books.writable = writable

    def _fail(self, group: list[Submission], error: Exception) -> None:
        """Nothing was booked: say so to everyone who waits, and try again later."""
        self._set_writable(False, str(error))
        for submission in group:
            submission.future.set_exception(unavailable(error))

    def _roll_back(self, batch: Batch) -> None:
        """Nothing was booked: forget it in memory and, if it can be written, on disk."""
        self._booking.rolled_back(batch)
        if self._db.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # then _begin tries again
                self._db.execute("ROLLBACK")
