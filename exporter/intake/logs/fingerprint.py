"""What is remembered of consumed bytes: how to know them again, and how many of them are left.

A fingerprint holds a digest of the file's first kilobyte, one of the kilobyte before the position,
and marks: where each of the first and the last consumed lines ended, with a digest of its end.
Fingerprints of older ledgers have the first digest only.
"""

import itertools
import os
import re
import struct
from dataclasses import replace
from hashlib import blake2b

from exporter.ledger.progress import Position

FINGERPRINT_BYTES = 1024  # enough for a line with a time or an id
FIRST_MARKS = 8  # for what is shorter than the first kilobyte
MARK_BYTES = 65_535  # of a line, from its end: two long lines often end alike
LAST_MARKS = 512  # lines: more than a power cut takes in most cases
_DIGEST = 16  # bytes
_MARK = struct.Struct(">QH4s")  # the end of a line, how many bytes of it are digested, the digest


class Fingerprinted:
    """An open file that can be compared with what was consumed up to some position.

    position: up to where it is consumed itself.
    """

    def __init__(self, fd: int, log: str) -> None:
        """At its beginning, for the followed path `log`."""
        self._fd = fd
        status = os.fstat(fd)
        self.position = Position(log, status.st_dev, status.st_ino)
        self.position = self.at(0)

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def fileno(self) -> int:
        return self._fd

    def _bytes(self, count: int, offset: int) -> bytes:
        return os.pread(self._fd, count, offset)

    def at(self, offset: int, marks: bytes = b"") -> Position:
        """The file's position at an offset."""
        start = max(0, offset - FINGERPRINT_BYTES)
        head = self._bytes(min(offset, FINGERPRINT_BYTES), 0)
        mark = _digest(head) + _digest(self._bytes(offset - start, start)) + marks
        return replace(self.position, offset=offset, fingerprint=mark, in_long_line=False)

    def after(self, before: Position, data: bytes) -> Position:
        """The position when the data behind another one is consumed, too."""
        start = before.offset
        ends = [0, *(found.end() for found in re.finditer(rb"\n+", data))]
        ends += [] if ends[-1] == len(data) else [len(data)]
        marks = _marks(before) if start else [_MARK.pack(0, 0, _digest(b"")[:4])]
        for begin, end in itertools.pairwise(ends):
            begin = max(begin, end - MARK_BYTES)
            marks.append(_MARK.pack(start + end, end - begin, _digest(data[begin:end])[:4]))
        if len(marks) > FIRST_MARKS + LAST_MARKS:
            marks = marks[:FIRST_MARKS] + marks[-LAST_MARKS:]
        return self.at(start + len(data), b"".join(marks))

    def begins_as(self, position: Position) -> bool:
        """Whether the file still begins with what was consumed up to a position."""
        return self.at(position.offset).fingerprint.startswith(position.fingerprint[:_DIGEST])

    def is_intact(self, position: Position) -> bool:
        """Whether nothing of what was consumed up to a position is gone."""
        known, here = position.fingerprint[: 2 * _DIGEST], self.at(position.offset).fingerprint
        return self.size >= position.offset and here.startswith(known)

    def holds(self, other: "Fingerprinted") -> bool:
        """Whether all that another file has lies here, at the same places."""
        return self.is_intact(other.at(other.size))

    def has_some_of(self, position: Position) -> bool:
        """Whether some of what was consumed up to a position is still where it was."""
        return self.standing(position)[0].offset > 0 or self.begins_as(position)

    def standing(self, position: Position) -> tuple[Position, bool]:
        """Where the last line that is still there ended, else 0; whether the next one had a mark.

        If so, no line behind it is an old one; else there may be any number.
        """
        marks = _marks(position)
        dense = FIRST_MARKS if len(marks) == FIRST_MARKS + LAST_MARKS else 0
        for number in reversed(range(len(marks))):
            end, size, digest = _MARK.unpack(marks[number])
            line = self._bytes(size, end - size)
            if line[-1:] in (b"\n", b"") and len(line) == size and _digest(line)[:4] == digest:
                return self.at(end, b"".join(marks[: number + 1])), number >= dense
        return self.at(0), False


def _marks(position: Position) -> list[bytes]:
    starts = range(2 * _DIGEST, len(position.fingerprint), _MARK.size)
    return [position.fingerprint[start : start + _MARK.size] for start in starts]


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST).digest()
