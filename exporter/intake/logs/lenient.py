"""JSON as logs have it: what a strict parser refuses is only refused where an event uses it.

Programs cut emoji in half, write NaN, raw control characters, Latin-1 and huge numbers. All of that
decodes here, mostly to what no key of an event accepts: where nobody reads it, it does no harm.
"""

import json
import re
from functools import lru_cache
from typing import Any

import msgspec

MAX_DEPTH = 100  # deeper values, which no key map leads to, read as null
MAX_DIGITS = 4000  # Python reads no longer integer
# Strings as wholes, so that brackets in them do not count.
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*+"?|[][{}]', re.DOTALL)
_ESCAPES = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})?')


def decode(line: bytes) -> Any:
    """The value of a line; bytes that are not UTF-8 become lone surrogates. Raises ValueError."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = line.decode("utf-8", "surrogateescape")
    text = _ESCAPES.sub(lambda found: found[0] if found[1] else r"\\", text)
    if text.count("[") + text.count("{") > MAX_DEPTH:
        text = _shallow(text)
    return json.loads(text, strict=False, parse_int=_integer)


@lru_cache(maxsize=1)  # several keys of one line lead through the same text
def inner(text: str) -> Any:
    """The object that a text holds as JSON; None when it holds none. Callers must not change it."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        return decode(text.encode("utf-8", "surrogatepass"))
    except ValueError:
        return None


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < MAX_DIGITS else float(digits)


def _shallow(text: str) -> str:
    """Without what lies deeper than MAX_DEPTH: parsers go down by recursion."""
    kept, depth, start = [], 0, 0
    for token in _TOKENS.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept.append(text[start : token.start()])
                start = len(text)
        elif token[0] in "]}":
            depth -= 1
            if depth == MAX_DEPTH:
                kept.append("null")
                start = token.end()
    return "".join([*kept, text[start:]])
