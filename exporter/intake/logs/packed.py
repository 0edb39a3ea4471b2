"""Older files of a log that were compressed before they were read to their end."""

import gzip
import os
import shutil
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path

from exporter.intake.logs.file import CHUNK_BYTES, LogFile

MAX_UNPACKED_BYTES = 1 << 30  # on the ledger's disk, of which half of what is free stays free


class UnpackError(OSError):
    """A file cannot be unpacked; strerror says why."""


def unpacked_size(path: str) -> int:
    """What the end of a gzip file says of its content: bytes modulo 2**32. Raises OSError."""
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 4))
        return int.from_bytes(file.read(4), "little")


def open_packed(path: str, log: str, folder: Path, most: int = MAX_UNPACKED_BYTES) -> LogFile:
    """Open what a gzip file holds, or its first bytes, as if the file itself held that.

    Until the log file is closed the content lies in a file without a name in folder. Raises
    UnpackError, and FileNotFoundError when the file has gone.
    """
    room = min(MAX_UNPACKED_BYTES, shutil.disk_usage(folder).free // 2)
    with tempfile.TemporaryFile(dir=folder) as plain:
        try:
            with gzip.open(path) as packed:
                while plain.tell() < min(most, room) and (
                    piece := packed.read(min(most, CHUNK_BYTES))
                ):
                    plain.write(piece)
            plain.flush()
        except FileNotFoundError:
            raise
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or "it is not a whole gzip file"
            raise UnpackError(0, reason) from error
        if plain.tell() >= room:
            raise UnpackError(0, f"it holds more than {room} bytes: unpack it by hand")
        file = LogFile(Path(path), log, opened=plain.fileno())
    status = os.stat(path)
    file.modified = status.st_mtime_ns
    file.position = replace(file.position, device=status.st_dev, inode=status.st_ino)
    return file
