"""The ledger: what can be asked of the books, answered when it is on disk."""

import contextlib
import sqlite3
from concurrent.futures import Future
from datetime import date
from pathlib import Path
from typing import Any

from common.clock import Clock
from common.errors import UserError
from common.files import FileLock
from exporter.budget.calendars import BudgetDay, Calendars, read_calendars, set_calendar
from exporter.config import Budget, Config
from exporter.event import UsageEvent
from exporter.ledger import adjustments, balances, repricing
from exporter.ledger.adjustments import BookedAdjustment, Reset
from exporter.ledger.balances import Balance
from exporter.ledger.booking import Booking, SubmissionResult
from exporter.ledger.books import read_books
from exporter.ledger.course import note_gaps, set_limit
from exporter.ledger.month import Carry, carry
from exporter.ledger.progress import LogProgress, read_places
from exporter.ledger.repricing import Reprice, Repriced
from exporter.ledger.retention import tidy
from exporter.ledger.schema import open_ledger
from exporter.ledger.writer import Writer
from exporter.prices.pricelist import PriceList
from exporter.prices.tokenprice import TokenPrice

# Of the last commit: a clock that jumped ahead, and may go back, forgets nothing at once.
TIDY_WITHIN_SECONDS = 2 * 86_400


class Ledger:
    """The verbs, from any thread; books for readers. The writer owns the database."""

    def __init__(self, path: Path, config: Config, clock: Clock) -> None:
        """Open, migrate, load. Raises UserError when locked, newer, damaged or not writable."""
        self.path = path = path.resolve()  # one lock, by whichever link it is named
        self.clock = clock
        self._budget = config.budget
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(path.with_name(path.name + ".lock"), "an exporter")
        except OSError as error:
            raise UserError(f"cannot use the ledger {path}: {error.strerror}") from error
        with contextlib.ExitStack() as unless_it_works:
            unless_it_works.enter_context(self._lock)
            prices = PriceList(config.prices, config.budget.calendar)
            db = unless_it_works.enter_context(contextlib.closing(open_ledger(path)))
            try:
                with db:  # commits, or rolls back
                    db.execute("BEGIN")
                    known, now = read_calendars(db), clock.now()
                    self.calendars = in_force(db, known, config.budget, now)
                    note_gaps(db, self.calendars, now)
                    today = (str(self.day_of(now)),)  # where a month's budget begins, if new
                    db.execute("INSERT OR IGNORE INTO meta VALUES ('first_day', ?)", today)
                self.books = read_books(db)
                self._booking = Booking(db, self.books, prices, config, lambda: self.calendars)
                self._keep_days, self._tidied = config.ledger.keep_days, date.min
                self.places = read_places(db)  # as of the start; the log source keeps them
                self.writer = Writer(path, db, self._booking, self.books, clock)
            except (sqlite3.Error, OSError) as error:
                raise UserError(f"cannot open the ledger {path}: {error}") from error
            unless_it_works.pop_all()

    def today(self) -> BudgetDay:
        return self.calendars.at(self.clock.now())

    def day_of(self, timestamp: float) -> date:
        return self.calendars.at(timestamp).date

    def submit(
        self, events: list[UsageEvent], progress: LogProgress | None = None
    ) -> "Future[SubmissionResult]":
        """Book events, and progress with them; see Writer.submit."""
        self._tidy_once_a_day()
        return self.writer.submit(events, progress)

    def keep_balances(self, found: dict[str, tuple[int, int]]) -> "Future[dict[str, Balance]]":
        """Record a poll of the provider's balance: total and granted by currency, millionths."""
        self._tidy_once_a_day()  # before this commit hides that the clock jumped
        return self.writer.run(
            lambda db, now: balances.keep(db, self.books.balances, found, now),
            lambda kept: setattr(self.books, "balances", kept),
        )

    def adjust(self, asked: Reset) -> "Future[BookedAdjustment]":
        """Grant money for today, write off what today has cost so far, or revoke either."""
        ids = self._booking.ids
        return self.writer.run(
            lambda db, now: adjustments.book(db, ids, asked, self.day_of(now), now, self._budget),
            lambda done: self.books.adjust(done.adjustment),
        )

    def adjusted_today(self) -> "Future[list[dict[str, Any]]]":
        """Today's grants, resets and revokes with reason, author and time."""
        return self.writer.run(lambda db, now: adjustments.of_day(db, self.day_of(now)))

    def carry(self, asked: Carry) -> "Future[dict[tuple[str, str], int]]":
        """Answer for what a ledger that is gone had spent of a month."""
        return self.writer.run(
            lambda db, _: carry(db, self.books.ledger_id, self._budget, asked),
            lambda done: setattr(self.books, "carried", {**self.books.carried, **done}),
        )

    def reconfigure(self, config: Config) -> "Future[Calendars]":
        """Take prices, label caps and calendar of another config, between two transactions."""
        prices = PriceList(config.prices, config.budget.calendar)

        def applied(calendars: Calendars) -> None:
            self.calendars, self._budget = calendars, config.budget
            self._keep_days = config.ledger.keep_days
            self._booking.use(prices, config)

        return self.writer.run(
            lambda db, now: in_force(db, self.calendars, config.budget, now), applied
        )

    def reprice(self, asked: Reprice) -> "Future[Repriced]":
        """Book withheld cost that has a price now; the future resolves to what was found."""
        return self.writer.run(
            lambda db, now: repricing.run(db, self._booking, asked, now),
            lambda done: self.books.book(done.moved, costs=done.costs),
        )

    def prices_in_force(self) -> dict[str, TokenPrice]:
        """The price by the clock, of every configured model and of those genai-prices priced."""
        return self._booking.prices.in_force(self.clock.now(), dict(self._booking.genai_models))

    def _tidy_once_a_day(self) -> None:
        if (today := self.today().date) != self._tidied:
            self._tidied = today
            if self.clock.now() < self.books.last_commit + TIDY_WITHIN_SECONDS:
                self._tidy(today)

    def _tidy(self, today: date) -> None:
        """Sum up and forget old days, piece by piece, each behind what waits."""
        self.writer.run(
            lambda db, _: tidy(db, today, self._keep_days),
            lambda more: self._tidy(today) if more else None,
        )

    def close(self) -> None:
        self.writer.close()
        self._lock.close()


def in_force(db: sqlite3.Connection, known: Calendars, budget: Budget, now: float) -> Calendars:
    """Put a budget's calendar and limit in force, inside the caller's transaction."""
    calendars = set_calendar(db, known, budget.calendar, now)
    set_limit(db, calendars.at(now).date, budget.daily_limit_usd)
    return calendars
