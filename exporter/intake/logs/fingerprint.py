"""What is remembered of consumed bytes: how to know them again, and how many of them are left.

A fingerprint is 16 bytes for the file's first kilobyte and then marks: one for each of the first
and the last line ends that were consumed, the very last at the position itself. A mark is an offset
and 4 bytes for the kilobyte before it. Fingerprints of older ledgers have no marks.
"""

import re
import struct
from collections.abc import Callable, Iterator
from hashlib import blake2b

FINGERPRINT_BYTES = 1024  # enough for a line with a time or an id
FIRST_MARKS = 8  # cover the first kilobyte, which the head's digest knows as a whole only
LAST_MARKS = 512  # lines: more than a power cut takes in most cases
_HEAD = 16
_MARK = struct.Struct(">Q4s")
Read = Callable[[int, int], bytes]  # up to so many bytes of the file, from an offset on


def of_start(head: bytes, offset: int) -> bytes:
    """The digest of what was consumed first. head: the file's first bytes."""
    return blake2b(head[: min(offset, FINGERPRINT_BYTES)], digest_size=_HEAD).digest()


def at(read: Read, offset: int) -> bytes:
    """The fingerprint of what lies before an offset, with one mark."""
    start = max(0, offset - FINGERPRINT_BYTES)
    marks = _mark(offset, read(offset - start, start)) if offset else b""
    return of_start(read(FINGERPRINT_BYTES, 0), offset) + marks


def after(before: bytes, head: bytes, window: bytes, data: bytes, start: int) -> bytes:
    """The fingerprint after data was consumed from start on. window: the kilobyte before start."""
    end = start + len(data)
    ends = [start + found.end() for found in re.finditer(b"\n", data)]
    ends += [] if ends[-1:] == [end] else [end]
    marks: list[bytes | int] = [*_split(before), *ends]
    marks[:0] = [] if start else [0]  # the beginning stands in any file
    if len(marks) > FIRST_MARKS + LAST_MARKS:
        marks = marks[:FIRST_MARKS] + marks[-LAST_MARKS:]
    text, shift = window + data, len(window) - start
    done = (m if isinstance(m, bytes) else _mark(m, text[: m + shift]) for m in marks)
    return of_start(head, end) + b"".join(done)


def begins(fingerprint: bytes, read: Read, offset: int) -> bool:
    """Whether a file begins with what was consumed up to an offset."""
    head = read(FINGERPRINT_BYTES, 0)
    enough = len(head) >= min(offset, FINGERPRINT_BYTES)
    return enough and of_start(head, offset) == fingerprint[:_HEAD]


def ends(fingerprint: bytes, read: Read) -> bool:
    """Whether the bytes before the position are those that were consumed."""
    return all(_stands(mark, read) for mark in _split(fingerprint)[-1:])


def standing(fingerprint: bytes, read: Read) -> tuple[int, bool]:
    """The last line end that still has its bytes before it, else 0; whether the next had a mark.

    If so, no whole line behind it was consumed; else there may be any number.
    """
    marks = _split(fingerprint)
    dense = FIRST_MARKS if len(marks) == FIRST_MARKS + LAST_MARKS else 0
    for number in reversed(range(len(marks))):
        offset = _MARK.unpack(marks[number])[0]
        if _stands(marks[number], read) and (not offset or read(1, offset - 1) == b"\n"):
            return offset, number >= dense
    return 0, False


def up_to(fingerprint: bytes, read: Read, offset: int) -> bytes:
    """The fingerprint of a position before the one that it was made for."""
    marks = [mark for mark in _split(fingerprint) if _MARK.unpack(mark)[0] <= offset]
    return of_start(read(FINGERPRINT_BYTES, 0), offset) + b"".join(marks)


def _split(fingerprint: bytes) -> list[bytes]:
    return [bytes(part) for part in _parts(fingerprint[_HEAD:])]


def _parts(marks: bytes) -> Iterator[bytes]:
    whole = len(marks) // _MARK.size * _MARK.size
    return (marks[at : at + _MARK.size] for at in range(0, whole, _MARK.size))


def _mark(offset: int, text: bytes) -> bytes:
    """text: ends at the offset."""
    return _MARK.pack(offset, blake2b(text[-FINGERPRINT_BYTES:], digest_size=4).digest())


def _stands(mark: bytes, read: Read) -> bool:
    offset = _MARK.unpack(mark)[0]
    start = max(0, offset - FINGERPRINT_BYTES)
    text = read(offset - start, start)
    return len(text) == offset - start and _mark(offset, text) == mark
