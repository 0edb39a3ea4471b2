"""What may lie where a file should: things that hang, never end, or are no file at all."""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    """A link to one of our own where we may make it: root could replace the machine's."""
    node = path.with_name(f"{path.name}.zero")
    try:
        os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError:
        node = Path("/dev/zero")
    path.symlink_to(node)


def listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as ours:
        folder = os.open(path.parent, os.O_RDONLY)
        ours.bind(f"/proc/self/fd/{folder}/{path.name}")  # a socket's path must be short
        os.close(folder)


def huge(path: Path) -> None:
    """3 GB, without the disk for it."""
    with open(path, "wb") as file:
        file.truncate(3 << 30)


def loop(path: Path) -> None:
    path.symlink_to(path)


ODD: tuple[Callable[[Path], None], ...] = (fifo, folder, device, listener, huge, loop)


def put(odd: Callable[[Path], None], path: Path) -> None:
    """In the place of whatever is there."""
    path.unlink(missing_ok=True)
    odd(path)
