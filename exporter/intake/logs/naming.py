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
            found = _NUMBER.fullmatch(base, at, len(base) - len(name) + at)
            dated = found and sum(map(str.isdigit, found[0])) >= DATE_DIGITS
            # A number with no separator, or in front, makes another log's name; a date does not.
            if found and (dated or (found[1] and at)):
                return Shape(folder, at, found[1], bool(dated))
    return None
