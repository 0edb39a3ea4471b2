"""The course of a day: each cost in the slot of its own time, to the pico-dollar."""

import sqlite3
from collections import Counter
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.budget.calendars import BudgetDay
from exporter.ledger import schema
from exporter.ledger.backup import backup, restore
from exporter.ledger.course import NO_SLOT, SLOT_SECONDS, Course, read_courses, slot_of, spent
from exporter.ledger.repricing import Reprice
from exporter.ledger.schema import MIGRATIONS, connect
from tests.support.examples import examples
from tests.support.exporters import NOON, Exporter, event, exporter_process, url
from tests.support.faulty_sqlite import FaultyConnection, connect_faulty

DAY = 86_400
MIDNIGHT = NOON - 43_200  # 2027-01-15T00:00:00Z
TODAY = date(2027, 1, 15)
CALL = 1000 * 270_000 + 100 * 1_100_000  # pico-dollars of event()
PRICED = "prices: {house-model: {input_usd_per_1k: 0.00027, output_usd_per_1k: 0.00110}}"


def course(exporter: Exporter, day: date = TODAY) -> dict[int, int]:
    """Of a day, in calls' cost; the same in memory and on disk, which sums to the accounts."""
    stored = read_courses(exporter.ledger.writer.db, "")[day]
    assert stored == +exporter.ledger.books.courses[day] + Counter({NO_SLOT: stored[NO_SLOT]})
    assert stored[NO_SLOT] == 0
    return dict(+stored)


def rows(folder: Path, table: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        return db.execute(f"SELECT * FROM {table} ORDER BY 2, 1").fetchall()


def limits(folder: Path) -> list[tuple[Any, ...]]:
    return sorted(rows(folder, "limits"))


def gaps(folder: Path) -> list[tuple[Any, ...]]:
    return rows(folder, "gaps")


def test_cost_goes_to_the_slot_of_the_events_own_time(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        times = (MIDNIGHT, MIDNIGHT + 299.9, MIDNIGHT + 300, NOON, NOON + 3600)  # the last: future
        exporter.book(*(event(at=at) for at in times))
        assert course(exporter) == {0: 2 * CALL, 1: CALL, 144: 2 * CALL}
        exporter.book(event(at=MIDNIGHT - 1), event(0, 0, outcome="cached"))
        assert course(exporter, TODAY - timedelta(1)) == {287: CALL}
        exporter.clock.advance(DAY)  # yesterday is closed by now
        exporter.book(event(at=NOON - 60))
        assert course(exporter) == {0: 2 * CALL, 1: CALL, 143: CALL, 144: 2 * CALL}


@pytest.mark.parametrize(("day", "hours"), [("2027-03-28", 23), ("2027-10-31", 25)])
def test_slots_are_of_real_time_on_the_days_of_23_and_25_hours(
    tmp_path: Path, day: str, hours: int
) -> None:
    start = datetime.fromisoformat(f"{day}T00:00+01:00").timestamp() - (hours == 25) * 3600
    with Exporter(tmp_path, "budget: {timezone: Europe/Berlin}", start + 2 * DAY) as exporter:
        exporter.book(event(at=start), event(at=start + hours * 3600 - 1))
        assert course(exporter, date.fromisoformat(day)) == {0: CALL, hours * 12 - 1: CALL}


def test_a_day_that_a_change_of_zone_stretched_has_more_slots(tmp_path: Path) -> None:
    with Exporter(tmp_path, "budget: {timezone: Asia/Tokyo}", NOON) as exporter:
        today = exporter.ledger.today()
        (tmp_path / "budget.yml").write_text("budget: {timezone: America/New_York}")
        exporter.ledger.reconfigure(exporter.load().config).result(5)
        longer = exporter.ledger.today()
        assert (longer.start, longer.end - longer.start) == (today.start, 38 * 3600)
        exporter.clock.set(longer.end - 1)
        exporter.book(event())
        assert course(exporter, longer.date) == {38 * 12 - 1: CALL}


@pytest.mark.parametrize("starts_at", ["00:00", "00:02", "06:00:30", "23:59:59"])
def test_repriced_cost_lies_where_a_known_price_would_have_put_it(
    tmp_path: Path, starts_at: str
) -> None:
    """Unpriced usage is kept by the minute; a day may start within one, and slots with it."""
    budget = f'budget: {{day_starts_at: "{starts_at}"}}\n'
    edge = MIDNIGHT - DAY + 6 * 3600 + 30
    times = [edge + 20 * n for n in range(-40, 41)] + [NOON - 7 * n for n in range(200)]
    with (
        Exporter(tmp_path / "known", budget + PRICED) as known,
        Exporter(tmp_path / "late", budget) as late,
    ):
        for exporter in (known, late):
            exporter.book(*(event(at=at, model="house-model") for at in times))
        assert not any(+one for one in late.ledger.books.courses.values())
        late.ledger.reconfigure(known.load().config).result(5)
        body = {"reason": "a test", "author": "tests"}
        for dry_run in (True, False, False):  # asked again, it adds nothing
            late.ledger.reprice(Reprice(**body, dry_run=dry_run)).result(5)
        for day in (TODAY - timedelta(2), TODAY - timedelta(1), TODAY):
            assert course(late, day) == course(known, day)
        assert sum(sum(course(late, TODAY - timedelta(n)).values()) for n in range(3)) == (
            len(times) * CALL
        )


@settings(
    max_examples=examples(20),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"]),
    starts_at=st.sampled_from(["00:00", "02:30", "13:07:11"]),
    start=st.integers(1_773_000_000, 1_810_000_000),
    calls=st.lists(
        st.tuples(
            st.integers(-34 * DAY, 2 * DAY),
            st.sampled_from(["deepseek-chat", "late-model", "never", "house-model"]),
            st.integers(0, 9_999_999),
        ),
        max_size=12,
    ),
    moves=st.lists(st.integers(-DAY, 3 * DAY), max_size=3),
)
def test_slots_sum_to_their_day(
    tmp_path_factory: pytest.TempPathFactory,
    zone: str,
    starts_at: str,
    start: int,
    calls: list[tuple[int, str, int]],
    moves: list[int],
) -> None:
    """Through late events and the future, moved clocks, a change of zone, a reprice, a restart."""
    folder = tmp_path_factory.mktemp("course")
    budget = f'budget: {{timezone: {zone}, day_starts_at: "{starts_at}"}}\n'
    late_model = "prices: {late-model: {input_usd_per_1k: 0.003, output_usd_per_1k: 7e-9}, "
    with Exporter(folder, budget + PRICED, float(start)) as exporter:
        for number, (offset, model, tokens) in enumerate(calls):
            exporter.book(event(tokens, 3, at=exporter.clock.now() + offset, model=model))
            exporter.clock.advance(moves[number] if number < len(moves) else 0)
        changed = "budget: {timezone: Pacific/Auckland}\n" + PRICED.replace("prices: {", late_model)
        (folder / "budget.yml").write_text(changed)
        exporter.ledger.reconfigure(exporter.load().config).result(5)
        exporter.ledger.reprice(Reprice(reason="a test", author="tests")).result(5)
        remembered = {day: +course for day, course in exporter.ledger.books.courses.items()}
    with Exporter(folder, changed, exporter.clock.now()) as exporter:
        for day, slots in read_courses(exporter.ledger.writer.db, "").items():
            assert slots[NO_SLOT] == 0  # what the accounts of the day have more than its slots
            length = (found := exporter.ledger.calendars.on(day)).end - found.start
            assert all(0 <= slot * SLOT_SECONDS < length for slot in +slots)
        found = {day: +slots for day, slots in exporter.ledger.books.courses.items()}
        assert {d: s for d, s in found.items() if s} == {d: s for d, s in remembered.items() if s}


@pytest.mark.usefixtures("_faulty")
def test_a_disk_that_fails_at_any_statement_leaves_no_cost_behind(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.book(event())
        db = exporter.ledger.writer.db
        assert isinstance(db, FaultyConnection)
        for statement in range(50):
            before = course(exporter)
            db.arm(statement, 1)
            answer = exporter.post([event(at=NOON - 600)])
            db.disarm()
            if answer.status_code == 200:
                assert statement > 5
                break
            assert course(exporter) == before
        assert course(exporter) == {142: CALL, 144: CALL}


@pytest.fixture
def _faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "connect", connect_faulty)


def test_killed_at_once_after_the_answer_it_has_the_course(tmp_path: Path) -> None:
    with exporter_process(tmp_path) as child:
        for _ in range(20):
            answer = requests.post(url(child, "/v1/usage"), json=[event()] * 5, timeout=5)
            assert answer.status_code == 200
        child.kill()
    db = connect(tmp_path / "ledger.sqlite")
    courses = read_courses(db, "")
    assert sum(course.total() for course in courses.values()) == 100 * CALL
    assert all(course[NO_SLOT] == 0 for course in courses.values())
    db.close()


def test_a_slot_may_cost_more_than_64_bits_hold(tmp_path: Path) -> None:
    config = (
        "limits: {call_usd: 100000000}\n"
        "prices: {deepseek-chat: {input_usd_per_1k: 10, output_usd_per_1k: 1}}"
    )
    with Exporter(tmp_path, config) as exporter:
        for number in range(4):
            exporter.book(*(event(9_000_000, 0, roaster=f"r{number}") for _ in range(100)))
        whole = 4 * 100 * 9_000_000 * 10**10
        assert whole > 2**63
        assert course(exporter) == {144: whole}


def test_spent_is_linear_in_a_slot_and_reaches_the_whole() -> None:
    day = Course({0: 300, 1: 7, 3: 10**30, 4: 50})
    assert spent(day, 1300, [0, 1, 299, 300, 450, 599, 600, 900, 1200, 1250, 1299, 1300, 9999]) == [
        0, 1, 299, 300, 303, 306, 307, 307,
        307 + 10**30, 332 + 10**30, 356 + 10**30, 357 + 10**30, 357 + 10**30,
    ]  # fmt: skip
    assert spent(Course(), DAY, [0, DAY]) == [0, 0]


@given(
    slots=st.dictionaries(st.integers(0, 311), st.integers(0, 10**16), max_size=20),
    length=st.integers(79_200, 93_600),
    elapsed=st.lists(st.integers(0, 200_000), min_size=2, max_size=6).map(sorted),
)
def test_spent_never_falls(slots: dict[int, int], length: int, elapsed: list[int]) -> None:
    day = Course({slot: cost for slot, cost in slots.items() if slot * SLOT_SECONDS < length})
    sums = spent(day, length, [0, *elapsed, length])
    assert sums == sorted(sums)
    assert (sums[0], sums[-1]) == (0, day.total())


def test_the_slot_of_a_minute_that_reaches_beyond_the_day_is_its_first_or_last() -> None:
    day = BudgetDay(TODAY, 1_000_000_030, 1_000_000_030 + DAY)
    assert slot_of(day, day.start + 1) == slot_of(day, day.start - 40_000) == 0
    assert slot_of(day, day.end + 40_000) == 287


def test_the_limit_in_force_is_kept_by_day(tmp_path: Path) -> None:
    def configure(usd: str) -> None:
        (tmp_path / "budget.yml").write_text(f"budget: {{daily_limit_usd: {usd}}}")
        exporter.ledger.reconfigure(exporter.load().config).result(5)

    with Exporter(tmp_path, "budget: {daily_limit_usd: 60.3}") as exporter:
        exporter.clock.advance(2 * DAY)
        configure("70")
        configure("1e12")  # the last of a day counts
        exporter.clock.advance(DAY)
        configure("1000000000000")
        exporter.clock.advance(-DAY)  # the clock goes back
        configure("5")
    assert limits(tmp_path) == [("2027-01-15", "60.3"), ("2027-01-17", "5")]
    with Exporter(tmp_path, "budget: {daily_limit_usd: 7}", NOON + 9 * DAY):
        pass
    assert limits(tmp_path)[-1] == ("2027-01-24", "7")


def test_a_new_ledger_notes_when_it_began_once(tmp_path: Path) -> None:
    for later in (0, DAY):
        with Exporter(tmp_path, "", NOON + later) as exporter:
            exporter.book(event())
        assert gaps(tmp_path) == [("usage", -1, NOON)]


def test_an_upgraded_ledger_notes_its_first_day_and_from_when_on_it_keeps_courses(
    tmp_path: Path,
) -> None:
    path = tmp_path / "ledger.sqlite"
    with Exporter(tmp_path, "", NOON - 5 * DAY) as exporter:
        exporter.book(event())
    with sqlite3.connect(path) as db:  # as the schema before wrote it
        for table in ("slots", "limits", "gaps", "closed"):
            db.execute(f"DROP TABLE {table}")
        db.execute(f"PRAGMA user_version = {[m.__name__ for m in MIGRATIONS].index('m_course')}")
    db.close()
    with Exporter(tmp_path) as exporter:
        exporter.book(event(), event(at=NOON - 5 * DAY))
        old = exporter.ledger.books.courses[TODAY - timedelta(5)]
        assert (old.total(), old[NO_SLOT]) == (2 * CALL, CALL)
    assert gaps(tmp_path) == [("course", -1, NOON), ("usage", -1, MIDNIGHT - 4 * DAY)]


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_restored_backup_notes_what_it_may_lack(tmp_path: Path, by_hand: bool) -> None:
    path, copy = tmp_path / "ledger.sqlite", tmp_path / "copy"
    with Exporter(tmp_path) as exporter:
        exporter.book(event())
        exporter.clock.advance(100)
        backup(path, copy, force=False)
        exporter.book(event())
    with Exporter(tmp_path, "", NOON + 200):  # the original lacks nothing
        pass
    assert gaps(tmp_path) == [("usage", -1, NOON)]
    if by_hand:
        path.unlink()
        path.write_bytes(copy.read_bytes())
    else:
        backup(copy, tmp_path / "copy of a copy", force=False)
        restore(tmp_path / "copy of a copy", path, force=True)
    for later in (DAY, 2 * DAY):
        with Exporter(tmp_path, "", NOON + later) as exporter:
            exporter.book(event())
        assert gaps(tmp_path) == [("usage", -1, NOON), ("usage", NOON, NOON + DAY)]
        assert exporter.ledger.books.gaps == gaps(tmp_path)


def test_a_backup_of_a_ledger_that_booked_nothing_lacks_everything(tmp_path: Path) -> None:
    with Exporter(tmp_path):
        backup(tmp_path / "ledger.sqlite", tmp_path / "copy", force=False)
    restore(tmp_path / "copy", tmp_path / "ledger.sqlite", force=True)
    with Exporter(tmp_path, "", NOON + DAY):
        assert ("usage", 0, NOON + DAY) in gaps(tmp_path)
