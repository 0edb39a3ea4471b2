"""The names that rotation gives to the older files of a log.

The log's name with a number or date: behind it (llm.log.1), before an extension (llm-20261124.log,
llm.2026-11-24_10-00-00_123456.log) or in front (20261124-1000-01-llm.log). Not .old or .bak: those
are as often made by people.
"""

import os
import re
from typing import NamedTuple

PACKED = ".gz"
COMPRESSED = (PACKED, ".bz2", ".xz", ".zst", ".lz4", ".zip")
DATE_DIGITS = 6  # 2026-11 has the fewest
_NUMBER = re.compile(r"([._-]*)\d[\dT._:+Z-]*", re.ASCII)


class Shape(NamedTuple):
    """What the names that one rotation gives have in common."""

    folder: str
    at: int  # characters of the log's name before the number or date
    separator: str
    dated: bool


def shape_of(path: str, name: str) -> Shape | None:
    """The shape of a path as an older file of the log that is called name; None: it is none."""
    folder, base = os.path.split(path)
    base = base.removesuffix(PACKED)
    ends = [index for index, letter in enumerate(name) if letter == "." or index == 0]
    for at in (len(name), *reversed(ends)):
        if base.startswith(name[:at]) and base.endswith(name[at:]) and len(base) > len(name):
            shape = _shape(folder, at, base[at : at + len(base) - len(name)])
            if shape is not None:
                return shape
    return None


def _shape(folder: str, at: int, inserted: str) -> Shape | None:
    """A number with no separator, or in front, makes another log's name; a date does not."""
    found = _NUMBER.fullmatch(inserted)
    if found is None:
        return None
    dated = sum(letter.isdigit() for letter in inserted) >= DATE_DIGITS
    return Shape(folder, at, found[1], dated) if dated or (found[1] and at) else None
