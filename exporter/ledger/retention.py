"""What happens to old days, a day at a time: they are summed up, and forgotten."""

import sqlite3
from datetime import date, timedelta

from exporter.ledger.books import COLUMNS, RECENT_DAYS, recent_days
from exporter.ledger.schema import upsert

OPEN_DAYS = 36  # an event may be 35 days late
SLOT_DAYS = 60
ADD_TO_CLOSED = upsert("closed", "roaster, field, model, price_version", COLUMNS)
_OF_DAY = f"""SELECT roaster, field, model, min(price_version, 1), {", ".join(COLUMNS)}
    FROM accounts WHERE day = ?"""  # noqa: S608  constants
# The oldest day. Usage that waits for a price stays: `llm-budget reprice` moves it.
_FORGET = """DELETE FROM accounts WHERE {0} AND day =
    (SELECT min(day) FROM accounts WHERE {0} AND day <= ? AND day < ?) RETURNING day""".format(  # noqa: S608  constants
    "(price_version > 0 OR input_tokens + cached_input_tokens + output_tokens = 0)"
)

_NOTE_FORGOTTEN = """INSERT INTO meta VALUES ('forgotten', ?)
    ON CONFLICT DO UPDATE SET value = max(value, excluded.value)"""


def closed_until(db: sqlite3.Connection) -> str:
    """The last day that is summed up in the table of closed days; "" when none is."""
    return str((db.execute("SELECT value FROM meta WHERE key = 'closed'").fetchone() or [""])[0])


def tidy(db: sqlite3.Connection, today: date, keep_days: int | None) -> bool:
    """One day's piece, inside the caller's transaction; False: nothing was left to do.

    keep_days: of accounts, at least OPEN_DAYS; None: all. Only what is summed up is forgotten.
    """
    closed = closed_until(db)
    db.execute("DELETE FROM slots WHERE day < ?", (str(today - timedelta(SLOT_DAYS)),))
    query = "SELECT min(day) FROM accounts WHERE day > ? AND day < ?"
    # A clock that is ahead may go back: what read_books() knows of the last days stays open.
    until = min(str(today - timedelta(OPEN_DAYS)), recent_days(db, RECENT_DAYS))
    (day,) = db.execute(query, (closed, until)).fetchone()
    if day:
        db.executemany(ADD_TO_CLOSED, db.execute(_OF_DAY, (day,)).fetchall())
        db.execute("INSERT OR REPLACE INTO meta VALUES ('closed', ?)", (day,))
    elif keep_days:
        until = str(today - timedelta(keep_days))
        day, *_ = db.execute(_FORGET, (closed, until)).fetchone() or (None,)
        if day:  # so that what is left of it is not taken for all of it
            db.execute(_NOTE_FORGOTTEN, (day,))
    return day is not None
