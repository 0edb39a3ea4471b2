"""Older files of a log that were compressed before they were read to their end."""

import gzip
import os
import shutil
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path

from exporter.intake.logs.file import CHUNK_BYTES, LogFile
from exporter.intake.logs.fingerprint import FINGERPRINT_BYTES

MAX_UNPACKED_BYTES = 1 << 30  # on the ledger's disk, of which half of what is free stays free


class UnpackError(OSError):
    """A file cannot be unpacked; strerror says why."""


def unpacked_size(path: Path) -> int:
    """What the end of a gzip file says of its content: bytes modulo 2**32. Raises OSError."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 4))
        return int.from_bytes(file.read(4), "little")


def open_packed(path: str, log: str, folder: Path) -> LogFile:
    """Open the first bytes of what a gzip file holds as if the file itself held that.

    Until the log file is closed they lie in a file without a name in folder. Raises UnpackError,
    and FileNotFoundError when the file has gone.
    """
    status = os.stat(path)
    with tempfile.TemporaryFile(dir=folder) as plain:
        unpack(Path(path), plain.fileno(), FINGERPRINT_BYTES)
        file = LogFile(Path(path), log, os.dup(plain.fileno()))
    file.modified = status.st_mtime_ns
    file.position = replace(file.position, device=status.st_dev, inode=status.st_ino)
    return file


def unpack(path: Path, plain: int, most: int = MAX_UNPACKED_BYTES) -> None:
    """Write what a gzip file holds, or its first bytes, to a descriptor. Raises as open_packed."""
    room = min(MAX_UNPACKED_BYTES, shutil.disk_usage(plain).free // 2)
    written = 0
    try:
        with gzip.open(path) as packed:
            while written < min(most, room) and (piece := packed.read(min(most, CHUNK_BYTES))):
                written += os.pwrite(plain, piece, written)
    except FileNotFoundError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is not a whole gzip file"
        raise UnpackError(0, reason) from error
    if written >= room:
        raise UnpackError(0, f"it holds more than {room} bytes: unpack it by hand")
