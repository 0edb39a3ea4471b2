"""Times as programs write them into logs."""

import re
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

# Seconds, milliseconds, microseconds or nanoseconds of today. 14 digits are a date without dashes.
_EPOCH = re.compile(r"(?:\d{9,10}|\d{12,13}|\d{15,16}|\d{18,19})(?:\.\d+)?", re.ASCII)
# " UTC", "+0000 UTC" (Go), "+01:00[Europe/Paris]" (Java)
_ZONE = re.compile(r"\s*(?:([+-]\d\d:?\d\d)|Z|UTC|GMT)(?: [A-Z]{3,5}|\[[A-Z/_]+\])?$", re.ASCII)
_DATE_WITH_SLASHES = re.compile(r"^(\d{4})/(\d\d)/(\d\d)", re.ASCII)
# Unix seconds stay below until the year 5138; milliseconds have been above since 1973, and so on.
_MOST_SECONDS = 1e11


def iso_time(value: Any, zone: str | None) -> Any:
    """A time as ISO 8601; what is none is given back as it is.

    Numbers, also as text, are Unix seconds, or ms, us or ns by their size. zone: the IANA zone of
    times that name none. Raises ValueError, OverflowError and OSError for impossible times.
    """
    if isinstance(value, str):
        if not _EPOCH.fullmatch(value.strip()):
            return _iso_text(value, zone)
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    for _ in range(3):
        value = value / 1000 if abs(value) >= _MOST_SECONDS else value
    return datetime.fromtimestamp(value, UTC).isoformat()


def _iso_text(text: str, zone: str | None) -> str:
    plain = _DATE_WITH_SLASHES.sub(r"\1-\2-\3", text.strip().upper())
    if named := _ZONE.search(plain):
        plain = plain[: named.start()] + (named[1] or "Z")
    moment = datetime.fromisoformat(plain)
    if moment.tzinfo is None and zone is not None:
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    return moment.isoformat()
