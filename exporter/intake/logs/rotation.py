"""Opening the files of one log: each at its right position, also under the names rotation gave it.

A file is known again by device, inode and its first bytes. One never seen before is read from its
beginning, except those that rotation had left behind before the log was first looked at.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from common.clock import Clock
from exporter.config import Log
from exporter.intake.logs.file import FINGERPRINT_BYTES, LogFile
from exporter.intake.logs.find import COMPRESSED, is_rotated_name, neighbours
from exporter.intake.logs.spool import is_fold_name
from exporter.ledger.progress import FileKey, LogPlaces, LogProgress, Position


@dataclass
class Shared:
    """What all streams of one exporter know together."""

    places: LogPlaces
    record: Callable[[LogProgress], None]  # durably, or LedgerUnavailableError
    clock: Clock
    open: set[FileKey] = field(default_factory=set)
    found: set[FileKey] = field(default_factory=set)  # everything met, also what is not open
    matched: set[str] = field(default_factory=set)  # paths that have a stream of their own


class Opening:
    """Files opened together; closed again unless kept() is reached."""

    def __init__(self, path: str, shared: Shared, current: list[LogFile]) -> None:
        """current: the files of this log that are open already."""
        self._path = path
        self._shared = shared
        self._files: list[LogFile] = []
        self._changed: list[Position] = []
        # Positions in files that lost what they had: a copy of it may be found elsewhere.
        self._lost = [file.position for file in current if not file.is_intact(file.position)]
        self._current = list(current)
        self.first = path not in shared.places.followed  # whether it was never looked at before

    def __enter__(self) -> "Opening":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def kept(self, *more: Position) -> list[LogFile]:
        """Record the positions that are new; the files, oldest first, are the caller's.

        Raises LedgerUnavailableError.
        """
        positions = (*self._changed, *more)
        if positions or self.first:
            self._shared.record(LogProgress((self._path,), positions))
        files, self._files = self._files, []
        return files

    def named(self, rule: Log, *, starting: bool) -> None:
        """Open what the path names. Raises OSError, and UserError when it has another reader.

        starting: the exporter has just started, and a machine may have crashed before.
        """
        file = LogFile(Path(self._path), self._path)
        self._files.append(file)
        self._current.append(file)
        known = self._known(file)
        if known is None:
            position = file.at(file.end() if self.first and rule.start == "end" else 0)
        elif starting and _was_cut(file, known):
            position = file.at(file.size)
        elif file.is_intact(known):
            position = replace(known, log=self._path)
        else:
            self._lost.append(known)
            position = file.at(0)
        self._place(file, position)

    def left_behind(self) -> None:
        """Open the log's files under other names that have something to read.

        Raises OSError, UserError.
        """
        named = len(self._files)
        for path in self._candidates():
            self._files.append(LogFile(path, self._path))
        opened = sorted(self._files[named:], key=lambda file: file.modified)
        self._files = [*opened, *self._files[:named]]  # what is older is read first
        for file in opened:
            known = self._known(file)
            if known is not None and not file.is_intact(known):
                self._lost.append(known)
        for file in opened:
            self._place_left(file)

    def _place_left(self, file: LogFile) -> None:
        position = self._position_left(file)
        if position is not None:
            self._place(file, position)
        if position is None or file.size <= position.offset:
            self._files.remove(file)
            file.close()

    def _place(self, file: LogFile, position: Position) -> None:
        file.position = position
        if self._shared.places.positions.get(file.key) != position:
            self._changed.append(position)

    def _candidates(self) -> list[Path]:
        """Paths whose name, or whose name's beginning and inode, say that they were this log.

        Nothing else is opened: closing a file that SQLite has open too would drop SQLite's locks.
        """
        name = os.path.basename(os.path.realpath(self._path))
        inodes = {position.inode for position in self._positions() if position.offset}
        found = []
        for entry in neighbours(self._path):
            renamed = entry.name.startswith(name) and entry.inode() in inodes
            if self._is_rotated(entry.path) or (renamed and not is_fold_name(entry.name)):
                status = entry.stat(follow_symlinks=False)
                key = (status.st_dev, status.st_ino)
                self._shared.found.add(key)
                if key not in self._shared.open and os.access(entry.path, os.R_OK):
                    found.append(Path(entry.path))
        return found

    def _is_rotated(self, path: str) -> bool:
        """Whether a path is an older file of this log, and no log of its own."""
        name = os.path.basename(os.path.realpath(self._path))
        rotated = is_rotated_name(os.path.basename(path), name) and not path.endswith(COMPRESSED)
        return rotated and path not in self._shared.matched

    def _position_left(self, file: LogFile) -> Position | None:
        """Where to go on in a file under another name; None: it is nothing to be read (yet)."""
        known = self._known(file)
        if known is not None and known.offset and file.is_intact(known):
            return known
        if not self._is_rotated(str(file.path)):
            return None  # an unrelated file got the inode
        if self.first:
            return file.at(file.size)
        for lost in self._lost:
            if lost.offset > 0 and lost.key != file.key and file.is_intact(lost):
                # copytruncate's copy: what was not read before the truncation is read here.
                return replace(lost, device=file.key[0], inode=file.key[1])
        return None if self._is_copy(file) else file.at(0)

    def _is_copy(self, file: LogFile) -> bool:
        """Whether copytruncate's copy is made at this moment; the truncation is still to come."""
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            return False
        key = (status.st_dev, status.st_ino)
        return any(log.key == key and log.holds(file) for log in self._current)

    def _known(self, file: LogFile) -> Position | None:
        """The recorded position of a file; device numbers may differ after a reboot."""
        exact = self._shared.places.positions.get(file.key)
        if exact is not None:
            return exact
        for position in self._positions():
            same = position.inode == file.key[1] and position.offset > 0
            if same and file.begins_as(position):
                return replace(position, device=file.key[0])
        return None

    def _positions(self) -> list[Position]:
        return [p for p in self._shared.places.positions.values() if p.log == self._path]


def _was_cut(file: LogFile, known: Position) -> bool:
    """A power cut took the file's end: what is left was consumed, and must not be read again."""
    return FINGERPRINT_BYTES <= file.size < known.offset and file.begins_as(known)
