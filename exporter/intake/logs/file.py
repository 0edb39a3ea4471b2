"""One log file: whole lines from a position on, with bounded memory, never blocking.

Nothing is remembered but the position last committed: a read that could not be booked is simply
done again. The file is opened for reading only.
"""

import errno
import fcntl
import json
import os
import stat
import struct
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from common.errors import UserError
from exporter.ledger.progress import FileKey, Position

FINGERPRINT_BYTES = 1024  # enough for a line with a time or an id; rereading them costs nothing
CHUNK_BYTES = 256 << 10
MAX_LINE_BYTES = 1 << 20  # a longer line is skipped and counted
SPOOL = "llm-budget/1"
_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux: type, whence, start, length, pid
_CANNOT_LOCK = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


class TruncatedError(Exception):
    """What was consumed is no longer in the file: it was truncated, and perhaps written again."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines read, and the position to commit with their events."""

    lines: list[bytes]
    too_long: int  # lines that began here and are skipped
    position: Position


class WholeLines(NamedTuple):
    """What bytes were cut into; consumed ones may be fewer than were given."""

    lines: list[bytes]
    consumed: int
    too_long: int = 0
    in_long_line: bool = False


def cut(data: bytes, in_long_line: bool, final: bool = False) -> WholeLines:
    """Cut bytes that begin at a line's start, or inside a line that is being skipped.

    final: nothing will follow, so an unterminated rest is a line. Runs of NUL (what a writer
    without O_APPEND leaves after a truncation) are no part of a line.
    """
    end = data.rfind(b"\n") + 1
    if end:
        lines = data[:end].split(b"\n")[:-1]
        return WholeLines(lines[1:] if in_long_line else lines, end)
    if in_long_line:
        return WholeLines([], len(data), in_long_line=not final)
    if len(data) >= MAX_LINE_BYTES:
        hole = not data.strip(b"\0")
        return WholeLines([], len(data), int(not hole), not hole)
    if final and data:
        return WholeLines([data], len(data))
    return WholeLines([], 0)


def key_at(path: str) -> FileKey | None:
    """The file that a path leads to; None when there is none. Raises OSError."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def fingerprint(head: bytes, offset: int) -> bytes:
    """16 bytes that stand for what was consumed first. head: the file's first bytes."""
    return blake2b(head[: min(offset, FINGERPRINT_BYTES)], digest_size=16).digest()


def keep_readers_out(path: Path, inode: int) -> int:
    """One reader for each log, without touching the log: until the descriptor is closed.

    flock on the log itself would block every writer that takes the same lock around its appends,
    and a lock file beside it needs the right to write there, or is not seen from another container.
    So the reader takes a shared OFD lock on one byte of the log's *folder*, the byte numbered by
    the log's inode, and asks whether anyone else has it. That needs read access only, works on
    read-only mounts and through bind mounts. Nobody else locks folders. On a file system that
    cannot lock, the file is read without a lock.

    Raises UserError when another exporter reads this file; OSError when it vanished. Two that come
    at the same instant may both be refused; each tries again later.
    """
    folder = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _is_shared(folder, inode % 2**62):
            raise UserError(f"{path} is read by another exporter; stop that one first")
    except (OSError, UserError) as error:
        if getattr(error, "errno", None) not in _CANNOT_LOCK:
            os.close(folder)
            raise
    return folder


def _is_shared(folder: int, byte: int) -> bool:
    """Lock a byte; whether somebody else has locked it, too."""
    fcntl.fcntl(folder, fcntl.F_OFD_SETLK, _lock(fcntl.F_RDLCK, byte))
    # A writer's lock would conflict with every other reader's, never with our own.
    answer = fcntl.fcntl(folder, fcntl.F_OFD_GETLK, _lock(fcntl.F_WRLCK, byte))
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)


def _lock(kind: int, byte: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, byte, 1, 0)


class LogFile:
    """An open log file and the position up to which it is committed."""

    def __init__(self, path: Path, log: str) -> None:
        """Open path for the followed path `log`, at its beginning.

        Raises OSError, and UserError when another exporter reads it.
        """
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(0, "it is not a regular file")
            self._lock = keep_readers_out(path, status.st_ino)
        except BaseException:
            os.close(self._fd)
            raise
        self.modified = status.st_mtime_ns
        self.position = Position(log, status.st_dev, status.st_ino, 0, fingerprint(b"", 0))
        self._drained_at: tuple[int, int] | None = None  # size and mtime when nothing was to read

    @property
    def key(self) -> FileKey:
        return self.position.key

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def fileno(self) -> int:
        return self._fd

    def begins_as(self, position: Position) -> bool:
        """Whether the file still begins with what was consumed up to a position."""
        head = os.pread(self._fd, FINGERPRINT_BYTES, 0)
        enough = len(head) >= min(position.offset, FINGERPRINT_BYTES)
        return enough and fingerprint(head, position.offset) == position.fingerprint

    def is_intact(self, position: Position) -> bool:
        """Whether nothing of what was consumed up to a position is gone."""
        return self.size >= position.offset and self.begins_as(position)

    def holds(self, other: "LogFile") -> bool:
        """Whether another file's first and last kilobyte lie here, at the same places."""
        size = other.size
        ends = (0, max(0, size - FINGERPRINT_BYTES))
        theirs = [(at, os.pread(other.fileno(), FINGERPRINT_BYTES, at)) for at in ends]
        same = all(os.pread(self._fd, len(end), at) == end for at, end in theirs)
        return size <= self.size and same

    def at(self, offset: int) -> Position:
        """The file's position at an offset."""
        head = os.pread(self._fd, FINGERPRINT_BYTES, 0)
        mark = fingerprint(head, offset)
        return replace(self.position, offset=offset, fingerprint=mark, in_long_line=False)

    def end(self) -> int:
        """The offset after the last whole line."""
        size = self.size
        start = max(0, size - MAX_LINE_BYTES)
        found = os.pread(self._fd, size - start, start).rfind(b"\n")
        return start + found + 1 if found >= 0 else start if start == 0 else size

    def read(self, final: bool = False) -> Chunk | None:
        """The next lines, or None when there is no whole one. Raises TruncatedError, OSError."""
        status = os.fstat(self._fd)
        look = (status.st_size, status.st_mtime_ns)
        if look == self._drained_at and not final:
            return None
        before = self.position
        data = self._chunk(before.offset)
        head = os.pread(self._fd, FINGERPRINT_BYTES, 0) if before.offset else data
        if status.st_size < before.offset or fingerprint(head, before.offset) != before.fingerprint:
            raise TruncatedError
        whole = cut(data, before.in_long_line, final)
        if not whole.consumed:
            self._drained_at = look
            return None
        offset = before.offset + whole.consumed
        position = replace(
            before,
            offset=offset,
            fingerprint=fingerprint(head, offset),
            in_long_line=whole.in_long_line,
        )
        return Chunk(whole.lines, whole.too_long, position)

    def _chunk(self, offset: int) -> bytes:
        data = os.pread(self._fd, CHUNK_BYTES, offset)
        if len(data) == CHUNK_BYTES and b"\n" not in data:
            data = os.pread(self._fd, MAX_LINE_BYTES, offset)
        return data

    def advance(self, position: Position) -> None:
        """The position was committed."""
        self.position = position
        self._drained_at = None

    def is_spool(self) -> bool:
        """Whether the first line is the header of sdk/client.py's spool."""
        line, newline, _ = os.pread(self._fd, FINGERPRINT_BYTES, 0).partition(b"\n")
        return bool(newline) and is_spool_header(line)

    def close(self) -> None:
        os.close(self._lock)
        os.close(self._fd)


def is_spool_header(line: bytes) -> bool:
    """Whether a line is a spool's header, which is no event."""
    if b'"spool"' not in line:
        return False
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.get("spool") == SPOOL
