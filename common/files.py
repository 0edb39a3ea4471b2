"""Durable files: replaced whole or not at all; locks that die with their process."""

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path
from typing import Self

from common.errors import UserError


def replace_file(path: Path, content: bytes, mode: int | None = None) -> None:
    """Durably replace path with content: temp file, fsync, rename, fsync of the folder.

    A reader sees the old bytes or the new ones. mode: permission bits; by default those of the
    file replaced, else 0644. Its owner is kept where the process may. Raises OSError; then the old
    file is untouched and no temp file stays.
    """
    replaced = path.stat() if path.exists() else None
    if mode is None:
        mode = replaced.st_mode & 0o7777 if replaced else 0o644
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            if replaced:
                _keep_owner(file.fileno(), replaced)
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


def _keep_owner(handle: int, replaced: os.stat_result) -> None:
    own = os.fstat(handle)
    if (own.st_uid, own.st_gid) != (replaced.st_uid, replaced.st_gid):
        with contextlib.suppress(PermissionError):  # only root may give a file away
            os.fchown(handle, replaced.st_uid, replaced.st_gid)


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that a rename or a new file in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class FileLock:
    """An exclusive advisory lock on a file, held until close() or the end of the process."""

    def __init__(self, path: Path, holder: str) -> None:
        """Take the lock. Raises UserError at once when another process holds it.

        holder: what a second one is told, e.g. "an exporter".
        """
        try:
            self._file = open(path, "a+b")  # noqa: SIM115  lives as long as the lock
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise UserError(
                f"{path} is locked: {holder} already uses it; stop that one first"
            ) from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
