"""A SQLite connection whose statements fail on demand."""

import sqlite3
from pathlib import Path
from typing import Any


class FaultyConnection(sqlite3.Connection):
    """Fails the statements from number `first` on, `count` of them."""

    first: int | None = None
    count = 0
    seen = 0

    def arm(self, first: int, count: int) -> None:
        self.first, self.count, self.seen = first, count, 0

    def disarm(self) -> None:
        self.first = None

    def _check(self) -> None:
        if self.first is not None and self.first <= self.seen < self.first + self.count:
            self.seen += 1
            raise sqlite3.OperationalError("disk I/O error")
        self.seen += 1

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        self._check()
        return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        self._check()
        return super().executemany(*arguments)


def connect_faulty(path: Path) -> sqlite3.Connection:
    """In place of exporter.ledger.schema.connect."""
    return sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, factory=FaultyConnection
    )
