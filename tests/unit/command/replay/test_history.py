"""Usage histories from ledgers, exact to the pico-dollar; what an exporter would tell of them."""

import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest

from command.replay.history import MAX_DAYS, History, of_minutes, read_ledger
from common.errors import UserError
from exporter.ledger.schema import open_ledger


def ledger(path: Path, *days: tuple[str, int]) -> None:
    db = open_ledger(path)
    zeros = ", ".join(["0"] * 8)
    for day, cost in days:
        db.execute(
            "INSERT INTO accounts (day, roaster, field, model, price_version, success, error, "
            "rate_limited, cached, fallback, input_tokens, cached_input_tokens, output_tokens, "
            "cost_picodollars, estimated_cost_picodollars, late_cost_picodollars, batch_items, "
            f"batch_slots) VALUES (?, 'r', 'f', 'm', 0, {zeros}, ?, 0, 0, 0, 0)",
            (str(date.fromisoformat(day)), cost),
        )
    db.close()


def test_a_ledger_gives_its_days_spread_evenly_to_the_last_picodollar(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger(path, ("2026-11-20", 1441), ("2026-11-22", 2880), ("2026-11-23", 7))
    history = read_ledger(path)
    assert [sum(history.day(number)) for number in range(history.days)] == [1441, 0, 2880, 7]
    assert history.day(0)[:2] == [2, 1]
    assert "on some days each day's spend is spread evenly" in history.note


def test_a_ledgers_slots_are_its_course_and_what_they_lack_is_spread(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger(path, ("2026-11-20", 10**12 + 11), ("2026-11-21", 1440 + 5))
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP TABLE IF EXISTS slots")
        db.execute("CREATE TABLE slots (day, slot, usd, picodollars)")
        rows = [("2026-11-20", 96, 1, 6), ("2026-11-20", 299, 0, 5), ("2026-11-21", 0, 0, 5)]
        db.executemany("INSERT INTO slots VALUES (?, ?, ?, ?)", rows)
    history = read_ledger(path)
    first, second = history.day(0), history.day(1)
    assert (sum(first[480:485]), sum(first)) == (10**12 + 6, 10**12 + 11)
    assert max(first[480:485]) - min(first[480:485]) <= 1
    assert first[1435:] == [1] * 5, "the 25th hour's cost is at the end"
    assert second[:6] == [2] * 5 + [1]
    assert history.note


def test_of_days_whose_accounts_are_forgotten_the_slots_are_replayed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    days = [f"2026-11-{day}" for day in range(20, 24)]
    ledger(path, *((day, 1440) for day in days))
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany("INSERT INTO slots VALUES (?, 3, 0, 1440)", [(day,) for day in days[1:]])
        db.execute("INSERT INTO meta VALUES ('forgotten', '2026-11-21')")
        db.execute("UPDATE accounts SET cost_picodollars = 0 WHERE day <= '2026-11-21'")
    history = read_ledger(path)
    assert [sum(history.day(number)) for number in range(history.days)] == [1440] * 3
    assert min(history.picodollars) == 0, "what is left of the first day is no day"
    assert history.note == ""


def test_a_ledger_with_gaps_gives_its_last_days(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger(path, ("2023-01-01", 1440), ("2026-11-20", 2880))
    history = read_ledger(path)
    assert history.days == MAX_DAYS
    assert sum(history.day(MAX_DAYS - 1)) == sum(history.picodollars) == 2880


def test_only_days_that_were_seen_whole_are_history() -> None:
    assert of_minutes({60: 1, 5000: 1}).first_whole == 1
    history = of_minutes({59: 1, 44_000: 1})
    assert history.first_whole == 0
    assert list(history.before(5)) == [1, 2, 3, 4, 5]
    assert list(history.before(30)) == [1, 2, 3, 4, 5, 6, 7, 14, 21, 28]
    assert History([0] * 1440).before(0) == {}


def test_a_ledger_without_cost_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    open_ledger(tmp_path / "empty.sqlite").close()
    with pytest.raises(UserError, match="no cost yet"):
        read_ledger(tmp_path / "empty.sqlite")
    csv = tmp_path / "usage.csv"
    csv.write_text("minute,tokens\n")
    with pytest.raises(UserError, match="is not a ledger"):
        read_ledger(csv)
    with pytest.raises(UserError, match="there is no ledger at"):
        read_ledger(tmp_path / "none.sqlite")
