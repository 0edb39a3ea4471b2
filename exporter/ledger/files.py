"""Whether the ledger's file and its write-ahead log are still those that this exporter writes.

SQLite does not notice when another program removes or overwrites them: it goes on, and what it
acknowledged is gone at the next start.
"""

import contextlib
import os
import sqlite3
import struct
from pathlib import Path

# SQLite's wal-index (https://sqlite.org/walformat.html): page size, frames, checksum of the last
# one, salts; at byte 96 how far the frames were copied into the file.
_INDEX = struct.Struct("=14xHI4xII8s56xI")
# Of the file; only a checkpoint changes them, and a copy of another day differs.
_HEADER_BYTES = 100
_LOG_HEADER_BYTES = 32
_FRAME_BYTES = 24  # in front of each page
_BAD = "its {} was cut or overwritten; stop the exporter, restore a backup"
_GONE = "its write-ahead log was removed or replaced; restart the exporter, it saved what it booked"
_MOVED = "its file was replaced; put it back or restart the exporter"


class LedgerFileError(OSError):
    """The ledger may not be written; str() says what happened to it and what to do."""


class LogGoneError(LedgerFileError):
    """The write-ahead log is not in its place; the connection still has it."""


class LedgerFiles:
    """The files of an open ledger: itself, its write-ahead log, the index of that.

    They are closed after the database: closing any descriptor of a file drops all POSIX locks of
    the process on it, SQLite's as well.
    """

    def __init__(self, path: Path) -> None:
        """path: of a ledger that a connection has read. Raises OSError."""
        self._paths = (path, Path(f"{path}-wal"))
        self._has_log = self._paths[1].exists()  # not on file systems that cannot share memory
        names = (*self._paths, f"{path}-shm") if self._has_log else (path,)
        self._header = self._copied = b""
        self._fds = [os.open(name, os.O_RDONLY | os.O_CLOEXEC) for name in names]
        self.check()

    def size(self) -> int:
        """Bytes of the file, without what only the write-ahead log holds."""
        return os.fstat(self._fds[0]).st_size

    def check(self) -> None:
        """Raises LedgerFileError."""
        if not self._is_in_place(0):
            raise LedgerFileError(_MOVED)
        if not self._has_log:
            return
        if not self._is_in_place(1):
            raise LogGoneError(_GONE)
        index = os.pread(self._fds[2], _INDEX.size, 0)
        page, frames, *checksum, salts, copied = _INDEX.unpack(index)
        header, mark = os.pread(self._fds[0], _HEADER_BYTES, 0), salts + copied.to_bytes(4)
        if header != self._header and mark == self._copied:
            raise LedgerFileError(_BAD.format("file"))
        self._header, self._copied = header, mark
        frame = _FRAME_BYTES + (65536 if page == 1 else page)
        head = os.pread(self._fds[1], _LOG_HEADER_BYTES, 0)
        last = os.pread(self._fds[1], frame, _LOG_HEADER_BYTES + max(0, frames - 1) * frame)
        ours = head[16:24] == salts and last[16:24] == struct.pack(">II", *checksum)
        if frames and not (ours and len(last) == frame):
            raise LedgerFileError(_BAD.format("write-ahead log"))

    def close_database(self, db: sqlite3.Connection) -> None:
        """Close db, then the files; what another program spoilt is not copied into the file."""
        try:
            self.check()
        except LogGoneError:
            pass
        except LedgerFileError:
            # SQLite's last connection copies the log into the file; one that cannot write does not.
            self._reader = sqlite3.connect(f"{self._paths[0].as_uri()}?mode=ro", uri=True)
            with contextlib.suppress(sqlite3.Error):
                self._reader.execute("SELECT 1 FROM sqlite_schema").fetchall()
        db.close()
        for fd in self._fds:
            os.close(fd)

    def _is_in_place(self, number: int) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.stat(self._paths[number]), os.fstat(self._fds[number]))
        return False
