"""Backup of a ledger in use, and putting a backup in its place."""

import contextlib
import fcntl
import itertools
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from common.errors import UserError, words
from common.files import FileLock, sync_folder
from exporter.ledger.schema import MIGRATIONS

PAGES_PER_STEP = 256  # 1 MiB between two reports of progress
TEMPORARY = ".llm-budget-copy."  # begins the name of a copy that is not whole yet
# The older mark stays: a backup that is restored, or copied again, lacks all since then.
_MARK = """INSERT OR IGNORE INTO meta
    SELECT 'copied', coalesce(max(value), '0') FROM meta WHERE key = 'last_commit'"""
Progress = Callable[[int, int, int], object]  # sqlite3's: status, pages left, pages in all


def backup(ledger: Path, target: Path, *, force: bool, progress: Progress | None = None) -> None:
    """Copy a ledger as of one moment, while an exporter writes, into one durable file.

    Raises UserError when the ledger cannot be read, target exists (without force) or cannot be
    written; then what was at target is untouched.
    """
    if target.exists() and not force:
        raise UserError(f"{target} exists; name another file, or overwrite it with --force")
    if target.exists() and ledger.exists() and target.samefile(ledger):
        raise UserError(f"{target} is the ledger itself")
    _copy(ledger, target, progress, before=lambda: None)


def restore(copy: Path, ledger: Path, *, force: bool) -> Path | None:
    """Put a backup where the exporter looks; it must be down. Returns where the old ledger went.

    Raises UserError when the backup is not a ledger or damaged, an exporter runs, or a ledger is
    there (without force); then nothing has changed.
    """
    with ledger_at(copy) as db:
        if db.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise UserError(f"the backup {copy} is damaged; use another one")
    if not ledger.parent.is_dir():
        raise UserError(f"there is no folder {ledger.parent} to restore into")
    aside = _free_name(ledger) if ledger.exists() else None
    if aside and not force:
        raise UserError(f"there is a ledger at {ledger}; to put it aside, add --force")
    lock = ledger.with_name(f"{ledger.name}.lock")
    with FileLock(lock, "an exporter"):
        _copy(copy, ledger, None, before=lambda: _put_aside(ledger, aside))
        if os.geteuid() == 0:  # what root restores must stay writable for the exporter's own user
            owner = ledger.parent.stat()
            for path in (ledger, lock):
                os.chown(path, owner.st_uid, owner.st_gid)
    return aside


def _copy(
    ledger: Path, target: Path, progress: Progress | None, before: Callable[[], object]
) -> None:
    """Copy a ledger, whole and durable, or raise UserError. before: runs just before the rename.

    What a killed one left in the folder goes first; one at work has its file locked.
    """
    try:
        _remove_leftovers(target.parent)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=TEMPORARY)
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            with ledger_at(ledger) as source, contextlib.closing(sqlite3.connect(name)) as db:
                source.backup(db, pages=PAGES_PER_STEP, progress=progress)
                with db:  # so that the exporter which opens the copy knows what it may lack
                    db.execute(_MARK)
                db.execute("PRAGMA journal_mode = DELETE")  # one file, nothing beside it
            os.fsync(handle)
            before()
            os.replace(name, target)
        finally:
            _remove(name)
            os.close(handle)
        sync_folder(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise UserError(f"cannot write {target}: {words(error)}") from error


def _free_name(ledger: Path) -> Path:
    names = (ledger.with_name(f"{ledger.name}.before-restore-{n}") for n in itertools.count(1))
    return next(name for name in names if not name.exists())


def _put_aside(ledger: Path, aside: Path | None) -> None:
    """Give the old ledger another name, and its journal, which would spoil the new one."""
    if aside is not None:
        # Bring the journal into the file first, if the ledger is sound enough for that.
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(ledger)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.link(ledger, aside)  # a second name: killed here, the ledger is still there
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{ledger}{suffix}", f"{aside or _free_name(ledger)}{suffix}")


@contextlib.contextmanager
def ledger_at(path: Path) -> Iterator[sqlite3.Connection]:
    """A ledger as of one moment. Raises UserError unless this exporter can read it.

    Within a read transaction: otherwise each of the exporter's commits would make SQLite begin a
    copy again, for ever on a busy ledger.
    """
    if not path.is_file():
        raise UserError(f"there is no ledger at {path}")
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error as error:
        raise UserError(f"cannot read {path}: {error}") from error
    with contextlib.closing(db):
        try:
            db.execute("BEGIN")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            db.execute("SELECT value FROM meta WHERE key = 'ledger_id'").fetchone()
        except sqlite3.Error as error:
            raise UserError(f"{path} is not a ledger: {error}") from error
        if version > len(MIGRATIONS):
            raise UserError(f"{path} comes from a newer exporter; use that one")
        yield db


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The same for who only reads. Raises UserError also when what is asked cannot be read."""
    with ledger_at(path) as db:
        try:
            yield db
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise UserError(f"cannot read the ledger {path}: {error}") from error


def _remove_leftovers(folder: Path) -> None:
    """Remove what mkstemp made for a copy and nobody holds any more."""
    for path in folder.glob(f"{TEMPORARY}????????"):
        if path.is_symlink() or not path.is_file():
            continue
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(str(path))


def _remove(name: str) -> None:
    for suffix in ("-journal", "-wal", "-shm", ""):
        Path(name + suffix).unlink(missing_ok=True)
