"""A listening socket that goes on when the process has no file descriptor left; who has a port.

asyncio alone logs a traceback for each attempt, hundreds a second, and takes nobody in.
"""

import contextlib
import errno
import logging
import os
import pwd
import socket
import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
SAY_SECONDS = 60.0
LISTENING = "0A"  # in /proc/net/tcp
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


def port_holder(port: int) -> str | None:
    """Who listens there: "name (pid N)", or only whose process it is; None when nobody is seen."""
    users = _listeners(port)
    for process in Path("/proc").glob("[0-9]*") if users else ():
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if any(handle.resolve().name in users for handle in (process / "fd").iterdir()):
                name = (process / "comm").read_text("utf-8", "replace").strip()
                return f"{name} (pid {process.name})"
    for user in users.values():
        with contextlib.suppress(KeyError):  # not in /etc/passwd
            return f"a process of the user {pwd.getpwuid(user).pw_name}"
        return f"a process of the user {user}"
    return None


def _listeners(port: int) -> dict[str, int]:
    """The user's id by each socket that listens on a port, "socket:[inode]" as /proc links it."""
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for columns in map(str.split, Path(table).read_text().splitlines()):
                if columns[3] == LISTENING and columns[1].endswith(f":{port:04X}"):
                    found[f"socket:[{columns[9]}]"] = int(columns[7])
    return found
