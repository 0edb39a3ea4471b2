"""Who listens on a TCP port of this machine, as /proc shows it."""

import os
import pwd
from pathlib import Path

LISTENING = "0A"


def port_holder(port: int) -> str | None:
    """Who listens there: "name (pid N)", or only whose process it is; None when nobody is seen."""
    users = _listeners(port)
    sockets = {f"socket:[{inode}]" for inode in users}
    for process in Path("/proc").glob("[0-9]*") if sockets else ():
        try:
            if any(_link(fd) in sockets for fd in (process / "fd").iterdir()):
                name = (process / "comm").read_text("utf-8", "replace").strip()
                return f"{name} (pid {process.name})"
        except OSError:  # it has ended, or is another user's
            continue
    return next((f"a process of the user {_name(user)}" for user in users.values()), None)


def _listeners(port: int) -> dict[str, int]:
    """The user's id by the inode of each socket that listens on a port, whatever the address."""
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for columns in map(str.split, lines):
            if columns[3] == LISTENING and columns[1].endswith(f":{port:04X}"):
                found[columns[9]] = int(columns[7])
    return found


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _link(path: Path) -> str:
    """What a link of /proc leads to; "" when it was closed meanwhile."""
    try:
        return os.readlink(path)
    except OSError:
        return ""
