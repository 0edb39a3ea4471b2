"""Ids already booked: 16-byte digests in tables by week of expiry, so that forgetting is a DROP."""

import sqlite3
from bisect import insort
from functools import cached_property

KEEP_SECONDS = 35 * 86_400  # from the later of event time and receipt
WEEK_SECONDS = 7 * 86_400


class IdTables:
    """The id tables of a ledger; used by the writer only, inside its transactions."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def reload(self) -> None:
        """Ask the database again which tables exist, at the next use: after a rollback."""
        self.__dict__.pop("_weeks", None)

    @cached_property
    def _weeks(self) -> list[int]:
        """The weeks that have a table, oldest first."""
        query = "SELECT name FROM sqlite_schema WHERE name GLOB 'event_ids_[0-9]*'"
        return sorted(int(name.removeprefix("event_ids_")) for (name,) in self._db.execute(query))

    def find(self, digest: bytes) -> bytes | None:
        """The content digest booked under an id digest, or None when it is new."""
        for week in reversed(self._weeks):  # a repeat is most likely recent
            query = f"SELECT content FROM event_ids_{week} WHERE digest = ?"  # noqa: S608  an int
            row = self._db.execute(query, (digest,)).fetchone()
            if row is not None:
                return bytes(row[0])
        return None

    def add(self, digest: bytes, content: bytes, latest: float, now: float) -> None:
        """Remember an id for 35 days from latest, in the table of the week in which it expires.

        Both in Unix seconds. Ids of events that claim a far future expire far ahead. The further,
        the coarser: weeks rounded up to multiples of a power of two, so that any clocks at all
        make some 60 tables, not thousands.
        """
        week = int(latest + KEEP_SECONDS) // WEEK_SECONDS
        step: int = 1 << max(0, (week - int(now) // WEEK_SECONDS) // 8).bit_length()
        week = -(-week // step) * step
        if week not in self._weeks:
            self._db.execute(
                f"CREATE TABLE IF NOT EXISTS event_ids_{week} "
                "(digest BLOB PRIMARY KEY, content BLOB NOT NULL) STRICT, WITHOUT ROWID"
            )
            insort(self._weeks, week)
        insert = f"INSERT INTO event_ids_{week} VALUES (?, ?)"  # noqa: S608  an int
        self._db.execute(insert, (digest, content))

    def drop_expired(self, now: float) -> None:
        for week in [week for week in self._weeks if (week + 1) * WEEK_SECONDS <= now]:
            self._db.execute(f"DROP TABLE event_ids_{week}")
            self._weeks.remove(week)
