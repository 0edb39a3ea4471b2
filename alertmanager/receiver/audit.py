"""The audit trail: one JSON line a change; when, from, to, why, who, which alerts."""

import contextlib
import logging
import os
from pathlib import Path

import msgspec
from msgspec import Struct, field

log = logging.getLogger("receiver")
MAX_BYTES = 16 << 20  # then the file becomes .1, and that one is forgotten
TAIL_BYTES = 1 << 20  # as much of it as is ever read back


class Change(Struct, frozen=True):
    """What was put in place, or what a person asked for. time: RFC 3339; alerts: their names."""

    time: str
    previous: str = field(name="from")
    level: str
    tunings: list[str]
    why: str
    who: str
    alerts: list[str]
    shadow: bool
    request: str = field(name="said", default="")  # "pin none until 2026-11-24T18:00:00.000Z"


class Audit:
    """Appends to a file; a full disk costs the line, never the change."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self, change: Change) -> None:
        """One line, flushed to disk."""
        line = msgspec.json.encode(change) + b"\n"
        try:
            if self.path.exists() and self.path.stat().st_size + len(line) > MAX_BYTES:
                os.replace(self.path, self._older)
            with open(self.path, "ab") as file:
                torn = _tail(self.path, 1) not in (b"", b"\n")  # by a kill
                file.write(b"\n" + line if torn else line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            log.error("cannot write the audit trail %s: %s", self.path, error.strerror)

    def last(self, count: int) -> list[Change]:
        """The newest changes, oldest first; a torn line is left out. Reads a bounded tail."""
        changes = _changes(self.path)
        if len(changes) < count:
            changes = [*_changes(self._older), *changes]
        return changes[-count:]

    @property
    def _older(self) -> Path:
        return self.path.with_name(self.path.name + ".1")


def _changes(path: Path) -> list[Change]:
    """Those in the last TAIL_BYTES of a file, none when it cannot be read."""
    found = []
    for line in _tail(path, TAIL_BYTES).split(b"\n"):
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            found.append(msgspec.json.decode(line, type=Change))
    return found


def _tail(path: Path, size: int) -> bytes:
    """The file's end, nothing when it cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read(size)
    except OSError:
        return b""
