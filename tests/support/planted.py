"""What another member of a spool folder's group may plant at a path there."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

PRECIOUS = b"precious\n" * 600


def victim(folder: Path) -> Path:
    """Somebody else's file, elsewhere."""
    home = folder / "home"
    home.mkdir()
    (home / "file").write_bytes(PRECIOUS)
    return home / "file"


def _socket(path: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.open(path.parent, os.O_RDONLY)
        try:  # a socket's path may have 108 bytes only
            bound.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


Plant = Callable[[Path, Path], object]
PLANTS: dict[str, Plant] = {
    "link": lambda path, file: path.symlink_to(file),
    "dangling link": lambda path, file: path.symlink_to(f"{file}-new"),
    "link to a FIFO": lambda path, file: (
        os.mkfifo(f"{file}-fifo"),
        path.symlink_to(f"{file}-fifo"),
    ),
    "hard link": lambda path, file: path.hardlink_to(file),
    "FIFO": lambda path, _: os.mkfifo(path),
    "socket": _socket,
    "device": lambda path, _: path.symlink_to("/dev/zero"),
    "folder": lambda path, _: path.mkdir(),
}


def untouched(file: Path) -> bool:
    """Whether the victim's file is as it was, and nothing new is beside it."""
    new = [path for path in file.parent.iterdir() if path.name not in ("file", "file-fifo")]
    return file.read_bytes() == PRECIOUS and not new
