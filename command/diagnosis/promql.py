"""PromQL's text: durations, and whether two expressions are the same."""

import re
from collections import Counter

SECONDS = {"ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 365 * 86400}
_DURATION = r"(?:\d+(?:ms|[smhdwy]))+(?!\w)"
_PIECE = re.compile(r"(\d+)(ms|[smhdwy])")
_NUMBER = r"\d[\d.]*(?:[eE][+-]?\d+)?(?!\w)"
_TOKEN = re.compile(
    rf"""#[^\n]*|(?P<duration>{_DURATION})|(?P<number>{_NUMBER})|[A-Za-z_][\w:]*"""
    r"""|(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|[=!]~|[=!<>]=|[^\s]"""
)


def seconds(text: str) -> float:
    """Of a duration like 1d2h; ValueError for what is none."""
    if not re.fullmatch(_DURATION, text):
        raise ValueError(f"{text!r} is no duration")
    return sum(int(count) * SECONDS[unit] for count, unit in _PIECE.findall(text))


def meaning(expression: str) -> Counter[str]:
    """The expression's tokens: the same however Prometheus' API lays it out.

    The API puts `by (…)` elsewhere, writes 26h as 1d2h and 1e9 as 1e+09, and drops comments.
    """
    return Counter(_normal(found) for found in _TOKEN.finditer(expression) if found[0][0] != "#")


def _normal(token: re.Match[str]) -> str:
    if token["duration"]:
        return f"{seconds(token[0]):g}s"
    if token["number"]:
        return repr(float(token[0]))
    return f'"{token[0][1:-1]}"' if token["text"] else token[0]
