"""Budget days: zones, daylight saving, clocks that jump, late and future events."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from exporter.budget.day import BudgetCalendar
from tests.support.days import DAY, HOUR, ZONES, unix
from tests.support.examples import examples
from tests.support.exporters import Exporter, event


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


@pytest.mark.parametrize(
    ("zone", "date", "hours"),
    [("Europe/Berlin", "2027-03-28", 23), ("Europe/Berlin", "2027-10-31", 25)],
)
def test_a_short_and_a_long_day_take_every_event_of_theirs(
    tmp_path: Path, zone: str, date: str, hours: int
) -> None:
    calendar = BudgetCalendar(zone)
    day = datetime.fromisoformat(date).date()
    start, end = calendar.start(day), calendar.end(day)
    assert end - start == hours * HOUR
    with Exporter(tmp_path, f"budget: {{timezone: {zone}}}", now=end - 1) as exporter:
        exporter.book(*(event(at=start + hour * HOUR) for hour in range(hours)))
        exporter.book(event(at=start - 1))
        assert exporter.spend() == hours * Decimal("0.00038")
        exporter.clock.advance(1)
        assert exporter.spend() == 0


def test_a_clock_that_goes_back_over_midnight_lifts_no_spend(tmp_path: Path) -> None:
    with Exporter(tmp_path, now=unix("2027-01-15T00:10:00")) as exporter:
        exporter.book(event())
        exporter.clock.set(unix("2027-01-14T23:50:00"))
        assert exporter.spend() == Decimal("0.00038")  # still counted: it may be today's
        exporter.book(event(at=unix("2027-01-15T00:09:00")))  # from the future: booked now
        assert exporter.spend() == Decimal("0.00076")
        assert exporter.value("llm_time_adjusted_total") == 1
        exporter.clock.set(unix("2027-01-15T00:20:00"))
        assert exporter.spend() == Decimal("0.00038")
        assert exporter.status()["requests"] == 2


def test_a_clock_that_jumps_ahead_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    now = unix("2027-01-15T12:00:00")
    with Exporter(tmp_path, now=now) as exporter:
        exporter.book(event(id="a"))
        exporter.clock.advance(400 * DAY)
        exporter.book(event(id="b"))
        assert exporter.spend() == Decimal("0.00038")
        exporter.clock.set(now + 60)
        assert exporter.spend() == Decimal("0.00076")
    with Exporter(tmp_path, now=now + 120) as exporter:
        assert exporter.spend() == Decimal("0.00076")
        assert exporter.book(event(id="b"))["duplicate"] == 1


@settings(max_examples=examples(40), deadline=None)
@given(
    st.sampled_from(ZONES),
    st.lists(st.tuples(st.integers(0, 34 * DAY), st.integers(1, 999)), max_size=8),
    st.integers(0, 5 * 365 * DAY),
)
def test_every_event_lands_on_its_own_day(
    tmp_path_factory: pytest.TempPathFactory,
    zone: str,
    ages: list[tuple[int, int]],
    origin: int,
) -> None:
    now = unix("2024-01-01T00:00:00") + origin
    folder = tmp_path_factory.mktemp("days")
    calendar = BudgetCalendar(zone, time(4, 30))
    config = f'budget: {{timezone: {zone}, day_starts_at: "04:30"}}'
    with Exporter(folder, config, now=now) as exporter:
        if ages:
            exporter.book(*(event(tokens, 0, at=now - age) for age, tokens in ages))
        today = calendar.day_of(now)
        expected = sum(tokens for age, tokens in ages if calendar.day_of(now - age) == today)
        assert exporter.spend() == expected * Decimal("0.00000027")
        page = exporter.page()
        total = sum(value for (name, _), value in page.items() if name == "llm_cost_usd_total")
        everything = sum(tokens for _, tokens in ages) * 0.00000027
        assert total == pytest.approx(everything)
