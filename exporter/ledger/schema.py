"""The ledger's schema: migrations, each applied together with its record in one transaction."""

import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path

from exporter.core.errors import UserError

BUSY_TIMEOUT_SECONDS = 5.0


def m001_initial(db: sqlite3.Connection) -> None:
    """Accounts per day, series and price; ids; adjustments; calendars."""
    # Token and money columns are 64-bit: one account holds up to nine million dollars.
    db.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
    db.execute("INSERT INTO meta VALUES ('ledger_id', ?)", (secrets.token_hex(8),))
    db.execute(
        """CREATE TABLE prices (
            version INTEGER PRIMARY KEY,
            model TEXT NOT NULL, source TEXT NOT NULL,
            input INTEGER NOT NULL, cached_input INTEGER NOT NULL, output INTEGER NOT NULL,
            UNIQUE (model, source, input, cached_input, output)
        ) STRICT"""
    )
    # Version 0: no price was known; tokens count, the cost is withheld.
    db.execute("INSERT INTO prices VALUES (0, '', 'unpriced', 0, 0, 0)")
    db.execute(
        """CREATE TABLE accounts (
            day TEXT NOT NULL, roaster TEXT NOT NULL, field TEXT NOT NULL, model TEXT NOT NULL,
            price_version INTEGER NOT NULL REFERENCES prices,
            success INTEGER NOT NULL, error INTEGER NOT NULL, rate_limited INTEGER NOT NULL,
            cached INTEGER NOT NULL, fallback INTEGER NOT NULL,
            input_tokens INTEGER NOT NULL, cached_input_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL,
            cost_picodollars INTEGER NOT NULL, estimated_cost_picodollars INTEGER NOT NULL,
            late_cost_picodollars INTEGER NOT NULL,
            batch_items INTEGER NOT NULL, batch_slots INTEGER NOT NULL,
            PRIMARY KEY (day, roaster, field, model, price_version)
        ) STRICT, WITHOUT ROWID"""
    )
    db.execute(
        """CREATE TABLE adjustments (
            id INTEGER PRIMARY KEY, day TEXT NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('grant', 'reset')),
            picodollars INTEGER NOT NULL, reason TEXT NOT NULL, author TEXT NOT NULL,
            time REAL NOT NULL
        ) STRICT"""
    )
    # previous_day: the date that ends where this row begins; see calendars.py.
    db.execute(
        """CREATE TABLE calendars (
            valid_from INTEGER PRIMARY KEY, timezone TEXT NOT NULL, day_starts_at TEXT NOT NULL,
            previous_day TEXT NOT NULL
        ) STRICT"""
    )


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (m001_initial,)


def open_ledger(path: Path) -> sqlite3.Connection:
    """Open for writing and bring the schema up to date.

    The connection is for the writer thread. Raises UserError when the file is no ledger, cannot be
    written, or comes from a newer version.
    """
    try:
        db = connect(path)
        migrate(db, path)
    except sqlite3.Error as error:
        raise UserError(f"cannot open the ledger {path}: {error}") from error
    return db


def connect(path: Path) -> sqlite3.Connection:
    """A connection whose commits survive a power cut."""
    db = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
    )
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    return db


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Apply the migrations that are missing. Raises UserError for a newer ledger."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise UserError(
            f"the ledger {path} has schema {version}, newer than this exporter's "
            f"{len(MIGRATIONS)}; upgrade the exporter"
        )
    for number, migration in enumerate(MIGRATIONS[version:], version + 1):
        db.execute("BEGIN IMMEDIATE")
        try:
            migration(db)
            db.execute(f"PRAGMA user_version = {number}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise
