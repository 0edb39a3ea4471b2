"""One log file: whole lines from a position on, with bounded memory, never blocking.

Nothing is remembered but the position last committed: a read that could not be booked is simply
done again. The file is opened for reading only.
"""

import errno
import fcntl
import json
import os
import re
import stat
import struct
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from common.errors import UserError
from common.files import open_regular
from exporter.intake.logs.fingerprint import FINGERPRINT_BYTES, Fingerprinted
from exporter.ledger.progress import FileKey, Position
from sdk.client import SPOOL_HEADER

CHUNK_BYTES = 256 << 10
MAX_GLUED = 64  # braces tried in a line that a power cut may have spoilt
MAX_LINE_BYTES = 1 << 20  # a longer line is skipped and counted
_SPOOL = SPOOL_HEADER + b', "id": "'
_SPOOL_LINE = re.compile(rb'[\n\0]\n\{"id":"[^\n\0]*,"outcome":"[^\n\0]*\}\n')
_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux: type, whence, start, length, pid
_CANNOT_LOCK = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


class WholeLines(NamedTuple):
    """What bytes were cut into; consumed ones may be fewer than were given."""

    lines: list[bytes]
    consumed: int
    too_long: int = 0  # lines that began here and are skipped
    in_long_line: bool = False
    zeroed: int = 0  # places where a power cut left zero bytes instead of lines


Join = Callable[[WholeLines, bool], WholeLines]


def cut(data: bytes, in_long_line: bool, final: bool = False) -> WholeLines:
    """Cut bytes that begin at a line's start, or inside a line that is being skipped.

    final: nothing will follow, so an unterminated rest is a line. Runs of NUL (what a power cut
    leaves, and a writer without O_APPEND after a truncation) end a line, too.
    """
    end = data.rfind(b"\n") + 1
    if end:
        lines = _split(data[: end - 1])
        return WholeLines(lines[1:] if in_long_line else lines, end)
    if in_long_line:
        return WholeLines([], len(data), in_long_line=not final)
    if len(data) >= MAX_LINE_BYTES:
        hole = not data.strip(b"\0")
        return WholeLines([], len(data), int(not hole), not hole)
    if final and data:
        return WholeLines(_split(data), len(data))
    return WholeLines([], 0)


def _split(data: bytes) -> list[bytes]:
    return re.split(rb"\0+|\n", data) if b"\0" in data else data.split(b"\n")


def key_at(path: str) -> FileKey | None:
    """The file that a path leads to; None when there is none. Raises OSError."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _open_followed(path: str) -> int:
    """Open what a path leads to. A log may be a link, but not one that somebody else planted.

    In a folder that several may write to, a link must be this process', root's, the folder's
    owner's, or of the owner of the file. Raises OSError.
    """
    link = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(link)
        if not stat.S_ISLNK(status.st_mode):
            return open_regular(Path(path), os.O_NOFOLLOW)
        fd = open_regular(Path(os.path.dirname(path), os.readlink("", dir_fd=link)))
    finally:
        os.close(link)
    folder = os.stat(os.path.dirname(path) or ".")
    trusted = (0, os.geteuid(), folder.st_uid, os.fstat(fd).st_uid)
    if folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and status.st_uid not in trusted:
        os.close(fd)
        raise OSError(errno.ELOOP, "it is a symbolic link that another user made; remove it")
    return fd


def keep_readers_out(path: Path, inode: int) -> int:
    """One reader for each log, without touching the log: until the descriptor is closed.

    A shared OFD lock on one byte of the log's *folder* needs no right to write, works through bind
    mounts and is in no writer's way. On a file system that cannot lock there is none.

    Raises UserError when another exporter reads this file; OSError when it vanished. Two that come
    at the same instant may both be refused; each tries again later.
    """
    folder = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    where = (os.SEEK_SET, inode % 2**62, 1, 0)
    try:
        fcntl.fcntl(folder, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_RDLCK, *where))
        # A writer's lock would conflict with every other reader's, never with our own.
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, *where)
        answer = fcntl.fcntl(folder, fcntl.F_OFD_GETLK, asked)
        if struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK:
            raise UserError(f"{path} is read by another exporter; stop that one first")
    except (OSError, UserError) as error:
        if getattr(error, "errno", None) not in _CANNOT_LOCK:
            os.close(folder)
            raise
    return folder


class LogFile(Fingerprinted):
    """An open log file and the position up to which it is committed."""

    def __init__(self, path: Path, log: str, opened: int | None = None, fold: bool = False) -> None:
        """Open path for the followed path `log`, at its beginning.

        opened: a descriptor to read, and to close, instead of the path's own content.

        Raises OSError, and UserError when another exporter reads it.
        """
        fd = _open_followed(str(path)) if opened is None else opened
        self.path = path
        try:
            super().__init__(fd, log)
            if path.is_symlink() and self.is_spool():
                raise OSError(0, f"{path} is a symbolic link to a spool; name the spool itself")
            self._lock = keep_readers_out(path, self.position.inode)
        except BaseException:
            os.close(fd)
            raise
        self.fold = fold
        self.modified = os.fstat(fd).st_mtime_ns
        self.idle_since: float | None = None  # nothing was to read, and its path had left it
        self.held: list[bytes] = []  # lines that were read and are consumed with later ones
        self._drained_at: tuple[int, int] | None = None  # size and mtime when nothing was to read

    @property
    def key(self) -> FileKey:
        return self.position.key

    def resume(self, position: Position) -> Position:
        """Where to go on when a power cut took some of what was consumed up to a position.

        What may be new is read, and nothing twice: of a file that was cut, what begins after the
        last line that is left; of one that is much shorter, what comes after its present end.
        """
        size, offset = self.size, position.offset
        if 0 < offset <= size and self._bytes(1, offset - 1) == b"\0":
            return self.at(offset)  # zeroed, not cut: what is new lies behind
        whole, is_next_new = self.standing(position)
        if not is_next_new:
            return self.at(size if size < offset and self.has_some_of(position) else 0)
        return self.after(whole, self._bytes(self._torn(whole.offset), whole.offset))

    def _torn(self, offset: int) -> int:
        """How many bytes from an offset on are the beginning of a line that lost its end.

        They were consumed with their line. Whoever writes next glues a new line to them, unless
        that begins with a newline.
        """
        line, newline, _ = self._bytes(MAX_LINE_BYTES, offset).partition(b"\n")
        if not newline:
            return len(line) if offset else 0  # at the start it may be a new file's first
        if not line.startswith(b"{"):
            return 0
        starts = (found.start() for found in islice(re.finditer(b"{", line), MAX_GLUED))
        return next((start for start in starts if _json(line[start:])), 0)

    def beginning(self) -> list[bytes]:
        """The first lines."""
        return self._chunk(self.at(0), final=False, join=None)[1].lines

    def end(self) -> int:
        """The offset after the last whole line."""
        size = self.size
        start = max(0, size - MAX_LINE_BYTES)
        found = self._bytes(size - start, start).rfind(b"\n")
        return start + found + 1 if found >= 0 or start == 0 else size

    def is_truncated(self) -> bool:
        """Whether some of what was consumed is gone, or may have been there."""
        if self._look() == self._drained_at:
            return False
        # What had no line yet may have been written, copied and truncated since.
        unsure = not self.position.offset and self._drained_at is not None
        return unsure or not self.is_intact(self.position)

    def read(self, final: bool, join: Join | None) -> tuple[WholeLines, Position] | None:
        """The next lines and where they end, or None when there is no whole one. Raises OSError.

        join: makes fewer lines of them; the second argument says that no more will follow or fit.
        """
        look, before = self._look(), self.position
        if look == self._drained_at and not final:
            return None
        data, found, whole = self._chunk(before, final, join)
        if not whole.consumed:
            self.held = found.lines
            self._drained_at = None if self.held else look
            return None
        # A fold's slots may have holes, and a file that begins with one was truncated under a
        # writer that does not append.
        hole = self.fold or (self._bytes(1, 0) == b"\0" and not self.is_spool())
        zeroed = 0 if hole else len(re.findall(rb"\0+", data[: whole.consumed]))
        position = self.after(before, data[: whole.consumed])
        return whole._replace(zeroed=zeroed), replace(position, in_long_line=whole.in_long_line)

    def _look(self) -> tuple[int, int]:
        status = os.fstat(self._fd)
        return status.st_size, status.st_mtime_ns

    def _chunk(
        self, at: Position, final: bool, join: Join | None
    ) -> tuple[bytes, WholeLines, WholeLines]:
        """The next bytes, what they are cut into, and what that is joined into."""
        most = MAX_LINE_BYTES * 2 if join else MAX_LINE_BYTES  # joined lines are wrapped
        for size in (CHUNK_BYTES, most):
            data = self._bytes(size, at.offset)
            found = whole = cut(data, at.in_long_line, final)
            if join:
                whole = join(found, final or len(data) == most)
            if whole.consumed or len(data) < size:
                break
        return data, found, whole

    def advance(self, position: Position) -> None:
        """The position was committed."""
        self.position = position
        self.held = []
        self._drained_at = None

    def end_of_held(self) -> int:
        """The offset after the lines that are held."""
        return self.position.offset + sum(len(line) + 1 for line in self.held)

    def is_spool(self) -> bool:
        """Whether the first line is the header of sdk/client.py's spool, or what is left of one."""
        head = self._bytes(FINGERPRINT_BYTES, 0)
        line, newline, _ = head.partition(b"\n")
        left = line.partition(b"\0")[0]
        torn = _SPOOL.startswith(left) or left.startswith(_SPOOL)
        if is_spool_header(line) or head[:1] in (b"", b"\n") or not torn:
            return bool(newline) and is_spool_header(line)
        # A power cut took the header: the lines must look it, and an earlier look have seen it.
        known = os.path.lexists(f"{self.position.log}.lock")
        return known and bool(_SPOOL_LINE.search(b"\n" + self._bytes(MAX_LINE_BYTES, len(left))))

    def close(self) -> None:
        os.close(self._lock)
        os.close(self._fd)


def is_spool_header(line: bytes) -> bool:
    """Whether a line is a spool's header, which is no event."""
    return line.startswith(_SPOOL) and _json(line) is not None


def _json(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
