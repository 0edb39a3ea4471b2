"""Who listens on a TCP port of this machine, as /proc shows it."""

import contextlib
import pwd
from pathlib import Path

LISTENING = "0A"


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
