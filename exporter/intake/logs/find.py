"""Finding log files: what a pattern matches, and what rotation made of a file."""

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from exporter.intake.logs.spool import BESIDE_SPOOLS, is_fold_name

COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip")
# What logrotate and Python's handlers append: .1, -20261124, .2026-11-24_10-00-00. Not .old or
# .bak: those are as often made by people.
_ROTATION = re.compile(r"[._-]\d[\dT._:+Z-]*")


def expand(pattern: str) -> list[str]:
    """The paths to follow for a pattern: a plain path itself, even while it is missing."""
    if not glob.has_magic(pattern) or os.path.lexists(pattern):
        return [pattern]
    return sorted(path for path in glob.glob(pattern) if _is_log(path))


def _is_log(path: str) -> bool:
    return not (
        path.endswith((*COMPRESSED, *BESIDE_SPOOLS)) or is_fold_name(path) or os.path.isdir(path)
    )


def is_rotated_name(name: str, log: str) -> bool:
    """Whether a file name is what rotation calls an older file of the log named `log`."""
    return name.startswith(log) and bool(_ROTATION.fullmatch(name[len(log) :]))


def neighbours(path: str) -> Iterator[os.DirEntry[str]]:
    """The regular files in the folder of the file that a path leads to, the path itself left out.

    Empty when the folder is missing or may not be listed.
    """
    real = Path(os.path.realpath(path))
    try:
        with os.scandir(real.parent) as entries:
            for entry in entries:
                if entry.name != real.name and entry.is_file(follow_symlinks=False):
                    yield entry
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
