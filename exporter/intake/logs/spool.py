"""The reader's half of the spool protocol of sdk/client.py: retiring spools, taking folds.

Only files that say what they are (a spool's header, a fold's ids) are ever touched. Killed between
any two steps, the next start finds either the old file or the new name, and goes on.
"""

import contextlib
import fcntl
import glob
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from common.errors import UserError
from common.files import sync_folder
from exporter.intake.logs.file import LogFile, open_own

RETIRE_BYTES = 1 << 20  # a smaller spool is not worth a new file
FOLD, LOCK = ".fold", ".lock"
BESIDE_SPOOLS = (LOCK, ".delivered", ".delivered.new")  # what client.py keeps beside a spool
_FOLD_NAME = re.compile(r"\.fold(\.[0-9a-f]{16})?$")
SLOT_BYTES = 2048  # client.py's SLOT


def retire(file: LogFile, path: str) -> bool:
    """Unlink a spool all of which is committed, unless it grew meanwhile or a writer holds it."""
    if file.size <= RETIRE_BYTES or not file.is_spool():
        return False
    with _exclusive(file.fileno()) as locked:
        if locked and file.size == file.position.offset and _names(path, file.fileno()):
            os.unlink(path)
            return True
    return False


def take_folds(path: str) -> Iterator[str]:
    """The folds of a spool that never change again, at last the one that is there now.

    Others were taken before and are not finished yet, perhaps because the exporter was killed.
    """
    yield from sorted(filter(is_fold_name, glob.glob(f"{glob.escape(path)}{FOLD}.*")))
    if now := _take_fold(path):
        yield now


def _take_fold(path: str) -> str | None:
    """Rename the fold of a spool: its new name, None when there is none, or a writer holds it."""
    fold = path + FOLD
    try:
        fd = open_own(fold)
    except FileNotFoundError:
        return None
    with open(fd, "rb"):
        if not _is_fold(fd):
            return None
        with _exclusive(fd) as locked:
            if not locked or not _names(fold, fd):
                return None
            taken = f"{fold}.{secrets.token_hex(8)}"  # 16 digits, as is_fold_name expects
            # Booked under this name only: a power cut must not bring back an older fold whose ids
            # are known, for calls to be added to.
            os.fsync(fd)
            os.rename(fold, taken)
            sync_folder(Path(taken).parent)
            return taken


def keep_deliveries_out(path: str) -> int | None:
    """Lock a spool against `client_delivery.py`, until the descriptor is closed.

    None when the folder may not be written: then nothing can be delivered from here either.
    Raises UserError when a delivery reads the spool, OSError when something else is at the lock's
    path.
    """
    try:
        fd = open_own(path + LOCK, os.O_RDWR | os.O_CREAT)
    except PermissionError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise UserError(
            f"{path} is read by a delivery (client_delivery.py): stop it, or do not follow it here"
        ) from error
    return fd


def is_fold_name(name: str) -> bool:
    """Whether a path is that of a fold, taken or not: these are found through their spool."""
    return bool(_FOLD_NAME.search(name))


def _is_fold(fd: int) -> bool:
    """Whether the first slot is a fold's, but for the holes that kills and power cuts leave."""
    heads = (os.pread(fd, 64, at) for at in range(0, os.fstat(fd).st_size, SLOT_BYTES))
    slot = next((head for head in heads if not head.startswith(b"\0")), b"")
    return slot.startswith(b"{") and b'"fold-' in slot


def _names(path: str, fd: int) -> bool:
    """Whether a path still leads to the open file."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _exclusive(fd: int) -> Iterator[bool]:
    """The writers' lock, if it is free at this moment."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)
