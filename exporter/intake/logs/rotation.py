"""Opening the files of one log: each at its right position, also under the names rotation gave it.

A file is known again by inode and its first bytes, in the log's folder and in those directly below.
One never seen before is read from its beginning when it must have been this log: by its name, and
because it was written after the newest that is known. What rotation had left behind before the log
was first looked at is not read.
"""

import contextlib
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from common.clock import Clock
from exporter.config import Log
from exporter.event import UsageEvent
from exporter.intake.logs.file import LogFile, key_at
from exporter.intake.logs.fingerprint import FINGERPRINT_BYTES
from exporter.intake.logs.mapping import read_lines
from exporter.intake.logs.naming import COMPRESSED, PACKED, Shape, shape_of
from exporter.intake.logs.packed import MAX_UNPACKED_BYTES, UnpackError, open_packed, unpacked_size
from exporter.intake.logs.spool import BESIDE_SPOOLS, is_fold_name
from exporter.ledger.booking import SubmissionResult
from exporter.ledger.ledger import Ledger
from exporter.ledger.progress import FileKey, LogProgress, Position

Entry = os.DirEntry[str]
LINGER_SECONDS = 60.0  # for writers that have not noticed that their file was renamed


class KnownFiles:
    """What all streams of one exporter know together.

    open: the files that are open. found: all files seen, open or not. followed: the paths that have
    a stream of their own. places: what the ledger knows, as of the last commit.
    """

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self.ledger_path = ledger.path
        self.places = ledger.places
        self.clock = clock
        self.open: set[FileKey] = set()
        self.found: set[FileKey] = set()
        self.followed: set[str] = set()

    def record(self, progress: LogProgress, events: Sequence[UsageEvent] = ()) -> SubmissionResult:
        """Book events together with the progress. Raises LedgerUnavailableError."""
        result = self._ledger.submit(list(events), progress).result()
        self.places.apply(progress, self.clock.now())
        return result

    def renew_positions(self) -> None:
        """Record that what was found is still there: the ledger forgets very old positions."""
        known = self.places.positions
        found = tuple(position for key, position in known.items() if key in self.found)
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
    """Files opened together; closed again unless keep() is reached.

    gone: up to where a file was read that cannot be found. unreadable: a sentence for each file
    that is to be read and cannot. replaced: current files whose copies are read instead.
    """

    def __init__(
        self, path: str, known: KnownFiles, current: list[LogFile], gone: Position | None = None
    ) -> None:
        """current: the files of this log that are open already. gone: as an earlier look had it."""
        self._path = path
        self._name = os.path.basename(os.path.realpath(path))
        self._known = known
        self._positions = [p for p in known.places.positions.values() if p.log == path]
        self._files: list[LogFile] = []
        self._changed: list[Position] = []
        self._current = list(current)
        self._ours = [file for file in current if file.is_intact(file.position)]
        # Positions in files that lost what they had: a copy of it may be found elsewhere.
        self._lost = [file.position for file in current if file not in self._ours]
        # Of the files that are known to be this log's: when written, and what their names are like.
        self._written = [os.fstat(file.fileno()).st_mtime_ns for file in self._ours]
        self._shapes: set[Shape] = set()
        self._looked = max((p.recorded for p in self._positions), default=0.0)
        self._resumed = False  # nothing was rotated since this log was last looked at
        self.first = path not in known.places.followed  # whether it is followed for the first time
        self.gone = gone
        self.unreadable: list[str] = []
        self.replaced: list[LogFile] = []

    def __enter__(self) -> "Opening":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def keep(self, *more: Position) -> list[LogFile]:
        """Record the positions that are new; the files, oldest first, are the caller's.

        Raises LedgerUnavailableError.
        """
        positions = (*reversed(self._changed), *more)  # that of the file now named last
        if positions or self.first:
            self._known.record(LogProgress((self._path,), positions))
        files, self._files = self._files, []
        return files

    def open_named(self, rule: Log, *, starting: bool, returning: bool) -> None:
        """Open what the path names. Raises OSError, and UserError when it has another reader.

        starting: the exporter has just started, and a machine may have crashed before.
        returning: this is the first file that the path names since.
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
            position = self._after_cut(file, recorded, rule) if starting else file.at(0)
        if returning:
            self._resumed = position.offset > 0
            self.gone = None if self._resumed or file.is_spool() else self._newest(file)
        self._place(file, position)

    def _after_cut(self, file: LogFile, recorded: Position, rule: Log | None) -> Position:
        """Where to go on in a file that a power cut damaged. Ids make reading it again harmless."""
        events, _ = read_lines(file.beginning(), rule, self._known.clock.now())
        has_ids = file.is_spool() or (events and all(event.digest for event in events))
        return file.at(0) if has_ids else file.resume(recorded)

    def open_left_behind(self, rule: Log | None = None) -> None:
        """Open the log's files under other names that have something to read.

        rule: given when the exporter has just started. Raises OSError, UserError.
        """
        named = len(self._files)
        known, others, packed = self._entries()
        changed = [entry for entry in known if not self._take_known(entry)]
        others += changed
        seen = self._known.found | {file.key for file in self._current}
        recent = self._looked - LINGER_SECONDS
        newest = [p for p in self._positions if p.key not in seen and p.recorded >= recent]
        self._lost += [p for p in (self.gone, *newest) if p is not None and p not in self._lost]
        others.sort(key=lambda entry: entry.stat().st_size, reverse=True)  # whole copies first
        for entry in [entry for entry in others if not self._take_copy(entry)]:
            was_ours = entry in changed and shape_of(entry.path, self._name)
            self._take_unseen(entry, rule if was_ours else None)
        for entry in sorted(packed, key=lambda entry: entry.stat().st_mtime_ns):
            self._take_packed(entry)
        opened = sorted(self._files[named:], key=lambda file: file.modified)
        self._files = [*opened, *self._files[:named]]  # what is older is read first

    def _entries(self) -> tuple[list[Entry], list[Entry], list[Entry]]:
        """Files that were this log by their inode, those that were by their name, and packed ones.

        Nothing else is opened, and never the ledger, whatever inode it was given: closing a file
        that SQLite has open too would drop SQLite's locks.
        """
        inodes = {position.inode for position in self._positions if position.offset}
        ours = {file.key for file in self._ours}
        known: list[Entry] = []
        others: list[Entry] = []
        packed: list[Entry] = []
        for entry in _neighbours(self._path):
            by_inode, shape = entry.inode() in inodes, shape_of(entry.path, self._name)
            if not (by_inode or shape) or self._is_never_opened(entry):
                continue
            self._known.found.add(_key(entry))
            if entry.path in self._known.followed or _key(entry) in self._known.open:
                self._find(entry.inode())
                self._shapes |= {shape} if shape and _key(entry) in ours else set()
            elif entry.name.endswith(PACKED):
                packed.append(entry)
            else:
                (known if by_inode else others).append(entry)
        return known, others, packed

    def _is_never_opened(self, entry: Entry) -> bool:
        ledger = entry.path.startswith(str(self._known.ledger_path))
        return ledger or entry.name.endswith(BESIDE_SPOOLS) or is_fold_name(entry.name)

    def _find(self, inode: int) -> None:
        """What was read up to some position has been found."""
        if self.gone is not None and self.gone.inode == inode:
            self.gone = None

    def _take_known(self, entry: Entry) -> bool:
        """Go on in a file that was this log; False: it is another one that got the inode."""
        file = self._open(entry)
        if file is None:
            return True
        recorded = self._recorded(file)
        if recorded is None or not file.is_intact(recorded):
            self._lost += [recorded] if recorded else []
            self._settle(file, None)
            return False
        self._learn(file, recorded)
        self._settle(file, recorded)
        return True

    def _take_copy(self, entry: Entry) -> bool:
        """Go on in a copy of what was truncated or removed; whether it is one."""
        file = self._open(entry) if self._lost else None
        if file is None:
            return False
        lost = next((lost for lost in self._lost if _is_copy_of(file, lost)), None)
        if lost is not None:
            self._lost.remove(lost)
            self._begin_anew(lost)
            self._learn(file, lost)
        self._settle(file, lost and _moved(lost, file))
        return lost is not None

    def _learn(self, file: LogFile, position: Position) -> None:
        """A file is this log's, and was read up to a position."""
        self._find(position.inode)
        shape = shape_of(str(file.path), self._name)
        self._shapes |= {shape} if shape else set()
        self._written.append(file.modified)

    def _settle(self, file: LogFile, position: Position | None) -> None:
        """Keep a file open if it has something to be read from a position on."""
        if position is not None:
            self._place(file, position)
            if self.gone is not None and not self.gone.offset and not position.offset:
                self.gone = None  # it was empty: what was never read may be it
        if position is None or file.size <= position.offset:
            self._files.remove(file)
            file.close()

    def _place(self, file: LogFile, position: Position) -> None:
        file.position = position
        if self._known.places.positions.get(file.key) != position:
            self._changed.append(position)

    def _is_successor(self, path: str) -> bool:
        """Whether a file never seen was this log after the newest one that is known.

        Its name is like those that known ones have now, and it was written later; where no known
        one is left, a packed one was written after the log was last looked at.
        """
        shape = shape_of(path, self._name)
        alike = shape in self._shapes if self._shapes else shape and self._is_mine(shape.folder)
        if not alike or self._resumed:
            return False
        newest = max(self._written, default=self._looked * 1e9 if path.endswith(PACKED) else 0)
        return os.stat(path).st_mtime_ns >= newest - LINGER_SECONDS * 1e9

    def _is_wanted(self, entry: Entry) -> bool:
        """Whether a file is to be read from its beginning: also one that was opened, no more."""
        recorded = self._known.places.positions.get(_key(entry))
        opened = recorded is not None and recorded.log == self._path and not recorded.offset
        return opened or self._is_successor(entry.path)

    def _is_mine(self, folder: str) -> bool:
        """Whether a folder is the log's, or one below that holds no log of the same name."""
        mine = folder == os.path.dirname(os.path.realpath(self._path))
        return mine or not os.path.lexists(os.path.join(folder, self._name))

    def _open(self, entry: Entry, most: int = 0) -> LogFile | None:
        """Open a file, or so many bytes of what a .gz holds; None: it cannot be read."""
        try:
            if most:
                folder = self._known.ledger_path.parent
                file = open_packed(entry.path, self._path, folder, most)
            else:
                file = LogFile(Path(entry.path), self._path)
        except (PermissionError, UnpackError) as error:
            self._note(entry, error)
            return None
        self._files.append(file)
        return file

    def _note(self, entry: Entry, error: OSError) -> None:
        """Say that a file cannot be read, unless all of it is known to have been."""
        recorded = self._known.places.positions.get(_key(entry))
        read = recorded is not None and entry.stat().st_size <= recorded.offset
        if not (self.first or read):
            self.unreadable.append(f"cannot read {entry.path}: {error.strerror}")

    def _take_packed(self, entry: Entry) -> None:
        """Go on in a .gz: what it holds says of what it is a copy."""
        if os.path.lexists(entry.path.removesuffix(PACKED)):
            return  # it is not finished
        head = self._open(entry, FINGERPRINT_BYTES)
        if head is None:
            return
        size = unpacked_size(entry.path)
        begun = None if self.first else self._begun(head, size)
        if begun is not None and begun in [file.position for file in self._ours]:
            self._settle(head, None)  # the rest is read from what was packed
            return
        read = begun is not None and (begun.log != self._path or begun.offset % 2**32 == size)
        if begun is not None and read:
            self._learn(head, begun)
        if self.first or read:
            self._place(head, replace(head.at(head.size), log=""))
        self._settle(head, None)
        if not (self.first or read) and (begun or self._is_wanted(entry)):
            self._take_content(entry, begun)

    def _take_content(self, entry: Entry, begun: Position | None) -> None:
        file = self._open(entry, MAX_UNPACKED_BYTES)
        if file is not None and begun is not None:
            self._learn(file, begun)
            self._settle(file, _moved(begun, file))
        elif file is not None:
            self._settle(file, None if self._original(file) else file.at(0))

    def _begun(self, head: LogFile, size: int) -> Position | None:
        """Up to where the content of a .gz was read, the first of which is open; None: nowhere."""
        known = [
            p
            for p in (*self._known.places.positions.values(), *self._lost)
            if (p.log == self._path or p.key == head.key) and p.offset > 0 and head.begins_as(p)
        ]
        ends = [p for p in known if p.offset % 2**32 <= size]
        return max(
            ends, key=lambda p: (p.key == head.key, p.offset == size, p.offset), default=None
        )

    def _take_unseen(self, entry: Entry, rule: Log | None) -> None:
        """Open a file that was never seen, if this was the log.

        rule: given for a file that was seen and has changed while the exporter was away.
        """
        wanted = self.first or rule is not None or self._is_wanted(entry)
        file = self._open(entry) if wanted else None
        if file is not None:
            self._settle(file, self._position_in(file, rule))

    def _position_in(self, file: LogFile, rule: Log | None) -> Position | None:
        """Where to begin in a file that is not known; None: it is nothing to be read (yet)."""
        recorded = self._known.places.positions.get(file.key)
        if recorded is not None and recorded.offset and file.is_intact(recorded):
            return None  # it was read for another log, or was there before this one was followed
        if self.first:
            return replace(file.at(file.size), log="")
        if original := self._original(file):
            self.replaced.append(original)
            return file.at(original.position.offset if original in self._ours else 0)
        if self._is_copy(file):
            return None
        damaged = self._recorded(file) if rule is not None else None
        return file.at(0) if damaged is None else self._after_cut(file, damaged, rule)

    def _begin_anew(self, lost: Position) -> None:
        """All that is in the file itself came after its truncation, however alike it looks."""
        for file in self._files:
            if file.key == lost.key:
                self._place(file, file.at(0))

    def _original(self, file: LogFile) -> LogFile | None:
        """The current file that was deleted, is open still, and of which another is a copy."""
        deleted = (old for old in self._current if os.fstat(old.fileno()).st_nlink == 0)
        return next((old for old in deleted if old.size and file.holds(old)), None)

    def _is_copy(self, file: LogFile) -> bool:
        """Whether copytruncate's copy is made at this moment; the truncation is still to come."""
        key = key_at(self._path)
        return any(log.key == key and log.holds(file) for log in self._current)

    def _recorded(self, file: LogFile) -> Position | None:
        """The recorded position of a file; device numbers may differ after a reboot."""
        exact = self._known.places.positions.get(file.key)
        if exact is not None:
            return exact
        for position in self._positions:
            same = position.inode == file.key[1] and position.offset > 0
            if same and file.has_some_of(position):
                return replace(position, device=file.key[0])
        return None

    def _newest(self, named: LogFile) -> Position | None:
        """The last that was opened of this log before the exporter started, if not seen since."""
        newest = self._positions[-1] if self._positions else None
        if newest is None or newest.key in self._known.found:
            return None
        return newest if newest.offset or newest.inode != named.position.inode else None


def _is_copy_of(file: LogFile, position: Position) -> bool:
    other = position.offset > 0 and position.key != file.key
    return other and file.is_intact(position)


def _moved(position: Position, file: LogFile) -> Position:
    return replace(position, device=file.key[0], inode=file.key[1])


def _key(entry: Entry) -> FileKey:
    status = entry.stat(follow_symlinks=False)
    return status.st_dev, status.st_ino


def _neighbours(path: str) -> Iterator[Entry]:
    """The other regular files in the folder of the file that a path leads to.

    And those in the folders directly below, where some rotations put them; not in folders that are
    missing or may not be listed.
    """
    real = os.path.realpath(path)
    for entry in _listed(os.path.dirname(real)):
        below = _listed(entry.path) if entry.is_dir(follow_symlinks=False) else (entry,)
        yield from (one for one in below if one.path != real and one.is_file(follow_symlinks=False))


def _listed(folder: str) -> Iterator[Entry]:
    denied = (FileNotFoundError, NotADirectoryError, PermissionError)
    with contextlib.suppress(*denied), os.scandir(folder) as entries:
        yield from entries
