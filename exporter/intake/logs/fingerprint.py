"""What is remembered of consumed bytes: how to know them again, and how many of them are left.

A fingerprint holds a digest of the file's first kilobyte, one of the kilobyte before the position,
and marks: where each of the first and the last consumed lines ended, with a digest of its end.
Fingerprints of older ledgers have the first digest only.
"""

import itertools
import re
import struct
from collections.abc import Callable, Iterator
from hashlib import blake2b

FINGERPRINT_BYTES = 1024  # enough for a line with a time or an id
FIRST_MARKS = 8  # for what is shorter than the first kilobyte
MARK_BYTES = 65_535  # of a line, from its end: two long lines often end alike
LAST_MARKS = 512  # lines: more than a power cut takes in most cases
_DIGEST = 16
_MARK = struct.Struct(">QH4s")  # the end of a line, how many bytes of it are digested, the digest
Read = Callable[[int, int], bytes]  # up to so many bytes of the file, from an offset on


def at(read: Read, offset: int, marks: bytes = b"") -> bytes:
    """The fingerprint of what lies before an offset."""
    start = max(0, offset - FINGERPRINT_BYTES)
    head = read(min(offset, FINGERPRINT_BYTES), 0)
    return _digest(head) + _digest(read(offset - start, start)) + marks


def after(before: bytes, read: Read, data: bytes, start: int) -> bytes:
    """The fingerprint after data was consumed from start on."""
    ends = [0, *(found.end() for found in re.finditer(rb"\n+", data))]
    ends += [] if ends[-1] == len(data) else [len(data)]
    marks = list(_marks(before)) if start else [_MARK.pack(0, 0, _digest(b"")[:4])]
    for begin, end in itertools.pairwise(ends):
        begin = max(begin, end - MARK_BYTES)
        marks.append(_MARK.pack(start + end, end - begin, _digest(data[begin:end])[:4]))
    if len(marks) > FIRST_MARKS + LAST_MARKS:
        marks = marks[:FIRST_MARKS] + marks[-LAST_MARKS:]
    return at(read, start + len(data), b"".join(marks))


def begins(fingerprint: bytes, read: Read, offset: int) -> bool:
    """Whether a file begins with what was consumed up to an offset."""
    size = min(offset, FINGERPRINT_BYTES)
    head = read(size, 0)
    return len(head) == size and _digest(head) == fingerprint[:_DIGEST]


def fits(fingerprint: bytes, read: Read, offset: int) -> bool:
    """Whether a file that is long enough has what was consumed up to an offset."""
    known = fingerprint[: 2 * _DIGEST]
    return at(read, offset).startswith(known)


def standing(fingerprint: bytes, read: Read) -> tuple[int, bool]:
    """Where the last line that is still there ended, else 0; whether the next one had a mark.

    If so, no line behind it is an old one; else there may be any number.
    """
    marks = list(_marks(fingerprint))
    dense = FIRST_MARKS if len(marks) == FIRST_MARKS + LAST_MARKS else 0
    for number in reversed(range(len(marks))):
        end, size, digest = _MARK.unpack(marks[number])
        line = read(size, end - size)
        if line[-1:] in (b"\n", b"") and len(line) == size and _digest(line)[:4] == digest:
            return end, number >= dense
    return 0, False


def up_to(fingerprint: bytes, read: Read, offset: int) -> bytes:
    """The fingerprint of an earlier position, where a line ended."""
    marks = (mark for mark in _marks(fingerprint) if _MARK.unpack(mark)[0] <= offset)
    return at(read, offset, b"".join(marks))


def _marks(fingerprint: bytes) -> Iterator[bytes]:
    ends = range(2 * _DIGEST + _MARK.size, len(fingerprint) + 1, _MARK.size)
    return (fingerprint[end - _MARK.size : end] for end in ends)


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST).digest()
