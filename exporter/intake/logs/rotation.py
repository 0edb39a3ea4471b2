"""Opening the files of one log: each at its right position, also under the names rotation gave it.

A reading is the position up to which a file was read. It belongs to one file: the one with its
inode that still has all that was read; else a copy that has it; else a .gz that begins like it and
is long enough. A file without a reading is read from its beginning when it must have been this log:
by its name, and because it was written after the newest that is known. What rotation had left
behind before the log was first looked at is not read.
"""

import contextlib
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from common.clock import Clock
from exporter.config import Log
from exporter.event import UsageEvent
from exporter.intake.logs.file import LogFile, key_at
from exporter.intake.logs.mapping import read_lines
from exporter.intake.logs.naming import COMPRESSED, PACKED, Shape, shape_of
from exporter.intake.logs.packed import UnpackError, open_packed, unpack, unpacked_size
from exporter.ledger.booking import SubmissionResult
from exporter.ledger.ledger import Ledger
from exporter.ledger.progress import FileKey, LogProgress, Position
from sdk.client_delivery import is_beside_spool

Entry = os.DirEntry[str]
LINGER_SECONDS = 60.0  # for writers that have not noticed that their file was renamed


@dataclass
class KnownFiles:
    """What all streams of one exporter know together.

    open: the files that are open. found: all files seen, open or not. followed: the paths that have
    a stream of their own.
    """

    ledger: Ledger
    clock: Clock
    open: set[FileKey] = field(default_factory=set)
    found: set[FileKey] = field(default_factory=set)
    followed: set[str] = field(default_factory=set)

    def record(self, progress: LogProgress, events: Sequence[UsageEvent] = ()) -> SubmissionResult:
        """Book events together with the progress. Raises LedgerUnavailableError."""
        result = self.ledger.submit(list(events), progress).result()
        self.ledger.places.apply(progress, self.clock.now())
        return result

    def renew_positions(self) -> None:
        """Record that what was found is still there: the ledger forgets very old positions."""
        known = self.ledger.places.positions
        found = tuple(position for key, position in known.items() if key in self.found)
        self.record(LogProgress(positions=found, expire=True))


def paths_of(pattern: str) -> list[str]:
    """The paths to follow for a pattern: a plain path itself, even while it is missing.

    So is a pattern whose folder may not be read, which its look says; glob finds nothing there.
    """
    if not glob.has_magic(pattern) or os.path.lexists(pattern):
        return [pattern]
    try:
        os.scandir(os.path.dirname(pattern) or ".").close()
    except PermissionError:
        return [pattern]
    except OSError:
        pass  # it is not there (yet), or a pattern itself
    found = (path for path in glob.glob(pattern) if not path.endswith(COMPRESSED))
    return sorted(path for path in found if not (is_beside_spool(path) or os.path.isdir(path)))


class Opening:
    """Files opened together; close() closes them again unless keep() is reached.

    gone: up to where a file was read that cannot be found; set it as an earlier look had it.
    unread: a sentence for each file that is to be read and cannot. replaced: current files whose
    copies are read instead.
    """

    def __init__(
        self, path: str, known: KnownFiles, current: Sequence[LogFile], rule: Log | None
    ) -> None:
        """current: the files of this log that are open already.

        rule: given when the exporter has just started, and a machine may have crashed before.
        """
        self._path = path
        self._name = os.path.basename(os.path.realpath(path))
        self._known = known
        self._rule = rule
        self._recorded = known.ledger.places.positions
        self._readings = [p for p in self._recorded.values() if p.log == path]
        self._looked = max((p.recorded for p in self._readings), default=0.0)
        self._files: list[LogFile] = []
        self._placed: dict[FileKey, Position] = {}  # that of the file now named first
        self._moved: list[Position] = []  # readings that copies took over
        self._cut: dict[Position, LogFile] = {}  # files resumed where a power cut left them
        self._current = list(current)
        self._truncated = [file for file in current if file.is_truncated()]
        self._ours = [file for file in current if file.is_intact(file.position)]
        # Readings of files that lost what they had: a copy of it may be found elsewhere.
        self._lost = [file.position for file in current if file not in self._ours]
        # Of the files that are known to be this log's: when written, and what their names are like.
        self._written = [os.fstat(file.fileno()).st_mtime_ns for file in self._ours]
        self._shapes: set[Shape] = set()
        self._resumed = False  # nothing was rotated since this log was last looked at
        self.first = path not in known.ledger.places.followed  # it is new to the ledger
        self.gone: Position | None = None
        self.unread: list[str] = []
        self.replaced: list[LogFile] = []

    def close(self) -> None:
        for file in self._files:
            file.close()

    def keep(self) -> list[LogFile]:
        """Record what is new of the readings; the files, oldest first, are the caller's.

        Raises LedgerUnavailableError.
        """
        placed = [p for p in reversed(self._placed.values()) if self._recorded.get(p.key) != p]
        left = [p for p in self._moved if p.key not in self._placed]
        moved = [p.key for p in left if self._recorded.get(p.key) == p]
        truncated = [file for file in self._truncated if file not in self.replaced]
        anew = [(file, file.at(0)) for file in truncated]
        if placed or anew or moved or self.first:
            positions = (*placed, *(position for _, position in anew))
            self._known.record(LogProgress((self._path,), positions, tuple(moved)))
        for file, position in anew:
            file.advance(position)
        if self.gone is not None:
            self.unread.append(
                f"{self._path}: the file that was read up to byte {self.gone.offset} is gone, and"
                " what it got after that is not counted; put it or a copy back beside the log, or"
                " restart the exporter to go on without it"
            )
        files, self._files = self._files, []
        return files

    def open_named(self, *, returning: bool) -> None:
        """Open what the path names. Raises OSError, and UserError when it has another reader.

        returning: this is the first file that the path names since the exporter started.
        """
        file = LogFile(Path(self._path), self._path)
        self._files.append(file)
        self._current.append(file)
        position = self._intact(file)
        if position is None:
            fresh = self.first and not self._lost
            at_end = fresh and self._rule is not None and self._rule.start == "end"
            position = file.at(file.end()) if at_end else self._beginning(file)
        if returning:
            self._resumed = position.offset > 0
            # The last that was opened before the exporter started, if it is not seen now.
            newest = [p for p in self._readings[-1:] if p.key not in self._known.found]
            lost = [p for p in newest if p.offset or p.inode != file.key[1]]
            self.gone = lost[0] if lost and not (self._resumed or file.is_spool()) else None
        file.position = self._placed[file.key] = replace(position, log=self._path)

    def open_left_behind(self) -> None:
        """Open the log's files under other names that have something to read.

        Raises OSError, and UserError when one has another reader.
        """
        named = len(self._files)
        inodes = {position.inode for position in self._readings if position.offset}
        entries = sorted(self._entries(inodes), key=lambda one: one.stat().st_size, reverse=True)
        packed = [one for one in entries if one.name.endswith(PACKED)]
        plain = [one for one in entries if one not in packed]
        known = [one for one in plain if one.inode() in inodes and self._take(one, self._own)]
        # A .gz says nothing of what was read of its inode before: that may be found elsewhere.
        seen = self._known.found.difference(map(_key, packed))
        seen |= {file.key for file in self._current}
        recent = self._looked - LINGER_SECONDS
        newest = [p for p in self._readings if p.key not in seen and p.recorded >= recent]
        self._lost += [p for p in (self.gone, *newest) if p is not None and p not in self._lost]
        others = [one for one in plain if one not in known]
        # Whole copies come first, and all copies before what may be new.
        others = [one for one in others if not (self._lost and self._take(one, self._copied))]
        for entry in others:
            changed = entry.inode() in inodes and shape_of(entry.path, self._name)
            if self.first or (self._rule and changed) or self._is_wanted(entry.path, _key(entry)):
                self._take(entry, self._unseen)
        for entry in sorted(packed, key=lambda entry: entry.stat().st_mtime_ns):
            self._take(entry, self._unpacked)
        opened = sorted(self._files[named:], key=lambda file: file.modified)
        self._files = [*opened, *self._files[:named]]  # what is older is read first

    def _entries(self, inodes: set[int]) -> Iterator[Entry]:
        """The files that were this log by their inode or name: nothing else is opened."""
        ours = {file.key for file in self._ours}
        for entry in _neighbours(self._path, self._known.ledger.path):
            shape = shape_of(entry.path, self._name)
            if not shape and entry.inode() not in inodes:
                continue
            key = _key(entry)
            self._known.found.add(key)
            original = entry.path.removesuffix(PACKED)
            if entry.path in self._known.followed or key in self._known.open:
                self._find(entry.inode())
                self._shapes |= {shape} if shape and key in ours else set()
            elif original == entry.path or not os.path.lexists(original):  # else it is unfinished
                yield entry

    def _take(self, entry: Entry, place: Callable[[LogFile], Position | None]) -> bool:
        """Keep a file open if it has a place, and something to be read from there on.

        Returns whether it has a place, or cannot be read.
        """
        with contextlib.ExitStack() as closing:
            try:
                if entry.name.endswith(PACKED):
                    folder = self._known.ledger.path.parent
                    file = open_packed(entry.path, self._path, folder)
                else:
                    file = LogFile(Path(entry.path), self._path)
                closing.callback(file.close)
                position = place(file)
            except (PermissionError, UnpackError) as error:
                recorded = self._recorded.get(_key(entry))
                read = recorded is not None and entry.stat().st_size <= recorded.offset
                if not (self.first or read):
                    self.unread.append(f"cannot read {entry.path}: {error.strerror}")
                return True
            if position is None:
                return False
            file.position = self._placed[file.key] = position
            if self.gone is not None and not self.gone.offset and not position.offset:
                self.gone = None  # it was empty: what was never read may be it
            if file.size > position.offset:
                self._files.append(file)
                closing.pop_all()
        return True

    def _learn(self, file: LogFile, reading: Position) -> None:
        """A file is this log's, and has what was read up to a position."""
        self._find(reading.inode)
        shape = shape_of(str(file.path), self._name)
        self._shapes |= {shape} if shape else set()
        self._written.append(file.modified)

    def _find(self, inode: int) -> None:
        if self.gone is not None and self.gone.inode == inode:
            self.gone = None

    def _intact(self, file: LogFile) -> Position | None:
        """The reading of a file's inode, if that file still has it; else it is lost."""
        reading = self._reading_of(file)
        if reading is None or file.is_intact(reading):
            return reading
        self._lost.append(reading)
        return None

    def _own(self, file: LogFile) -> Position | None:
        """Where to go on in a file that was this log; None: it is another one with its inode."""
        if reading := self._intact(file):
            self._learn(file, reading)
        return reading

    def _copied(self, file: LogFile) -> Position | None:
        """Where to go on in a copy of what was truncated or removed; None: it is none."""
        lost = [p for p in self._lost if p.offset and p.key != file.key and file.is_intact(p)]
        return self._take_over(lost[0], file) if lost else None

    def _take_over(self, reading: Position, file: LogFile) -> Position:
        """Where to go on in a copy: what is in the truncated file itself, however alike, is new."""
        if reading in self._lost:
            self._lost.remove(reading)
            self._moved.append(reading)
        old = self._cut.get(reading)
        if old is not None and old in self._files:
            old.position = self._placed[old.key] = old.at(0)
        self._learn(file, reading)
        return replace(reading, device=file.key[0], inode=file.key[1])

    def _unseen(self, file: LogFile) -> Position | None:
        """Where to begin in a file that has no reading; None: it is not to be read (yet)."""
        recorded = self._recorded.get(file.key)
        if recorded is not None and recorded.offset and file.is_intact(recorded):
            return None  # it was read for another log, or was there before this one was followed
        if self.first:
            return replace(file.at(file.size), log="")
        if original := self._original(file):
            self.replaced.append(original)
            return file.at(original.position.offset if original in self._ours else 0)
        named = key_at(self._path)
        if file.size and any(log.key == named and log.holds(file) for log in self._current):
            return None  # copytruncate makes a copy at this moment; the truncation is still to come
        return self._beginning(file)

    def _unpacked(self, file: LogFile) -> Position | None:
        """Where to go on in a .gz, of which the first bytes are there; then all of them are."""
        size = unpacked_size(file.path)
        begun = None if self.first else self._begun(file, size)
        if begun in [*self._moved, *(one.position for one in (*self._ours, *self._files))]:
            return None  # the rest is read from what was packed
        read = begun is not None and (begun.log != self._path or begun.offset % 2**32 == size)
        if begun is not None and read:
            self._learn(file, begun)
        if self.first or read:
            return replace(file.at(max(size, file.size)), log="")
        if begun is None and not self._is_wanted(str(file.path), file.key):
            return None
        unpack(file.path, file.fileno())
        if begun is not None:
            return self._take_over(begun, file)
        return None if self._original(file) else file.at(0)

    def _begun(self, file: LogFile, size: int) -> Position | None:
        """Up to where what a .gz begins with was read; None: nowhere."""
        known = [
            p
            for p in (*self._recorded.values(), *self._lost)
            if (p.log == self._path or p.key == file.key)
            and (p.offset > 0 and p.offset % 2**32 <= size and file.begins_as(p))
        ]
        return max(
            known, key=lambda p: (p.offset == size, p.key == file.key, p.offset), default=None
        )

    def _beginning(self, file: LogFile) -> Position:
        """Where to begin in a file that has not what was read, perhaps because of a power cut.

        Ids make reading it again harmless.
        """
        damaged = self._reading_of(file) if self._rule else None
        if damaged is None or damaged in self._moved:
            return file.at(0)
        events, _ = read_lines(file.beginning(), self._rule, self._known.clock.now())
        has_ids = file.is_spool() or (events and all(event.digest for event in events))
        self._cut[damaged] = file
        return file.at(0) if has_ids else file.resume(damaged)

    def _is_wanted(self, path: str, key: FileKey) -> bool:
        """Whether a file without a reading was this log after the newest one that is known.

        It was opened, no more; or its name is like those that known ones have now, and it was
        written later; where no known one is left, a packed one was written after the last look.
        """
        recorded = self._recorded.get(key)
        if recorded is not None and recorded.log == self._path and not recorded.offset:
            return True
        shape = shape_of(path, self._name)
        if shape is None or self._resumed or (self._shapes and shape not in self._shapes):
            return False
        below = shape.folder != os.path.dirname(os.path.realpath(self._path))
        if not self._shapes and below and os.path.lexists(os.path.join(shape.folder, self._name)):
            return False  # that folder has a log of its own
        newest = max(self._written, default=self._looked * 1e9 if path.endswith(PACKED) else 0)
        return os.stat(path).st_mtime_ns >= newest - LINGER_SECONDS * 1e9

    def _original(self, file: LogFile) -> LogFile | None:
        """The current file that was deleted, is open still, and of which another is a copy."""
        deleted = (old for old in self._current if os.fstat(old.fileno()).st_nlink == 0)
        return next((old for old in deleted if old.size and file.holds(old)), None)

    def _reading_of(self, file: LogFile) -> Position | None:
        """The reading that has a file's inode; device numbers may differ after a reboot."""
        if exact := self._recorded.get(file.key):
            return exact
        same = (p for p in self._readings if p.inode == file.key[1] and p.offset > 0)
        found = next((p for p in same if file.has_some_of(p)), None)
        return found and replace(found, device=file.key[0])


def _key(entry: Entry) -> FileKey:
    status = entry.stat(follow_symlinks=False)
    return status.st_dev, status.st_ino


def _neighbours(path: str, ledger: Path) -> Iterator[Entry]:
    """The other regular files in the folder of the file that a path leads to.

    And those in the folders directly below, where some rotations put them; not in folders that are
    missing or may not be listed. Never the ledger: closing a file that SQLite has open too would
    drop SQLite's locks.
    """
    real = os.path.realpath(path)
    for entry in _listed(os.path.dirname(real)):
        for one in _listed(entry.path) if entry.is_dir(follow_symlinks=False) else (entry,):
            apart = one.path == real or one.path.startswith(str(ledger))
            if not (apart or is_beside_spool(one.name)) and one.is_file(follow_symlinks=False):
                yield one


def _listed(folder: str) -> Iterator[Entry]:
    denied = (FileNotFoundError, NotADirectoryError, PermissionError)
    with contextlib.suppress(*denied), os.scandir(folder) as entries:
        yield from entries
