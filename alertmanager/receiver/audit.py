"""The audit trail: one JSON line a change; when, from, to, why, who, which alerts."""

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from common.files import open_regular

log = logging.getLogger("receiver")
MAX_BYTES = 16 << 20  # then the file becomes .1, and that one is forgotten
TAIL_BYTES = 1 << 20  # as much of it as is ever read back


class Change(Struct, frozen=True):
    """What was put in place, or what a person asked for; from asked on what a lost state needs."""

    time: str  # RFC 3339
    previous: str = field(name="from")
    level: str
    tunings: list[str]
    why: str
    who: str
    alerts: list[str]  # their names
    shadow: bool
    request: str = field(name="said", default="")  # "pin none until 2026-11-24T18:00:00.000Z"
    asked: str = ""  # the level without override and backstop; "" in trails of before it was kept
    override: dict[str, Any] | None = None  # as in the state
    ledgers: dict[str, float] = field(default_factory=dict)  # of that day: its start, Unix seconds


class Audit:
    """Appends to a file; a full disk costs the line, never the change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._older = path.with_name(f"{path.name}.1")
        self.problem: str | None = None  # why the last line could not be written

    def record(self, change: Change) -> None:
        line = msgspec.json.encode(change) + b"\n"
        try:
            if self.path.is_file() and self.path.stat().st_size + len(line) > MAX_BYTES:
                os.replace(self.path, self._older)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
            with os.fdopen(open_regular(self.path, flags), "r+b") as file:
                end = file.seek(0, os.SEEK_END)
                torn = end and os.pread(file.fileno(), 1, end - 1) != b"\n"  # by a kill
                file.write(b"\n" + line if torn else line)
                file.flush()
                os.fsync(file.fileno())
            self.problem = None
        except OSError as error:
            self.problem = f"cannot write the audit trail {self.path}: {error.strerror}"
            log.error("%s", self.problem)

    def last(self, count: int) -> list[Change]:
        """The newest changes, oldest first; a torn line is left out. Reads a bounded tail."""
        changes = _changes(_tail(self.path))
        if len(changes) < count:
            changes = [*_changes(_tail(self._older)), *changes]
        return changes[-count:]

    def newest(self) -> Change | None:
        """The last line's; None when there is none, or it is torn or damaged."""
        text = _tail(self.path) or _tail(self._older)
        return next(iter(_changes(text.rstrip(b"\n").rpartition(b"\n")[2])), None)

    @property
    def exists(self) -> bool:
        return self.path.exists() or self._older.exists()


def _changes(text: bytes) -> list[Change]:
    found = []
    for line in text.split(b"\n"):
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found.append(msgspec.json.decode(line, type=Change))
    return found


def _tail(path: Path) -> bytes:
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            return file.read(TAIL_BYTES)
    except OSError:
        return b""
