"""Time as a dependency: logic asks a Clock, never the system clock."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Source of the current time."""

    def now(self) -> float:
        """Unix time in seconds."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()


def iso8601(timestamp: float) -> str:
    """Unix seconds as RFC 3339 in UTC with milliseconds, e.g. 2026-11-23T10:00:00.123Z."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
