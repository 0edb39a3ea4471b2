"""Opening the files of one log: each at its right position, also under the names rotation gave it.

A file is known again by device, inode and its first bytes. One never seen before is read from its
beginning, except those that rotation had left behind before the log was first looked at.
"""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from common.clock import Clock
from exporter.config import Log
from exporter.event import UsageEvent
from exporter.intake.logs.file import LogFile, key_at
from exporter.intake.logs.mapping import read_lines
from exporter.intake.logs.spool import BESIDE_SPOOLS, is_fold_name
from exporter.ledger.booking import SubmissionResult
from exporter.ledger.ledger import Ledger
from exporter.ledger.progress import FileKey, LogProgress, Position

COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip")
# What logrotate and Python's handlers append: .1, -20261124, .2026-11-24_10-00-00. Not .old or
# .bak: those are as often made by people.
_ROTATION = re.compile(r"[._-]\d[\dT._:+Z-]*")


class KnownFiles:
    """What all streams of one exporter know together.

    open: the files that are open. found: all files seen, open or not. followed: the paths that have
    a stream of their own. places: what the ledger knows, as of the last commit.
    """

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self.places = ledger.places
        self.clock = clock
        self.open: set[FileKey] = set()
        self.found: set[FileKey] = set()
        self.followed: set[str] = set()

    def record(self, progress: LogProgress, events: Sequence[UsageEvent] = ()) -> SubmissionResult:
        """Book events together with the progress. Raises LedgerUnavailableError."""
        result = self._ledger.submit(list(events), progress).result()
        self.places.apply(progress)
        return result

    def renew_positions(self) -> None:
        """Record that what was found is still there: the ledger forgets very old positions."""
        known = self.places.positions
        found = tuple(known[key] for key in self.found if key in known)
        self.record(LogProgress(positions=found, expire=True))


def paths_of(pattern: str) -> list[str]:
    """The paths to follow for a pattern: a plain path itself, even while it is missing."""
    if not glob.has_magic(pattern) or os.path.lexists(pattern):
        return [pattern]
    return sorted(path for path in glob.glob(pattern) if _is_log(path))


def _is_log(path: str) -> bool:
    return not (
        path.endswith((*COMPRESSED, *BESIDE_SPOOLS)) or is_fold_name(path) or os.path.isdir(path)
    )


class Opening:
    """Files opened together; closed again unless keep() is reached."""

    def __init__(self, path: str, known: KnownFiles, current: list[LogFile]) -> None:
        """current: the files of this log that are open already."""
        self._path = path
        self._name = os.path.basename(os.path.realpath(path))
        self._known = known
        self._files: list[LogFile] = []
        self._changed: list[Position] = []
        # Positions in files that lost what they had: a copy of it may be found elsewhere.
        self._lost = [file.position for file in current if not file.is_intact(file.position)]
        self._current = list(current)
        self.first = path not in known.places.followed  # whether it is followed for the first time

    def __enter__(self) -> "Opening":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def keep(self, *more: Position) -> list[LogFile]:
        """Record the positions that are new; the files, oldest first, are the caller's.

        Raises LedgerUnavailableError.
        """
        positions = (*self._changed, *more)
        if positions or self.first:
            self._known.record(LogProgress((self._path,), positions))
        files, self._files = self._files, []
        return files

    def open_named(self, rule: Log, *, starting: bool) -> None:
        """Open what the path names. Raises OSError, and UserError when it has another reader.

        starting: the exporter has just started, and a machine may have crashed before.
        """
        file = LogFile(Path(self._path), self._path)
        self._files.append(file)
        self._current.append(file)
        recorded = self._recorded(file)
        if recorded is None:
            position = file.at(file.end() if self.first and rule.start == "end" else 0)
        elif file.is_intact(recorded):
            position = replace(recorded, log=self._path)
        else:
            self._lost.append(recorded)
            position = self._resumed(file, recorded, rule) if starting else file.at(0)
        self._place(file, position)

    def _resumed(self, file: LogFile, recorded: Position, rule: Log) -> Position:
        """Where to go on in a file that a power cut damaged. Ids make reading it again harmless."""
        events, _ = read_lines(file.beginning(), rule, self._known.clock.now())
        has_ids = file.is_spool() or (events and all(event.digest for event in events))
        return file.at(0) if has_ids else file.resume(recorded)

    def open_left_behind(self, rule: Log | None = None) -> None:
        """Open the log's files under other names that have something to read.

        rule: given when the exporter has just started. Raises OSError, UserError.
        """
        named = len(self._files)
        for path in self._candidates():
            self._files.append(LogFile(path, self._path))
        opened = sorted(self._files[named:], key=lambda file: file.modified)
        self._files = [*opened, *self._files[:named]]  # what is older is read first
        for file in opened:
            recorded = self._recorded(file)
            if recorded is not None and not file.is_intact(recorded):
                self._lost.append(recorded)
        for file in opened:
            self._place_left(file, rule)

    def _place_left(self, file: LogFile, rule: Log | None) -> None:
        position = self._position_left(file, rule)
        if position is not None:
            self._place(file, position)
        if position is None or file.size <= position.offset:
            self._files.remove(file)
            file.close()

    def _place(self, file: LogFile, position: Position) -> None:
        file.position = position
        if self._known.places.positions.get(file.key) != position:
            self._changed.append(position)

    def _candidates(self) -> list[Path]:
        """Paths whose name, or whose name's beginning and inode, say that they were this log.

        Nothing else is opened: closing a file that SQLite has open too would drop SQLite's locks.
        """
        inodes = {position.inode for position in self._positions() if position.offset}
        found = []
        for entry in _neighbours(self._path):
            renamed = entry.name.startswith(self._name) and entry.inode() in inodes
            if self._is_rotated(entry.path) or (renamed and not is_fold_name(entry.name)):
                status = entry.stat(follow_symlinks=False)
                key = (status.st_dev, status.st_ino)
                self._known.found.add(key)
                if key not in self._known.open and os.access(entry.path, os.R_OK):
                    found.append(Path(entry.path))
        return found

    def _is_rotated(self, path: str) -> bool:
        """Whether a path is an older file of this log by its name, and no log of its own."""
        name = os.path.basename(path)
        rest = name.removeprefix(self._name) if name.startswith(self._name) else ""
        rotated = _ROTATION.fullmatch(rest) and not path.endswith(COMPRESSED)
        return bool(rotated) and path not in self._known.followed

    def _position_left(self, file: LogFile, rule: Log | None) -> Position | None:
        """Where to go on in a file under another name; None: it is nothing to be read (yet)."""
        recorded = self._recorded(file)
        if recorded is not None and recorded.offset and file.is_intact(recorded):
            return recorded
        if not self._is_rotated(str(file.path)):
            return None  # an unrelated file got the inode
        if self.first:
            return file.at(file.size)
        for lost in self._lost:
            if lost.offset > 0 and lost.key != file.key and file.is_intact(lost):
                # copytruncate's copy: what was not read before the truncation is read here.
                self._begin_anew(lost)
                return replace(lost, device=file.key[0], inode=file.key[1])
        if self._is_copy(file):
            return None
        if rule is None or recorded is None:
            return file.at(0)
        return self._resumed(file, recorded, rule)

    def _begin_anew(self, lost: Position) -> None:
        """All that is in the file itself came after its truncation, however alike it looks."""
        for file in self._files:
            if file.key == lost.key:
                self._place(file, file.at(0))

    def _is_copy(self, file: LogFile) -> bool:
        """Whether copytruncate's copy is made at this moment; the truncation is still to come."""
        key = key_at(self._path)
        return any(log.key == key and log.holds(file) for log in self._current)

    def _recorded(self, file: LogFile) -> Position | None:
        """The recorded position of a file; device numbers may differ after a reboot."""
        exact = self._known.places.positions.get(file.key)
        if exact is not None:
            return exact
        for position in self._positions():
            same = position.inode == file.key[1] and position.offset > 0
            if same and file.has_some_of(position):
                return replace(position, device=file.key[0])
        return None

    def _positions(self) -> list[Position]:
        return [p for p in self._known.places.positions.values() if p.log == self._path]


def _neighbours(path: str) -> Iterator[os.DirEntry[str]]:
    """The regular files in the folder of the file that a path leads to, the path itself left out.

    Empty when the folder is missing or may not be listed.
    """
    real = Path(os.path.realpath(path))
    try:
        with os.scandir(real.parent) as entries:
            for entry in entries:
                if entry.name != real.name and entry.is_file(follow_symlinks=False):
                    yield entry
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
