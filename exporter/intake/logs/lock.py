"""One reader for each log, without touching the log.

The obvious locks would harm: flock on the log itself blocks every writer that takes the same lock
around its appends, and a lock file beside it needs the right to write there, or is not seen from
another container. So the reader takes a shared OFD lock on one byte of the log's *folder*, the byte
numbered by the log's inode, and asks whether anyone else has it. That needs read access only, works
on read-only mounts and through bind mounts, and ends with the process. Nobody else locks folders.
"""

import errno
import fcntl
import os
import struct
from pathlib import Path

from common.errors import UserError

_FLOCK = "hhqqi4x"  # struct flock of 64-bit Linux: type, whence, start, length, pid
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


class ReaderLock:
    """Held until close() or the end of the process."""

    def __init__(self, path: Path, inode: int) -> None:
        """Raises UserError when another exporter reads this file; OSError when it vanished.

        Two that come at the same instant may both be refused; each tries again later.
        On a file system that cannot lock, the file is read without a lock.
        """
        self._folder = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            taken = self._taken(inode % 2**62)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                os.close(self._folder)
                raise
            taken = False
        if taken:
            os.close(self._folder)
            raise UserError(f"{path} is read by another exporter; stop that one first")

    def _taken(self, byte: int) -> bool:
        fcntl.fcntl(self._folder, fcntl.F_OFD_SETLK, _lock(fcntl.F_RDLCK, byte))
        # A writer's lock would conflict with every other reader's, never with our own.
        answer = fcntl.fcntl(self._folder, fcntl.F_OFD_GETLK, _lock(fcntl.F_WRLCK, byte))
        return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)

    def close(self) -> None:
        os.close(self._folder)


def _lock(kind: int, byte: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, byte, 1, 0)
