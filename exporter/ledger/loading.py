"""Reading a ledger's sums at start: SQLite adds up the years, the last days come one by one."""

import sqlite3
from datetime import date

from exporter.ledger.booking import Booking
from exporter.ledger.books import COLUMNS, RECENT_DAYS, AccountKey, Amounts, Books


def load(db: sqlite3.Connection, booking: Booking, size_bytes: int) -> Books:
    """The books; booking learns the labels and models that stand in them."""
    meta = dict(db.execute("SELECT key, value FROM meta"))
    last_commit = float(meta.get("last_commit", 0))
    books = Books(meta["ledger_id"], last_commit=last_commit, size_bytes=size_bytes)
    _accounts(db, booking, books)
    _repriced(db, booking, books)
    query = "SELECT day, kind, picodollars FROM adjustments"
    for day, kind, picodollars in db.execute(query):
        books.adjust(date.fromisoformat(day), kind, picodollars)
    return books


def _accounts(db: sqlite3.Connection, booking: Booking, books: Books) -> None:
    sums = ", ".join(f"sum({name})" for name in COLUMNS)
    # A year a sum: 64 bits hold nine million dollars of it, and Python adds without a bound.
    query = (
        f"SELECT max(day), roaster, field, model, min(price_version, 1), {sums} FROM accounts "  # noqa: S608
        "GROUP BY CASE WHEN day < ? THEN substr(day, 1, 4) ELSE day END, 2, 3, 4, 5"
    )
    for row in db.execute(query, (_recent_days(db),)):
        key = AccountKey(date.fromisoformat(row[0]), (row[1], row[2], row[3]), row[4])
        books.book([(key, Amounts(*row[5:]))])
        booking.labels.learn(key.series)


def _repriced(db: sqlite3.Connection, booking: Booking, books: Books) -> None:
    query = (
        "SELECT label, sum(input_tokens + cached_input_tokens + output_tokens) "
        "FROM reprices GROUP BY label"
    )
    books.repriced_tokens.update(db.execute(query))
    query = (
        "SELECT DISTINCT accounts.model, prices.provider FROM accounts "
        "JOIN prices ON prices.version = accounts.price_version WHERE prices.provider != ''"
    )
    booking.genai_models.update(db.execute(query))


def _recent_days(db: sqlite3.Connection) -> str:
    """The first of the last RECENT_DAYS days that have accounts."""
    oldest = "9999-12-31"
    for _ in range(RECENT_DAYS):
        query = "SELECT max(day) FROM accounts WHERE day < ?"
        (day,) = db.execute(query, (oldest,)).fetchone()
        oldest = day or oldest
    return oldest
