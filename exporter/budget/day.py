"""The budget day: a calendar day in the budget's own zone, starting at a wall-clock time."""

from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from common.errors import UserError


@dataclass(frozen=True)
class BudgetCalendar:
    """Maps instants to budget days, named by the local date on which they start.

    A local start that does not exist (spring DST) is the first instant after the gap; an ambiguous
    one (autumn DST) is its first occurrence.
    """

    timezone: str = "UTC"
    day_starts_at: time = time(0, 0)

    def __post_init__(self) -> None:
        self.zone  # noqa: B018  a wrong zone fails here, where its name is at hand

    @property
    def zone(self) -> ZoneInfo:
        """The IANA zone. Raises UserError when the name is unknown."""
        try:
            return ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise UserError(
                f"timezone {self.timezone!r} is not an IANA zone name; use one like Europe/Berlin"
            ) from error

    def start(self, day: date) -> int:
        """Unix second at which the budget day begins."""
        wanted = datetime.combine(day, self.day_starts_at, self.zone)  # fold=0: first occurrence
        start = int(wanted.timestamp())
        offset = self._offset(start)
        if offset == wanted.utcoffset():
            return start
        # A gap swallowed that time: start lies just beyond the first second after the gap.
        seconds = range(start - 86_400, start)
        return seconds[0] + bisect_left(seconds, True, key=lambda at: self._offset(at) == offset)

    def end(self, day: date) -> int:
        return self.start(day + timedelta(days=1))

    def day_of(self, timestamp: float) -> date:
        """The budget day that an instant (Unix seconds) belongs to."""
        local = datetime.fromtimestamp(timestamp, UTC).astimezone(self.zone).date()
        # The local date is at most one day off: before the start, or after a start moved by DST.
        for day in (local + timedelta(days=1), local):
            if self.start(day) <= timestamp:
                return day
        return local - timedelta(days=1)

    def _offset(self, timestamp: int) -> timedelta | None:
        return datetime.fromtimestamp(timestamp, self.zone).utcoffset()
