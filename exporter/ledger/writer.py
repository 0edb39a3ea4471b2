"""The one thread that writes: it owns the ledger's connection and its transactions.

What waits is grouped, each in its turn, and answered when it is on disk.
"""

import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from common.clock import Clock
from common.errors import UserError
from exporter.event import UsageEvent
from exporter.ledger.booking import UNSTORABLE, Booking, Submission, SubmissionResult
from exporter.ledger.books import Books
from exporter.ledger.files import LedgerFiles, LogGoneError
from exporter.ledger.progress import LogProgress

MAX_EVENTS_PER_COMMIT = 20_000
MAX_WAITING_EVENTS = 200_000
PROBE_SECONDS = 2.0  # how often an unwritable ledger is tried again
log = logging.getLogger("exporter")
T = TypeVar("T")
Work = Callable[[sqlite3.Connection, float], T]  # by the database and the time, in Unix seconds


class LedgerUnavailableError(Exception):
    """Nothing was booked; try again. str() says why."""


class Writer:
    """Takes submissions and tasks from any thread, and writes them on its own."""

    def __init__(
        self, path: Path, db: sqlite3.Connection, booking: Booking, books: Books, clock: Clock
    ) -> None:
        """db: of the ledger at path; it is the writer's from now on."""
        self._files = LedgerFiles(path)
        self.db = db
        self._booking = booking
        self._books = books
        self._clock = clock
        books.size_bytes = self._files.size()
        self._queue: queue.Queue[Submission | Callable[[], None]] = queue.Queue()
        self._ended = threading.Event()
        self._waiting = 0
        self._waiting_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="ledger-writer")
        self._thread.start()

    def submit(
        self, events: list[UsageEvent], progress: LogProgress | None = None
    ) -> "Future[SubmissionResult]":
        """Book events, and progress with them; the future resolves when both are on disk.

        It raises LedgerUnavailableError when they could not be written: then none of them was. So
        does this, when too many events wait already.
        """
        with self._waiting_lock:
            if self._waiting + len(events) > MAX_WAITING_EVENTS:
                raise LedgerUnavailableError("too many events are waiting to be written")
            self._waiting += len(events)
        submission = Submission(events, progress)
        submission.future.add_done_callback(lambda _: self._release(len(events)))  # cancelled, too
        self._queue.put(submission)
        return submission.future

    def run(self, work: Work[T], applied: Callable[[T], None] = lambda _: None) -> "Future[T]":
        """Run work(database, now) in a transaction of its own, after what waits now.

        applied(its result) then brings the picture in memory up to date. The future raises the
        UserError of work, or LedgerUnavailableError; then nothing was written.
        """
        future: Future[T] = Future()

        def do() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(self._commit(work, applied, (UserError, *UNSTORABLE)))
            except UNSTORABLE:
                full = "an account would pass 64 bits (9.2 million USD); nothing was changed"
                future.set_exception(UserError(full))
            except (UserError, LedgerUnavailableError) as error:
                future.set_exception(error)

        self._queue.put(do)
        return future

    def close(self) -> None:
        """Finish what was handed in, then close the database."""
        if not self._thread.is_alive():
            return
        self._queue.put(self._ended.set)
        self._thread.join()
        self._files.close_database(self.db)

    def _release(self, count: int) -> None:
        with self._waiting_lock:
            self._waiting -= count

    def _run(self) -> None:
        """In order: neighbouring submissions in one transaction, all else in its turn."""
        while not self._ended.is_set():
            group, other = self._wait()
            # A caller that left cancelled its future; one that is running cannot be cancelled.
            if running := [one for one in group if one.future.set_running_or_notify_cancel()]:
                self._book(running)
            if other:
                other()

    def _wait(self) -> tuple[list[Submission], Callable[[], None] | None]:
        """Submissions, up to a commit's size, and what is to be done after them.

        Only a probe when nothing came for a while and nothing can be written.
        """
        group: list[Submission] = []
        events = 0
        try:
            item = self._queue.get(timeout=PROBE_SECONDS)
            while isinstance(item, Submission):
                group.append(item)
                events += len(item.events)
                if events >= MAX_EVENTS_PER_COMMIT:
                    return group, None
                item = self._queue.get_nowait()
            return group, item
        except queue.Empty:
            return (group if group or self._is_well() else [Submission()]), None

    def _book(self, group: list[Submission], carefully: bool = False) -> None:
        """One transaction for all; carefully: after one that held what cannot be stored."""
        try:
            batch = self._commit(
                lambda _, now: self._booking.book(group, now, carefully),
                lambda b: self._books.book(
                    b.accounts.items(), b.overflowed, b.time_adjusted, b.live, b.costs
                ),
                () if carefully else UNSTORABLE,
            )
        except UNSTORABLE:
            self._book(group, carefully=True)
        except LedgerUnavailableError as error:
            for entry in group:
                entry.future.set_exception(LedgerUnavailableError(str(error)))
        else:
            for entry, result in zip(group, batch.results, strict=True):
                entry.future.set_result(result)

    def _commit(
        self, work: Work[T], applied: Callable[[T], None], expected: tuple[type[Exception], ...]
    ) -> T:
        """Do work in a transaction, then bring the picture in memory up to date.

        Raises what is expected, and LedgerUnavailableError for all else: nobody may wait for ever.
        """
        now = self._clock.now()
        try:
            self._begin()
            result = work(self.db, now)
            self.db.execute("INSERT OR REPLACE INTO meta VALUES ('last_commit', ?)", (str(now),))
            self.db.execute("COMMIT")
        except Exception as error:
            self._booking.rolled_back()
            if self.db.in_transaction:
                with contextlib.suppress(sqlite3.Error):  # then _begin tries again
                    self.db.execute("ROLLBACK")
            if isinstance(error, expected):
                raise
            self._set_writable(False, getattr(error, "strerror", None) or str(error))
            raise LedgerUnavailableError(f"the ledger cannot be written: {error}") from error
        with self._books.lock:
            applied(result)
            self._books.last_commit = now
            self._set_writable(True)
        return result

    def _begin(self) -> None:
        """Open a transaction on the ledger's own file. Raises OSError or sqlite3.Error."""
        if self.db.in_transaction:  # rolling back failed, too
            self.db.execute("ROLLBACK")
        try:
            self._files.check()
        except LogGoneError:
            # The connection has it still: what it holds is saved into the file.
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            raise
        self._books.size_bytes = self._files.size()
        self.db.execute("BEGIN IMMEDIATE")

    def _is_well(self) -> bool:
        """Whether the last write worked, and the files are as it left them."""
        with contextlib.suppress(OSError):
            self._files.check()
            return self._books.writable
        return False

    def _set_writable(self, writable: bool, reason: str = "") -> None:
        if writable != self._books.writable:
            log.warning("the ledger %s", "is written again" if writable else f"fails: {reason}")
        self._books.writable, self._books.problem = writable, reason
