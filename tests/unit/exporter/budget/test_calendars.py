"""Budget days through changes of zone and start."""

from datetime import datetime, time
from decimal import Decimal
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.budget.calendars import CalendarRow, Calendars
from exporter.budget.day import BudgetCalendar
from tests.support.days import DAY, HOUR, ZONES, unix
from tests.support.examples import examples
from tests.support.exporters import Exporter, event

calendars = st.builds(
    BudgetCalendar,
    st.sampled_from(ZONES),
    st.builds(time, st.integers(0, 23), st.sampled_from((0, 15, 30, 59))),
)
START = unix("2024-01-01T00:00:00")
# From one change to the next: minutes to a few days, or a clock that goes back.
steps = st.tuples(calendars, st.integers(-2 * DAY, 4 * DAY))


def changed(steps_taken: list[tuple[BudgetCalendar, int]], now: float) -> tuple[Calendars, float]:
    """The calendars after changes, each so many seconds after the one before."""
    result = Calendars([])
    for calendar, seconds in steps_taken:
        now += seconds
        result = Calendars(result.change(calendar, now))
    return result, now


@given(
    st.lists(steps, min_size=1, max_size=6),
    st.integers(0, 30 * 365 * DAY),
    st.integers(-20 * DAY, 20 * DAY),
)
def test_days_tile_time_and_their_dates_rise_through_any_changes(
    taken: list[tuple[BudgetCalendar, int]], origin: int, offset: int
) -> None:
    result, now = changed(taken, START + origin)
    day = result.at(now + offset)
    for _ in range(12):
        assert day.start < day.end
        assert result.at(day.start) == result.at(day.end - 1) == day
        following = result.at(day.end)
        assert following.start == day.end
        assert following.date > day.date
        day = following


@settings(max_examples=examples(400))
@given(st.lists(steps, min_size=2, max_size=4), calendars, st.integers(0, 30 * 365 * DAY))
def test_a_change_leaves_the_running_day_and_its_past_as_they_are(
    taken: list[tuple[BudgetCalendar, int]], calendar: BudgetCalendar, origin: int
) -> None:
    before, now = changed(taken, START + origin)
    after = Calendars(before.change(calendar, now))
    running = before.at(now)
    assert after.at(now).date == running.date
    assert after.at(now).start == running.start
    for seconds in (HOUR, DAY, 3 * DAY, 40 * DAY):  # where late events go
        assert after.at(now - seconds).date == before.at(now - seconds).date
    # From a few days on, the new calendar alone decides.
    later = now + 4 * DAY
    assert after.at(later).date == calendar.day_of(later)
    assert after.at(later).end == calendar.end(calendar.day_of(later))


@settings(max_examples=examples(400))
@given(st.lists(steps, min_size=2, max_size=4), st.integers(0, 48).map(lambda n: n * HOUR))
def test_the_same_calendar_again_changes_nothing(
    taken: list[tuple[BudgetCalendar, int]], later: int
) -> None:
    """As at every restart, also while a change is still to come."""
    result, now = changed(taken, START)
    assert result.change(taken[-1][0], now + later) == result.rows


@given(calendars, calendars, st.integers(0, 30 * 365 * DAY))
def test_a_change_taken_back_at_once_was_never_there(
    first: BudgetCalendar, second: BudgetCalendar, origin: int
) -> None:
    now = START + origin
    rows = Calendars([]).change(first, now)
    pending = Calendars(rows).change(second, now)
    assert Calendars(pending).change(first, now) == rows


def test_from_tokyo_to_los_angeles_the_running_day_waits_for_the_new_midnight() -> None:
    tokyo, angeles = BudgetCalendar("Asia/Tokyo"), BudgetCalendar("America/Los_Angeles")
    now = unix("2027-01-15T06:00:00")  # 15:00 in Tokyo
    result = Calendars([CalendarRow(0, tokyo, datetime.min.date())])
    result = Calendars(result.change(angeles, now))
    day = result.at(now)
    assert day.start == unix("2027-01-14T15:00:00")
    assert day.end == unix("2027-01-16T08:00:00")  # 41 hours
    # Tokyo's midnight has passed: a restart, and a change back, leave the day whole.
    midnight_passed = unix("2027-01-15T20:00:00")
    assert Calendars(result.change(angeles, midnight_passed)).at(midnight_passed) == day
    back = Calendars(result.change(tokyo, midnight_passed))
    assert back.at(midnight_passed).date == day.date
    assert back.at(midnight_passed).end == unix("2027-01-16T15:00:00")  # Tokyo's next midnight


def test_from_los_angeles_to_tokyo_the_first_day_is_short() -> None:
    tokyo, angeles = BudgetCalendar("Asia/Tokyo"), BudgetCalendar("America/Los_Angeles")
    now = unix("2027-01-15T20:00:00")  # noon in Los Angeles
    result = Calendars(Calendars([]).change(angeles, now))
    result = Calendars(result.change(tokyo, now))
    day = result.at(now)
    assert day.end == unix("2027-01-16T08:00:00")
    assert result.at(day.end).date.isoformat() == "2027-01-16"
    assert result.at(day.end).end == unix("2027-01-16T15:00:00")


def test_a_date_that_a_zone_skipped_is_no_budget_day() -> None:
    """Samoa had no 30 December 2011."""
    apia = BudgetCalendar("Pacific/Apia")
    rows = Calendars([]).change(apia, 0)
    last = Calendars(rows).at(unix("2011-12-30T09:00:00"))
    assert last.date.isoformat() == "2011-12-29"
    assert Calendars(rows).at(last.end).date.isoformat() == "2011-12-31"


def test_a_change_of_start_while_it_was_down_for_days_applies_from_the_next_start(
    tmp_path: Path,
) -> None:
    with Exporter(tmp_path, now=unix("2027-01-11T12:00:00")) as exporter:
        exporter.book(event())
    changed_config = 'budget: {day_starts_at: "06:00"}'
    with Exporter(tmp_path, changed_config, now=unix("2027-01-15T03:00:00")) as exporter:
        day = exporter.status()["day"]
        assert (day["date"], day["end"]) == ("2027-01-15", unix("2027-01-16T06:00:00"))
        assert day["start"] == unix("2027-01-15T00:00:00")
        exporter.book(event(at=unix("2027-01-13T03:00:00")))  # late, by the old calendar
        exporter.clock.set(unix("2027-01-16T05:59:59"))
        exporter.book(event())
        assert exporter.spend() == Decimal("0.00038")
        exporter.clock.advance(1)
        assert exporter.status()["day"]["date"] == "2027-01-16"
        assert exporter.spend() == 0
    with Exporter(tmp_path, changed_config, now=unix("2027-01-16T07:00:00")) as exporter:
        assert exporter.status()["day"]["start"] == unix("2027-01-16T06:00:00")
