"""A listening socket that goes on when the process has no file descriptor left.

asyncio alone logs a traceback for each attempt, hundreds a second, and takes nobody in.
"""

import contextlib
import errno
import logging
import os
import socket
import time
from collections.abc import Callable
from io import FileIO
from typing import Any

OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
SAY_SECONDS = 60.0
log = logging.getLogger(__name__)


class Listener(socket.socket):
    """Makes room for the next connection, or else turns it away with a descriptor kept for that."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        # Drops a connection; false when there is none to drop.
        self.make_room: Callable[[], bool] = lambda: False
        self._spare = FileIO(os.devnull)
        self._said = -SAY_SECONDS

    def accept(self) -> tuple[socket.socket, Any]:
        """Raises BlockingIOError, as when nobody waits, so that asyncio tries again later."""
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in OUT_OF_DESCRIPTORS:
                raise
            if time.monotonic() - self._said >= SAY_SECONDS:
                self._said = time.monotonic()
                log.warning("a connection had to wait: %s; raise `ulimit -n`", error.strerror)
            if not self.make_room():
                self._spare.close()
                with contextlib.suppress(OSError):
                    super().accept()[0].close()
                    self._spare = FileIO(os.devnull)
            raise BlockingIOError from error

    def close(self) -> None:
        self._spare.close()
        super().close()
