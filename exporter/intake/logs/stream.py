"""One followed path through its rotations: which files to read, in which order, when to let go."""

import os
import stat
from pathlib import Path

from common.errors import UserError
from exporter.config import Log
from exporter.intake.logs import spool as log_spool
from exporter.intake.logs.file import LogFile, Piece, TruncatedError
from exporter.intake.logs.rotation import Opening, Shared
from exporter.ledger.progress import FileKey, LogProgress

LINGER_SECONDS = 60.0  # for writers that have not noticed that their file was renamed


class Stream:
    """The files of one path that are not finished yet, oldest first."""

    def __init__(self, path: str, rule: Log, shared: Shared) -> None:
        self.path = path
        self.rule = rule
        self.files: list[LogFile] = []
        self.missing = False
        self._shared = shared
        self._named: FileKey | None = None  # the file that the path leads to
        self._looked = False
        self._delivery_lock: int | None = None
        self._barred = False  # a delivery reads this spool
        self._folds: set[LogFile] = set()
        self._idle_since: dict[LogFile, float] = {}  # files left behind: Unix seconds

    def look(self) -> None:
        """Open what has to be read.

        Raises OSError, UserError (another reader) and LedgerUnavailableError: look again later.
        """
        try:
            status = os.stat(self.path)
            key: FileKey | None = (status.st_dev, status.st_ino)
        except FileNotFoundError:
            key = None
        self.missing = key is None
        if key != self._named or not self._looked:
            self._follow(key)
        self._keep_deliveries_out()
        self._look_for_folds()

    def next(self) -> tuple[LogFile, Piece] | None:
        """The next lines of the oldest file that has any.

        Raises OSError, UserError (another reader) and LedgerUnavailableError.

        A file that the path no longer names is read to its end before its successor starts; it
        stays open for a while, for writers that have not noticed, and does not block meanwhile.
        """
        for file in [] if self._barred else list(self.files):
            final = file in self._folds or self._is_over(file)
            try:
                piece = file.read(final)
            except TruncatedError:
                self._restart(file)
                return None
            if piece is not None:
                self._idle_since.pop(file, None)
                return file, piece
            self._drained(file, final)
        return None

    def lag(self) -> int:
        """Bytes not yet committed, also those of a file that cannot be opened."""
        return self._shut() + sum(max(0, file.size - file.position.offset) for file in self.files)

    @property
    def finished(self) -> bool:
        """Nothing is left to read, and the path leads nowhere."""
        return not self.files and self._named is None

    def is_fold(self, file: LogFile) -> bool:
        """Whether a file is a fold of the spool that the path names."""
        return file in self._folds

    def close(self) -> None:
        for file in list(self.files):
            self._drop(file)
        if self._delivery_lock is not None:
            os.close(self._delivery_lock)
            self._delivery_lock = None

    def _follow(self, key: FileKey | None) -> None:
        """The path leads elsewhere than before: what it left behind first, then the new file."""
        with Opening(self.path, self._shared, self.files) as opening:
            problem = None
            if key is not None and key not in self._shared.open:
                try:
                    opening.named(self.rule, starting=not self._looked)
                except (OSError, UserError) as error:
                    if opening.first:
                        raise  # so that `start: end` still finds its end
                    problem = error
            opening.left_behind()
            for file in opening.kept():
                self._add(file)
        if problem:
            raise problem
        self._looked = True
        self._named = key if any(file.key == key for file in self.files) else None

    def _restart(self, file: LogFile) -> None:
        """The file was truncated: finish the copy that copytruncate made, then begin again."""
        with Opening(self.path, self._shared, self.files) as opening:
            opening.left_behind()
            beginning = file.at(0)
            copies = opening.kept(beginning)
        file.advance(beginning)
        for copy in copies:
            self._add(copy, self.files.index(file))

    def _keep_deliveries_out(self) -> None:
        if self._delivery_lock is None and any(file.is_spool() for file in self.files):
            self._barred = True
            self._delivery_lock = log_spool.keep_deliveries_out(self.path)
        self._barred = False

    def _look_for_folds(self) -> None:
        names = log_spool.taken_folds(self.path)
        taken = log_spool.take_fold(self.path)
        for name in [*names, taken] if taken else names:
            status = os.stat(name)
            if (status.st_dev, status.st_ino) not in self._shared.open:
                file = LogFile(Path(name), self.path)
                known = self._shared.places.positions.get(file.key)
                if known is not None and file.begins_as(known):
                    file.position = known
                self._folds.add(file)
                self._add(file)

    def _is_over(self, file: LogFile) -> bool:
        """Whether the path left this file behind, and nobody has written to it for a while."""
        if file.key == self._named:
            return False
        now = self._shared.clock.now()
        return now - self._idle_since.setdefault(file, now) >= LINGER_SECONDS

    def _drained(self, file: LogFile, final: bool) -> None:
        """Nothing is left in a file for now, or for ever."""
        if file in self._folds:
            os.unlink(file.path)
            self._forget(file)
        elif file.key == self._named:
            if log_spool.retire(file, self.path):
                self._named = None
                self._forget(file)
        elif final:
            self._drop(file)

    def _shut(self) -> int:
        """Bytes that wait in the file that the path names while it is not open."""
        try:
            status = os.stat(self.path)
        except OSError:
            return 0
        key = (status.st_dev, status.st_ino)
        if key in self._shared.open or not stat.S_ISREG(status.st_mode):
            return 0
        known = self._shared.places.positions.get(key)
        return max(0, status.st_size - (known.offset if known else 0))

    def _forget(self, file: LogFile) -> None:
        """The file is gone for ever, and so may be its position."""
        self._drop(file)
        self._shared.record(LogProgress(forgotten=(file.key,)))

    def _add(self, file: LogFile, at: int | None = None) -> None:
        self.files.insert(len(self.files) if at is None else at, file)
        self._shared.open.add(file.key)
        self._shared.found.add(file.key)

    def _drop(self, file: LogFile) -> None:
        self.files.remove(file)
        self._folds.discard(file)
        self._idle_since.pop(file, None)
        self._shared.open.discard(file.key)
        file.close()
