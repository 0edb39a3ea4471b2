"""One followed path through its rotations: which files to read, in which order, when to let go."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from common.budget_status import LogState, LogStatus
from common.errors import UserError
from exporter.config import Log
from exporter.intake.logs.container import join
from exporter.intake.logs.file import Join, LogFile, WholeLines, key_at
from exporter.intake.logs.rotation import LINGER_SECONDS, KnownFiles, Opening
from exporter.ledger.progress import FileKey, LogProgress, Position
from sdk.client import open_file
from sdk.client_delivery import lock_spool, retire, take_folds


class Stream:
    """The files of one path that are not finished yet, oldest first.

    problem, last_refusal: sentences, or empty. locked: the problem is another reader.
    """

    def __init__(self, path: str, rule: Log, known: KnownFiles) -> None:
        self.path = path
        self.rule = rule
        self.files: list[LogFile] = []
        self.problem = ""
        self.locked = False
        self.last_refusal = ""
        self._known = known
        self._named: FileKey | None = None  # the file that the path leads to
        self._looked = False
        self._returned = False  # whether the path named a file since the exporter started
        self._gone: Position | None = None  # up to where a file was read that cannot be found
        self._unread: list[str] = []  # a sentence for each file that is known and not read
        self._again = 0.0  # when to look for these once more: Unix seconds
        self._delivery_lock: int | None = None
        self._barred = False  # a delivery reads this spool

    @contextlib.contextmanager
    def problems_noted(self) -> Iterator[None]:
        """What cannot be read in the block becomes the problem."""
        try:
            yield
        except UserError as error:
            self.problem, self.locked = str(error), True
        except OSError as error:
            self.problem, self.locked = f"cannot read {self.path}: {error.strerror or error}", False

    def look(self) -> None:
        """Open what has to be read.

        Raises OSError, UserError (another reader) and LedgerUnavailableError: look again later.
        """
        key = key_at(self.path)
        again = self._unread and self._known.clock.now() >= self._again
        if key != self._named or not self._looked or again:
            self._follow(key)
        if self._delivery_lock is None and any(file.is_spool() for file in self.files):
            self._barred = True
            with contextlib.suppress(PermissionError):  # then no delivery can lock it either
                self._delivery_lock = lock_spool(self.path)
                if self._delivery_lock is None:
                    raise UserError(
                        f"{self.path} is read by a delivery (client_delivery.py): stop it, or do "
                        "not follow it here"
                    )
        self._barred = False
        self.problem, self.locked = "; ".join(self._unread), False
        for name in take_folds(self.path):
            with self.problems_noted():  # one that somebody planted; the others are read
                self._add_fold(name)

    def next(self) -> tuple[WholeLines, list[tuple[LogFile, Position]]] | None:
        """The next lines of the oldest file that has any.

        And the positions to commit with their events: the last is that of their file.

        Raises OSError, UserError (another reader) and LedgerUnavailableError.

        A file that the path no longer names is read to its end before its successor starts; it
        stays open for a while, for writers that have not noticed, and does not block meanwhile.
        """
        before: list[LogFile] = []  # those that hold the first pieces of a line
        for file in [] if self._barred else list(self.files):
            final = file.fold or self._is_over(file)
            if file.is_truncated():
                self._follow(key_at(self.path), self.files.index(file))
                return None
            found = file.read(final, self._join(file, before))
            if found is not None:
                file.idle_since = None
                held = ((one, one.at(one.end_of_held())) for one in before)
                return found[0], [*held, (file, found[1])]
            self._drained(file, final)
            before += [file] if file.held else []
        return None

    def status(self) -> LogStatus:
        """For people."""
        found: LogState = "ok" if os.path.exists(self.path) else "missing"
        state = "problem" if self.problem else found
        lag = sum(max(0, file.size - file.position.offset) for file in self.files)
        lag += self._unopened_bytes()
        return LogStatus(self.path, state, self.problem, self.last_refusal, lag)

    @property
    def finished(self) -> bool:
        """Nothing is left to read, and the path leads nowhere."""
        return not self.files and self._named is None

    def close(self) -> None:
        for file in list(self.files):
            self._drop(file)
        if self._delivery_lock is not None:
            os.close(self._delivery_lock)
            self._delivery_lock = None

    def _join(self, file: LogFile, before: list[LogFile]) -> Join | None:
        """How the lines of a file are to be joined, after what those before it hold."""
        kind = self.rule.format
        if kind == "json" or file.fold or file.is_spool():
            return None
        held = [line for one in before for line in one.held]
        return lambda found, last: join(found, kind, held, last)

    def _follow(self, key: FileKey | None, at: int | None = None) -> None:
        """The path leads elsewhere than before, or a file was truncated: open what is to be read.

        at: the index of the truncated file. What was left behind comes before what that has now,
        else after the files that are open; the file that the path names comes last.
        """
        rule = None if self._looked else self.rule
        with contextlib.closing(Opening(self.path, self._known, self.files, rule)) as opening:
            opening.gone = self._gone
            problem = None
            if key is not None and key not in self._known.open:
                try:
                    opening.open_named(returning=not self._returned)
                except (OSError, UserError) as error:
                    if opening.first:
                        raise  # so that `start: end` still finds its end
                    problem = error
            opening.open_left_behind()
            at = len(self.files) if at is None else at
            for file in opening.keep():
                self._add(file, len(self.files) if file.key == key else at)
                at += 1
            for file in opening.replaced:
                self._drop(file)
        self._gone, self._unread = opening.gone, opening.unread
        self._again = self._known.clock.now() + LINGER_SECONDS
        if problem:
            raise problem
        self._looked, self._returned = True, self._returned or key is not None
        self._named = key if any(file.key == key for file in self.files) else None

    def _add_fold(self, name: str) -> None:
        if key_at(name) in self._known.open:
            return
        opened = open_file(name, os.O_RDONLY, create=0)
        file = LogFile(Path(name), self.path, opened, fold=True)
        position = self._known.ledger.places.positions.get(file.key)
        if position is not None and file.is_intact(position):
            file.position = position
        self._add(file, len(self.files))

    def _is_over(self, file: LogFile) -> bool:
        """Whether the path left this file behind, and nobody has written to it for a while."""
        if file.key == self._named:
            return False
        now = self._known.clock.now()
        file.idle_since = now if file.idle_since is None else file.idle_since
        return now - file.idle_since >= LINGER_SECONDS

    def _drained(self, file: LogFile, final: bool) -> None:
        """Nothing is left in a file for now, or for ever."""
        named, end = file.key == self._named, file.position.offset
        retired = named and file.is_spool() and retire(self.path, file.fileno(), end)
        if retired:
            self._named = None
        if file.fold:
            os.unlink(file.path)
        if retired or (final and not named):
            self._drop(file)
        if retired or file.fold:  # gone for ever, and so may be its position
            self._known.record(LogProgress(forgotten=(file.key,)))

    def _unopened_bytes(self) -> int:
        """Bytes that wait in the file that the path names while it is not open."""
        with contextlib.suppress(OSError):
            status = os.stat(self.path)
            key = (status.st_dev, status.st_ino)
            if key not in self._known.open and stat.S_ISREG(status.st_mode):
                position = self._known.ledger.places.positions.get(key)
                return max(0, status.st_size - (position.offset if position else 0))
        return 0

    def _add(self, file: LogFile, at: int) -> None:
        self.files.insert(at, file)
        self._known.open.add(file.key)
        self._known.found.add(file.key)

    def _drop(self, file: LogFile) -> None:
        self.files.remove(file)
        self._known.open.discard(file.key)
        file.close()
