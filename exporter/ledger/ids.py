"""Ids already booked: 16-byte digests in tables by week of expiry, so that forgetting is a DROP."""

import sqlite3

KEEP_SECONDS = 35 * 86_400  # from the later of event time and receipt (design, section 3)
WEEK_SECONDS = 7 * 86_400


class IdTables:
    """The id tables of a ledger; used by the writer only, inside its transactions."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.reload()

    def reload(self) -> None:
        """Learn which tables exist, also after a rollback."""
        rows = self._db.execute("SELECT name FROM sqlite_schema WHERE name GLOB 'event_ids_[0-9]*'")
        self._weeks = sorted(int(name.removeprefix("event_ids_")) for (name,) in rows)

    def find(self, digest: bytes) -> bytes | None:
        """The content digest booked under an id digest, or None when it is new."""
        for week in reversed(self._weeks):  # a repeat is most likely recent
            query = f"SELECT content FROM event_ids_{week} WHERE digest = ?"  # noqa: S608  an int
            row = self._db.execute(query, (digest,)).fetchone()
            if row is not None:
                return bytes(row[0])
        return None

    def add(self, digest: bytes, content: bytes, latest: float) -> None:
        """Remember an id for 35 days from latest (Unix seconds)."""
        week = int(latest + KEEP_SECONDS) // WEEK_SECONDS
        if week not in self._weeks:
            self._db.execute(
                f"CREATE TABLE IF NOT EXISTS event_ids_{week} "
                "(digest BLOB PRIMARY KEY, content BLOB NOT NULL) STRICT, WITHOUT ROWID"
            )
            self._weeks = sorted([*self._weeks, week])
        insert = f"INSERT INTO event_ids_{week} VALUES (?, ?)"  # noqa: S608  an int
        self._db.execute(insert, (digest, content))

    def drop_expired(self, now: float) -> None:
        """Forget the weeks whose last id has expired."""
        for week in [week for week in self._weeks if (week + 1) * WEEK_SECONDS <= now]:
            self._db.execute(f"DROP TABLE event_ids_{week}")
            self._weeks.remove(week)
