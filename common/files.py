"""Files: read without waiting, replaced whole or not at all; locks that die with their process."""

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from io import FileIO
from pathlib import Path

from common.errors import UserError


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file. Raises OSError, also for what it would have to wait for.

    A FIFO in a file's place would hold its reader for ever, a device could answer without end.
    """
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return handle


def read_file(path: Path, max_bytes: int) -> bytes:
    """All of a regular file. Raises OSError, also when it is larger than max_bytes."""
    with os.fdopen(open_regular(path), "rb") as file:
        raw = file.read(max_bytes + 1)
    if len(raw) > max_bytes:
        bound = f"{max_bytes >> 20} MiB" if max_bytes >> 20 else f"{max_bytes >> 10} KiB"
        raise OSError(errno.EFBIG, f"it is larger than {bound}")
    return raw


def replace_file(path: Path, content: bytes, mode: int | None = None) -> None:
    """Durably replace path with content: temp file, fsync, rename, fsync of the folder.

    A reader sees the old bytes or the new ones. mode: permission bits; by default those of the
    file replaced, else 0644. Its owner is kept where the process may. Raises OSError; then the old
    file is untouched and no temp file stays. A device is never replaced.
    """
    kind = stat.S_IFMT(os.lstat(path).st_mode) if os.path.lexists(path) else stat.S_IFREG
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        raise OSError(errno.EINVAL, "it is a device")
    replaced = path.stat() if path.is_file() else None  # a FIFO's or a device's mode is not kept
    if mode is None:
        mode = replaced.st_mode & 0o7777 if replaced else 0o644
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            own = os.fstat(file.fileno())
            if replaced and (own.st_uid, own.st_gid) != (replaced.st_uid, replaced.st_gid):
                with contextlib.suppress(PermissionError):  # only root may give a file away
                    os.fchown(file.fileno(), replaced.st_uid, replaced.st_gid)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_leftovers(path: Path) -> None:
    """Remove what a kill in the middle of replace_file left beside path. Call it under a lock."""
    for leftover in path.parent.glob(f".{path.name}.????????"):
        with contextlib.suppress(OSError):
            leftover.unlink()


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that a rename or a new file in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class FileLock(FileIO):
    """An exclusive advisory lock on a file, held until close() or the end of the process."""

    def __init__(self, path: Path, holder: str) -> None:
        """Raises UserError at once when another process has it: holder, e.g. "an exporter"."""
        try:
            super().__init__(open_regular(path, os.O_RDWR | os.O_CREAT))
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error
        try:
            fcntl.flock(self, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            text = f"{path} is locked: {holder} already uses it; stop that one first"
            raise UserError(text) from error
