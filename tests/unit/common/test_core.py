"""Budget days."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from exporter.budget.day import BudgetCalendar


def instant(text: str, zone: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("zone", "starts_at", "moment", "day", "hours"),
    [
        ("UTC", "00:00", "2026-11-23T23:59:59", "2026-11-23", 24),
        ("UTC", "06:00", "2026-11-23T05:59:59", "2026-11-22", 24),
        ("Europe/Berlin", "00:00", "2026-03-29T12:00:00", "2026-03-29", 23),  # spring
        ("Europe/Berlin", "00:00", "2026-10-25T12:00:00", "2026-10-25", 25),  # autumn
        ("Asia/Kolkata", "00:00", "2026-11-23T00:00:00", "2026-11-23", 24),  # half-hour zone
        ("Australia/Lord_Howe", "00:00", "2026-10-04T12:00:00", "2026-10-04", 23.5),
        ("America/Sao_Paulo", "00:00", "2018-11-04T12:00:00", "2018-11-04", 23),  # no midnight
    ],
)
def test_a_budget_day_is_the_zones_calendar_day(
    zone: str, starts_at: str, moment: str, day: str, hours: float
) -> None:
    calendar = BudgetCalendar(zone, time.fromisoformat(starts_at))
    found = calendar.day_of(instant(moment, zone))
    assert found == date.fromisoformat(day)
    assert calendar.end(found) - calendar.start(found) == hours * 3600


def test_a_start_in_the_gap_is_the_first_instant_after_it() -> None:
    calendar = BudgetCalendar("Europe/Berlin", time(2, 30))  # 02:30 does not exist on this day
    start = calendar.start(date(2026, 3, 29))
    assert datetime.fromtimestamp(start, UTC) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


def test_an_ambiguous_start_is_its_first_occurrence() -> None:
    calendar = BudgetCalendar("Europe/Berlin", time(2, 30))
    start = calendar.start(date(2026, 10, 25))
    assert datetime.fromtimestamp(start, UTC) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/Sao_Paulo", "Australia/Lord_Howe")


@given(
    st.sampled_from(ZONES),
    st.times(),
    st.integers(0, 4_000_000_000),
)
def test_days_tile_time_without_gap_or_overlap(zone: str, starts_at: time, moment: int) -> None:
    calendar = BudgetCalendar(zone, starts_at.replace(second=0, microsecond=0))
    day = calendar.day_of(moment)
    assert calendar.start(day) <= moment < calendar.end(day)
    assert calendar.day_of(calendar.end(day)) == day + timedelta(days=1)


def test_an_unknown_zone_is_named() -> None:
    with pytest.raises(UserError, match="Mars/Base"):
        BudgetCalendar("Mars/Base")
