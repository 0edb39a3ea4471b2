"""How far each log file has been read, kept in the ledger so that it commits with the counts."""

import sqlite3
from dataclasses import dataclass, field, replace

from exporter.ledger.ids import KEEP_SECONDS

FileKey = tuple[int, int]  # device, inode


@dataclass(frozen=True, slots=True)
class Position:
    """One file's progress. Its identity: device, inode and the fingerprint of its first bytes."""

    log: str  # the followed path that it was found for, whatever rotation calls it now
    device: int
    inode: int
    offset: int = 0  # bytes consumed
    fingerprint: bytes = b""  # of the first consumed bytes; see intake/logs/file.py
    in_long_line: bool = False  # the bytes before offset began a line that is too long to read
    recorded: float = field(default=0.0, compare=False)  # Unix seconds, once it is

    @property
    def key(self) -> FileKey:
        return self.device, self.inode


@dataclass(frozen=True, slots=True)
class LogProgress:
    """What one transaction records beside the events that were read."""

    followed: tuple[str, ...] = ()  # paths looked at for the first time
    positions: tuple[Position, ...] = ()
    forgotten: tuple[FileKey, ...] = ()
    expire: bool = False  # forget positions that were not recorded for KEEP_SECONDS


@dataclass
class LogPlaces:
    """What the ledger knows of log files, as of the last commit."""

    followed: set[str] = field(default_factory=set)
    positions: dict[FileKey, Position] = field(default_factory=dict)  # the latest recorded last

    def apply(self, progress: LogProgress, now: float) -> None:
        """Take over what was committed. now: Unix seconds."""
        self.followed.update(progress.followed)
        for key in progress.forgotten:
            self.positions.pop(key, None)
        for position in progress.positions:
            self.positions.pop(position.key, None)
            self.positions[position.key] = replace(position, recorded=now)


def write_progress(db: sqlite3.Connection, progress: LogProgress, now: float) -> None:
    """Record progress inside the caller's transaction. now: Unix seconds."""
    db.executemany("INSERT OR IGNORE INTO logs VALUES (?)", [(path,) for path in progress.followed])
    gone = "DELETE FROM log_positions WHERE device = ? AND inode = ?"
    db.executemany(gone, [tuple(map(str, key)) for key in progress.forgotten])
    db.executemany(
        "INSERT OR REPLACE INTO log_positions VALUES (?, ?, ?, ?, ?, ?, ?)",
        [  # microseconds apart, so that their order is kept
            (*map(str, p.key), p.log, p.offset, p.fingerprint, p.in_long_line, now + i / 1e6)
            for i, p in enumerate(progress.positions)
        ],
    )
    if progress.expire:
        db.execute("DELETE FROM log_positions WHERE recorded < ?", (now - KEEP_SECONDS,))


def read_places(db: sqlite3.Connection) -> LogPlaces:
    """Everything recorded so far."""
    places = LogPlaces({path for (path,) in db.execute("SELECT path FROM logs")})
    columns = "log, device, inode, offset, fingerprint, in_long_line, recorded"
    query = f"SELECT {columns} FROM log_positions ORDER BY recorded"  # noqa: S608  constants
    for log, device, inode, *rest in db.execute(query):
        position = Position(log, int(device), int(inode), *rest)
        places.positions[position.key] = position
    return places
