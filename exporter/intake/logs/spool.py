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

from common.errors import UserError
from exporter.intake.logs.file import LogFile

RETIRE_BYTES = 1 << 20  # a smaller spool is not worth a new file
FOLD, LOCK = ".fold", ".lock"
BESIDE_SPOOLS = (LOCK, ".delivered")  # what client.py keeps beside a spool
_FOLD_NAME = re.compile(r"\.fold(\.[0-9a-f]{16})?$")
_HEAD_BYTES = 4096  # two slots: the first may be a hole that a killed writer left


def retire(file: LogFile, path: str) -> bool:
    """Unlink a spool all of which is committed, unless it grew meanwhile or a writer holds it."""
    if file.size <= RETIRE_BYTES or not file.is_spool():
        return False
    with _exclusive(file.fileno()) as locked:
        if locked and file.size == file.position.offset and _names(path, file.fileno()):
            os.unlink(path)
            return True
    return False


def take_folds(path: str) -> list[str]:
    """The folds of a spool that never change again, the one that is there now included.

    Others were taken before and are not finished yet, perhaps because the exporter was killed.
    """
    names = glob.glob(f"{glob.escape(path)}{FOLD}.*")
    taken = sorted(name for name in names if is_fold_name(name))
    now = _take_fold(path)
    return [*taken, now] if now else taken


def _take_fold(path: str) -> str | None:
    """Rename the fold of a spool: its new name, None when there is none, or a writer holds it."""
    fold = path + FOLD
    try:
        fd = os.open(fold, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if not _is_fold(fd):
            return None
        with _exclusive(fd) as locked:
            if not locked or not _names(fold, fd):
                return None
            taken = f"{fold}.{secrets.token_hex(8)}"  # 16 digits, as is_fold_name expects
            os.rename(fold, taken)
            return taken
    finally:
        os.close(fd)


def keep_deliveries_out(path: str) -> int | None:
    """Lock a spool against `client_delivery.py`, until the descriptor is closed.

    None when the folder may not be written: then nothing can be delivered from here either.
    Raises UserError when a delivery reads the spool.
    """
    try:
        fd = os.open(path + LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
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
    slots = os.pread(fd, _HEAD_BYTES, 0).lstrip(b"\0")
    return slots.startswith(b"{") and b'"fold-' in slots[:64]


def _names(path: str, fd: int) -> bool:
    """Whether a path still leads to the open file."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
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
