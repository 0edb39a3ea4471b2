"""The ledger's schema: migrations, each applied together with its record in one transaction."""

import contextlib
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from common.errors import UserError

BUSY_TIMEOUT_SECONDS = 5.0
Migration = Callable[[sqlite3.Connection], None]


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


def m_unpriced_minutes(db: sqlite3.Connection) -> None:
    """Prices say whose they are and when they hold; unpriced usage is kept by the minute."""
    db.execute(
        """CREATE TABLE new_prices (
            version INTEGER PRIMARY KEY,
            model TEXT NOT NULL, source TEXT NOT NULL,
            provider TEXT NOT NULL, validity TEXT NOT NULL,
            input INTEGER NOT NULL, cached_input INTEGER NOT NULL, output INTEGER NOT NULL,
            UNIQUE (model, source, provider, validity, input, cached_input, output)
        ) STRICT"""
    )
    db.execute(
        "INSERT INTO new_prices "
        "SELECT version, model, source, '', '', input, cached_input, output FROM prices"
    )
    db.execute("DROP TABLE prices")
    db.execute("ALTER TABLE new_prices RENAME TO prices")
    # minute: Unix time / 60. label: the account's model, `other` beyond the cap; model: the call's.
    db.execute(
        """CREATE TABLE unpriced (
            id INTEGER PRIMARY KEY,
            day TEXT NOT NULL, minute INTEGER NOT NULL,
            roaster TEXT NOT NULL, field TEXT NOT NULL, label TEXT NOT NULL,
            model TEXT NOT NULL, provider TEXT NOT NULL,
            estimated INTEGER NOT NULL, extras INTEGER NOT NULL,
            largest_prompt INTEGER NOT NULL,
            success INTEGER NOT NULL, error INTEGER NOT NULL, rate_limited INTEGER NOT NULL,
            cached INTEGER NOT NULL, fallback INTEGER NOT NULL,
            input_tokens INTEGER NOT NULL, cached_input_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL,
            batch_items INTEGER NOT NULL, batch_slots INTEGER NOT NULL,
            UNIQUE (day, minute, roaster, field, label, model, provider, estimated, extras)
        ) STRICT"""
    )
    # Usage from before this schema is known by its day only: it is put at that date's noon, UTC.
    db.execute(
        """INSERT INTO unpriced
            SELECT NULL, day, CAST(strftime('%s', day || ' 12:00:00') AS INTEGER) / 60,
                roaster, field, model, model, 'deepseek', 0, 0, input_tokens + cached_input_tokens,
                success, error, rate_limited, cached, fallback, input_tokens, cached_input_tokens,
                output_tokens, batch_items, batch_slots
            FROM accounts
            WHERE price_version = 0 AND input_tokens + cached_input_tokens + output_tokens > 0"""
    )
    db.execute(
        """CREATE TABLE reprices (
            id INTEGER PRIMARY KEY, time REAL NOT NULL, author TEXT NOT NULL, reason TEXT NOT NULL,
            day TEXT NOT NULL, label TEXT NOT NULL, model TEXT NOT NULL, provider TEXT NOT NULL,
            price_version INTEGER NOT NULL REFERENCES prices,
            input_tokens INTEGER NOT NULL, cached_input_tokens INTEGER NOT NULL,
            output_tokens INTEGER NOT NULL, cost_picodollars INTEGER NOT NULL
        ) STRICT"""
    )


def m_logs(db: sqlite3.Connection) -> None:
    """Followed logs, and how far each of their files was read."""
    db.execute("CREATE TABLE logs (path TEXT PRIMARY KEY) STRICT, WITHOUT ROWID")
    db.execute(
        """CREATE TABLE log_positions (
            device TEXT NOT NULL, inode TEXT NOT NULL, log TEXT NOT NULL,
            offset INTEGER NOT NULL, fingerprint BLOB NOT NULL, in_long_line INTEGER NOT NULL,
            recorded REAL NOT NULL,
            PRIMARY KEY (device, inode)
        ) STRICT, WITHOUT ROWID"""
    )


def m_extras(db: sqlite3.Connection) -> None:
    """Unpriced usage keeps the tokens that a list may charge apart by their kind.

    Of older rows it is not known which they were: they stay withheld (unpriced.py).
    """
    kinds = (
        "cache_write cache_write_1h input_audio cached_audio output_audio input_image cached_image "
        "output_image input_video cached_video output_video unexplained"
    )
    for kind in kinds.split():
        db.execute(f"ALTER TABLE unpriced ADD COLUMN extra_{kind} INTEGER NOT NULL DEFAULT 0")


def m_revokes(db: sqlite3.Connection) -> None:
    """Grants may be one roaster's; an adjustment may be revoked, once; its request is known."""
    db.execute("ALTER TABLE adjustments RENAME TO old_adjustments")
    # revokes: what a revoke undoes. request: the id under which it was asked for, or empty.
    db.execute(
        """CREATE TABLE adjustments (
            id INTEGER PRIMARY KEY, day TEXT NOT NULL,
            kind TEXT NOT NULL CHECK (kind IN ('grant', 'reset', 'revoke')),
            picodollars INTEGER NOT NULL, reason TEXT NOT NULL, author TEXT NOT NULL,
            time REAL NOT NULL, roaster TEXT NOT NULL, request TEXT NOT NULL,
            revokes INTEGER UNIQUE REFERENCES adjustments
        ) STRICT"""
    )
    db.execute("INSERT INTO adjustments SELECT *, '', '', NULL FROM old_adjustments")
    db.execute("DROP TABLE old_adjustments")


def m_course(db: sqlite3.Connection) -> None:
    """The cost of days by slots of five minutes, limits, gaps, and sums of days long past."""
    # A slot's cost is both together: of all series, it may pass 64 bits.
    db.execute(
        """CREATE TABLE slots (day TEXT NOT NULL, slot INTEGER NOT NULL, usd INTEGER NOT NULL,
            picodollars INTEGER NOT NULL, PRIMARY KEY (day, slot)) STRICT, WITHOUT ROWID"""
    )
    # Each limit holds from its day to the next row's.
    db.execute("CREATE TABLE limits (day TEXT PRIMARY KEY, usd TEXT NOT NULL) STRICT")
    db.execute("CREATE TABLE gaps (kind TEXT NOT NULL, began REAL NOT NULL, ended REAL) STRICT")
    # The accounts of all days until meta's `closed`. price_version: 0 unpriced, 1 priced.
    sums = (
        "success error rate_limited cached fallback input_tokens cached_input_tokens output_tokens "
        "cost_picodollars estimated_cost_picodollars late_cost_picodollars batch_items batch_slots"
    )
    db.execute(
        """CREATE TABLE closed (
            roaster TEXT NOT NULL, field TEXT NOT NULL, model TEXT NOT NULL,
            price_version INTEGER NOT NULL, {} INTEGER NOT NULL,
            PRIMARY KEY (roaster, field, model, price_version)) STRICT, WITHOUT ROWID""".format(
            sums.replace(" ", " INTEGER NOT NULL, ")
        )
    )


MIGRATIONS: tuple[Migration, ...] = (
    *(m001_initial, m_unpriced_minutes, m_logs, m_extras, m_revokes, m_course),
)


def open_ledger(path: Path) -> sqlite3.Connection:
    """Open for the writer thread, and bring the schema up to date.

    Raises UserError when it is not a ledger, cannot be written, or comes from a newer version.
    """
    with contextlib.ExitStack() as unless_it_works:
        try:
            db = unless_it_works.enter_context(contextlib.closing(connect(path)))
            migrate(db, path)
        except sqlite3.Error as error:
            raise UserError(f"cannot open the ledger {path}: {error}") from error
        unless_it_works.pop_all()
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


def migrate(
    db: sqlite3.Connection, path: Path, migrations: Sequence[Migration] = MIGRATIONS
) -> None:
    """Apply the migrations that are missing. Raises UserError for a newer or foreign database."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == 0 and db.execute("SELECT 1 FROM sqlite_schema").fetchone():
        raise UserError(f"{path} is a database, but no ledger; name another file with --ledger")
    if version > len(migrations):
        newer = f"newer than this exporter's {len(migrations)}; upgrade the exporter"
        raise UserError(f"the ledger {path} has schema {version}, {newer}")
    db.execute("PRAGMA foreign_keys = OFF")  # a migration may rebuild a table that others refer to
    for number, migration in enumerate(migrations[version:], version + 1):
        with db:  # commits, or rolls back
            db.execute("BEGIN IMMEDIATE")
            migration(db)
            db.execute(f"PRAGMA user_version = {number}")
            if db.execute("PRAGMA foreign_key_check").fetchone():
                raise sqlite3.IntegrityError(f"migration {number} would break a reference")
    db.execute("PRAGMA foreign_keys = ON")


def upsert(table: str, key: str, sums: Sequence[str], largest: Sequence[str] = ()) -> str:
    """Make a row (key, sums, largest), or add sums to it and keep what is largest."""
    columns = [*key.split(", "), *sums, *largest]
    changes = [f"{name} = {name} + excluded.{name}" for name in sums]
    changes += [f"{name} = max({name}, excluded.{name})" for name in largest]
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) "  # noqa: S608  constants
        f"VALUES ({', '.join('?' * len(columns))}) "
        f"ON CONFLICT ({key}) DO UPDATE SET {', '.join(changes)}"
    )
