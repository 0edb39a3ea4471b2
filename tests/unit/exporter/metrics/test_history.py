"""Past days as /metrics tells them: exact, of real time, and only what the ledger can know."""

import sqlite3
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from common import names
from exporter.budget.day import BudgetCalendar
from exporter.ledger.backup import backup, restore
from exporter.metrics.history import DAYS_AGO, HOURS
from tests.support.exporters import NOON, Exporter, event
from tests.support.ledger_dump import SCHEMA_1

DAY, HOUR = 86_400, 3600
MIDNIGHT = NOON - 12 * HOUR
CALL = Decimal("0.00038")
Past = dict[int, dict[str, float]]


def history(exporter: Exporter) -> Past:
    """What each past day cost, by days_ago and by; each with today's start, and its own."""
    today, found = exporter.ledger.today(), Past()
    starts = set()
    for (name, pairs), value in exporter.page().items():
        labels = dict(pairs)
        if name == names.HISTORY_SPEND:
            found.setdefault(int(labels[names.DAYS_AGO]), {})[labels[names.BY]] = value
        elif name == names.HISTORY_DAY_START:
            starts.add(int(labels[names.DAYS_AGO]))
        else:
            continue
        assert labels[names.DAY] == f"{today.start}"
        assert labels[names.LEDGER] == exporter.ledger.books.ledger_id
    assert starts == found.keys()
    return found


def lived(folder: Path, count: int, config: str = "", until: float = NOON) -> Exporter:
    """An exporter that has run for so many days, with a call in each one's second and 20th hour."""
    exporter = Exporter(folder, config, until - count * DAY - 13 * HOUR)
    while exporter.ledger.today().start < exporter.ledger.calendars.at(until).start:
        exporter.clock.set(exporter.ledger.today().end)
        start = exporter.ledger.today().start
        if start + 20 * HOUR < until:
            exporter.clock.set(start + 20 * HOUR)
            exporter.book(event(at=start + 2 * HOUR), event())
    exporter.clock.set(until)
    return exporter


def test_the_last_week_and_the_same_weekdays_before(tmp_path: Path) -> None:
    with lived(tmp_path, 30) as exporter:
        past = history(exporter)
        assert tuple(sorted(past)) == DAYS_AGO == (1, 2, 3, 4, 5, 6, 7, 14, 21, 28)
        for ago, day in past.items():
            assert set(day) == {"end", *map(str, HOURS)}
            assert [day[by] for by in ("0", "6", "10", "24", "end")] == [
                float(CALL), float(CALL), *[float(2 * CALL)] * 3
            ]  # fmt: skip
            start = exporter.value(names.HISTORY_DAY_START, days_ago=str(ago))
            assert start == MIDNIGHT - ago * DAY


def test_by_this_time_moves_evenly_through_a_slot_and_is_rounded_down(tmp_path: Path) -> None:
    with Exporter(tmp_path, "", MIDNIGHT - DAY) as exporter:
        exporter.clock.set(MIDNIGHT)
        exporter.book(event(at=NOON - DAY))
        seen = []
        for seconds in (0, 1, 75.9, 299, 300, 3600):
            exporter.clock.set(NOON + seconds)
            seen.append(history(exporter)[1]["0"])
        assert seen == [0, 0.000001266666, 0.000095, 0.000378733333, 0.00038, 0.00038]
        exporter.clock.set(NOON - 2 * HOUR + 150)
        assert (history(exporter)[1]["0"], history(exporter)[1]["2"]) == (0, 0.00019)


def test_a_day_that_lost_its_slots_is_known_by_its_total_only(tmp_path: Path) -> None:
    with lived(tmp_path, 3) as exporter:  # forgotten under a clock that was ahead, say
        assert len(history(exporter)[2]) > 1
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.execute("DELETE FROM slots WHERE day = '2027-01-13'")
    db.close()
    with Exporter(tmp_path, "", NOON) as exporter:
        past = history(exporter)
        assert past[2] == {"end": float(2 * CALL)}
        assert len(past[1]) > 1


def test_late_cost_is_in_the_history_at_once_and_yesterday_is_it_when_the_day_turns(
    tmp_path: Path,
) -> None:
    with Exporter(tmp_path, "", MIDNIGHT - DAY) as exporter:
        exporter.clock.set(MIDNIGHT - 1)
        exporter.book(event())
        assert history(exporter) == {}
        exporter.clock.set(MIDNIGHT)
        assert history(exporter)[1]["end"] == float(CALL)
        exporter.book(event(at=MIDNIGHT - 5))
        assert history(exporter)[1]["end"] == float(2 * CALL)
        assert exporter.value(names.LEDGER_SPEND) == 0


def test_a_page_that_is_rendered_as_the_day_turns_is_of_one_day(tmp_path: Path) -> None:
    with lived(tmp_path, 2) as exporter:
        today = exporter.ledger.today()
        exporter.clock.set(today.end + HOUR)
        text = exporter.parts.page.render(today).decode()
        days = {line.split('day="')[1].split('"')[0] for line in text.splitlines()
                if line.startswith((names.HISTORY_SPEND, names.LEDGER_SPEND))}  # fmt: skip
        assert days == {f"{today.start}"}


@pytest.mark.parametrize(
    ("date", "hours"), [("2027-03-28", 23), ("2027-10-31", 25)], ids=["spring", "autumn"]
)
def test_this_time_of_a_day_of_23_or_25_hours_is_in_real_seconds(
    tmp_path: Path, date: str, hours: int
) -> None:
    zone = ZoneInfo("Europe/Berlin")
    start = datetime.fromisoformat(date).replace(tzinfo=zone).timestamp()
    with Exporter(tmp_path, "budget: {timezone: Europe/Berlin}", start) as exporter:
        exporter.clock.set(start + hours * HOUR)  # midnight, and a day of 24 hours follows
        exporter.book(event(at=start + 10 * HOUR), event(at=start + hours * HOUR - 1))
        exporter.clock.advance(10 * HOUR + 300)
        assert history(exporter)[1]["0"] == float(CALL)
        assert history(exporter)[1]["12"] == float(CALL)
        assert history(exporter)[1]["14"] == float((2 if hours == 23 else 1) * CALL)
        exporter.clock.advance(13 * HOUR + 54 * 60)  # 23:59
        assert history(exporter)[1]["0"] == float((2 if hours == 23 else 1) * CALL)
        assert history(exporter)[1]["end"] == float(2 * CALL)


def test_the_first_day_is_not_whole_but_one_that_began_with_the_ledger_is(tmp_path: Path) -> None:
    for name, born, whole in (("at", MIDNIGHT, True), ("after", MIDNIGHT + 1, False)):
        with Exporter(tmp_path / name, "", born) as exporter:
            exporter.book(event(), event(at=born - DAY))  # a log may reach back
            exporter.clock.set(MIDNIGHT + DAY)
            assert list(history(exporter)) == ([1] if whole else [])


def test_a_day_without_cost_is_0_and_one_before_the_ledger_is_absent(tmp_path: Path) -> None:
    with Exporter(tmp_path, "", MIDNIGHT - DAY) as exporter:
        exporter.clock.set(NOON)
        assert history(exporter) == {1: {"end": 0, **dict.fromkeys(map(str, HOURS), 0)}}


def test_a_ledger_of_the_released_schema_knows_its_days_by_their_total_only(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.executescript(SCHEMA_1.read_text())
        days = [day for (day,) in db.execute("SELECT DISTINCT day FROM accounts ORDER BY day")]
        (cost,) = db.execute(
            "SELECT sum(cost_picodollars) FROM accounts WHERE day = ?", (days[-1],)
        ).fetchone()
    db.close()
    calendar = BudgetCalendar("Europe/Berlin", datetime.min.time().replace(hour=6))
    upgraded = calendar.start(datetime.fromisoformat(days[-1]).date()) + DAY + 5 * HOUR
    config = 'budget: {timezone: Europe/Berlin, day_starts_at: "06:00"}'
    with Exporter(tmp_path, config, upgraded) as exporter:
        past = history(exporter)
        assert len(days) == 2  # the first may have been seen in part
        assert past == {1: {"end": float(Decimal(cost).scaleb(-12))}}
        exporter.book(event(at=upgraded - 6 * HOUR))
        more = {"end": float(Decimal(cost).scaleb(-12) + CALL)}
        assert history(exporter)[1] == more
        exporter.clock.advance(2 * DAY)
        past = history(exporter)
        assert past[3] == more
        assert past[2] == {"end": 0}  # the day of the upgrade
        assert past[1].keys() == {"end", *map(str, HOURS)}


def test_days_that_a_restored_backup_may_lack_are_absent(tmp_path: Path) -> None:
    with lived(tmp_path, 8) as exporter:
        exporter.clock.advance(-3 * DAY - 4 * HOUR)  # the commits end here, as far as a copy knows
        exporter.book(event())
        backup(tmp_path / "ledger.sqlite", tmp_path / "copy", force=False)
    restore(tmp_path / "copy", tmp_path / "ledger.sqlite", force=True)
    with Exporter(tmp_path, "", NOON - DAY) as exporter:
        exporter.clock.set(NOON)
        assert sorted(history(exporter)) == [4, 5, 6, 7]
        exporter.clock.advance(DAY)
        assert sorted(history(exporter)) == [1, 5, 6, 7]


def test_days_that_a_change_of_zone_stretched_or_skipped_are_absent(tmp_path: Path) -> None:
    with lived(tmp_path, 8, "budget: {timezone: Asia/Tokyo}") as exporter:
        (tmp_path / "budget.yml").write_text("budget: {timezone: America/Los_Angeles}")
        exporter.ledger.reconfigure(exporter.load().config).result(5)
        stretched = exporter.ledger.today()
        assert stretched.end - stretched.start > 26 * HOUR
        exporter.clock.set(stretched.end + HOUR)
        assert sorted(history(exporter)) == [2, 3, 4, 5, 6, 7]
        exporter.clock.advance(DAY)
        assert sorted(history(exporter)) == [1, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("move", [-DAY, -9 * DAY, 400 * DAY])
def test_a_clock_that_jumps_and_goes_back_leaves_the_history_as_it_was(
    tmp_path: Path, move: int
) -> None:
    with lived(tmp_path, 9) as exporter:
        before = history(exporter)
        exporter.clock.advance(move)
        exporter.book(event(at=exporter.clock.now()))
        exporter.page()
        exporter.clock.advance(-move)
        after = history(exporter)
        touched = {-move // DAY} if move < 0 else set()
        assert {ago: day for ago, day in after.items() if ago not in touched} == {
            ago: day for ago, day in before.items() if ago not in touched
        }


@pytest.mark.parametrize("again", [lambda e: e, lambda e: _restarted(e)], ids=["same", "restart"])
def test_a_restart_changes_nothing(tmp_path: Path, again: Callable[[Exporter], Exporter]) -> None:
    exporter = lived(tmp_path, 30)
    before = history(exporter)
    exporter = again(exporter)
    assert history(exporter) == before
    exporter.close()


def _restarted(exporter: Exporter) -> Exporter:
    exporter.close()
    return Exporter(exporter.folder, "", exporter.clock.now())
