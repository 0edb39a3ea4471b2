"""Old days are summed up and forgotten a day at a time, and no total ever moves."""

import sqlite3
from datetime import date, timedelta
from pathlib import Path

import pytest

from exporter.ledger import schema
from exporter.ledger.repricing import Reprice
from exporter.ledger.retention import OPEN_DAYS, SLOT_DAYS, tidy
from tests.support.exporters import NOON, Exporter, event
from tests.support.faulty_sqlite import FaultyConnection, connect_faulty

DAY = 86_400
DAYS = 100
KEEP = "ledger: {keep_days: 70}\n"
PRICED = "prices: {house-model: {input_usd_per_1k: 0.00027, output_usd_per_1k: 0.00110}}"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A hundred days of three calls each, one of them waiting for a price; nothing tidied yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exporter.ledger.ledger.TIDY_WITHIN_SECONDS", -1)
        with Exporter(tmp_path, "", NOON - DAYS * DAY) as exporter:
            for _ in range(DAYS + 1):
                calls = ("deepseek-chat", "gpt-4o", "house-model")
                exporter.book(*(event(model=model) for model in calls))
                exporter.clock.advance(DAY)
    return tmp_path


def figures(exporter: Exporter) -> str:
    """What the books decide, but for history, of which days go by."""
    kept = ("llm_requests", "llm_tokens", "llm_cost", "llm_unpriced", "llm_late", "llm_ledger_cost")
    page = exporter.http.get("/metrics").text
    return "\n".join(sorted(line for line in page.splitlines() if line.startswith(kept)))


def settle(exporter: Exporter) -> None:
    """What a day's first report sets off; over when nothing moves between two turns of a queue."""
    exporter.ledger.submit([]).result(30)
    query = """SELECT (SELECT value FROM meta WHERE key = 'closed'),
        (SELECT min(day) FROM slots), (SELECT count(*) FROM accounts)"""
    seen: list[object] = []
    while len(seen) < 3 or len(set(seen[-3:])) > 1:
        seen.append(
            exporter.ledger.writer.run(lambda db, _: db.execute(query).fetchone()).result(9)
        )


def days(exporter: Exporter, table: str = "accounts", where: str = "") -> list[str]:
    query = f"SELECT DISTINCT day FROM {table} {where} ORDER BY day"
    return [day for (day,) in exporter.ledger.writer.db.execute(query)]


def first_of(exporter: Exporter, count: int) -> str:
    return str(exporter.ledger.today().date - timedelta(count))


PRICED_ROWS = "WHERE price_version > 0"


def test_without_a_setting_accounts_stay_and_slots_go_after_sixty_days(old: Path) -> None:
    with Exporter(old, "", NOON) as exporter:
        before = figures(exporter)
        settle(exporter)
        assert len(days(exporter)) == DAYS + 1
        assert days(exporter, "slots")[0] == first_of(exporter, SLOT_DAYS)
        (closed,) = exporter.ledger.writer.db.execute(
            "SELECT value FROM meta WHERE key = 'closed'"
        ).fetchone()
        assert closed == first_of(exporter, OPEN_DAYS + 1)
        assert figures(exporter) == before
    with Exporter(old, "", NOON) as exporter:  # read from the sums
        assert len(exporter.ledger.books.courses) == 40
        assert _without_live(figures(exporter)) == _without_live(before)


def _without_live(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if "llm_calls_live" not in line)


def test_accounts_are_kept_for_so_many_days_and_all_that_waits_for_a_price(old: Path) -> None:
    with Exporter(old, "", NOON) as exporter:
        before = figures(exporter)
    with Exporter(old, KEEP, NOON) as exporter:
        settle(exporter)
        assert days(exporter, where=PRICED_ROWS)[0] == first_of(exporter, 70)
        assert len(days(exporter)) == DAYS + 1  # house-model's
        assert figures(exporter) == before
    with Exporter(old, KEEP + PRICED, NOON) as exporter:
        assert figures(exporter) == before
        exporter.ledger.reprice(Reprice(author="tests", reason="known now")).result(5)
        repriced = figures(exporter)
        assert repriced != before
        exporter.clock.advance(DAY)
        settle(exporter)
        assert days(exporter)[0] == first_of(exporter, 70)
        after = exporter.value("llm_ledger_cost_usd_total")
    with Exporter(old, KEEP + PRICED, NOON + DAY) as exporter:
        assert exporter.value("llm_ledger_cost_usd_total") == after
        assert exporter.value("llm_unpriced_pending_tokens", model="house-model") == 0


def test_a_reload_takes_a_new_setting_the_next_day(old: Path) -> None:
    with Exporter(old, "", NOON) as exporter:
        settle(exporter)
        (old / "budget.yml").write_text("ledger: {keep_days: 36}")
        exporter.ledger.reconfigure(exporter.load().config).result(5)
        exporter.clock.advance(DAY)
        settle(exporter)
        assert days(exporter, where=PRICED_ROWS)[0] == first_of(exporter, 36)


@pytest.mark.parametrize("keep", ["35", "0", "-1", "all"])
def test_a_setting_that_late_events_would_outlive_is_refused(tmp_path: Path, keep: str) -> None:
    with pytest.raises(Exception, match="keep_days"):
        Exporter(tmp_path, f"ledger: {{keep_days: {keep}}}")


def test_a_clock_that_jumps_ahead_forgets_nothing_at_once(old: Path) -> None:
    with Exporter(old, KEEP, NOON) as exporter:
        exporter.clock.advance(3650 * DAY)
        settle(exporter)
        assert len(days(exporter, "slots")) == len(days(exporter)) == DAYS + 1


def test_an_event_of_a_closed_day_counts_in_its_sum_too(old: Path) -> None:
    """Closed under a clock that was ahead for days, and went back."""
    with Exporter(old, "", NOON) as exporter:
        settle(exporter)
        exporter.ledger.writer.run(
            lambda db, _: tidy(db, exporter.ledger.today().date + timedelta(40), None)
        ).result(5)
        while exporter.ledger.writer.run(
            lambda db, _: tidy(db, exporter.ledger.today().date + timedelta(40), None)
        ).result(5):
            pass
        before = exporter.value("llm_ledger_cost_usd_total")
        exporter.book(event(), event(at=NOON - DAY))
        after = exporter.value("llm_ledger_cost_usd_total")
        assert before is not None
        assert after == pytest.approx(before + 2 * 0.00038)
    with Exporter(old, "", NOON) as exporter:
        assert exporter.value("llm_ledger_cost_usd_total") == after
        assert float(exporter.spend()) > 0


def test_a_disk_that_fails_at_any_statement_neither_loses_nor_doubles(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "connect", connect_faulty)
    with Exporter(old, KEEP, NOON) as exporter:
        before = _without_live(figures(exporter))
        db = exporter.ledger.writer.db
        assert isinstance(db, FaultyConnection)
        for statement in range(12):
            db.arm(statement, 1)
            future = exporter.ledger.writer.run(lambda db, _: tidy(db, date(2027, 1, 15), 70))
            assert future.exception(5) is None or statement < 12
            db.disarm()
        settle(exporter)
    monkeypatch.undo()
    with Exporter(old, KEEP, NOON) as exporter:
        assert _without_live(figures(exporter)) == before


def test_a_sum_beyond_64_bits_leaves_its_days_as_they_are(tmp_path: Path) -> None:
    with Exporter(tmp_path, "", NOON - 50 * DAY) as exporter:
        for _ in range(3):
            exporter.book(event())
            exporter.clock.advance(DAY)
    huge = 2**62
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.execute("UPDATE accounts SET cost_picodollars = ?", (huge,))
    db.close()
    with Exporter(tmp_path, "ledger: {keep_days: 36}", NOON - 47 * DAY) as exporter:
        exporter.clock.set(NOON)
        exporter.book(event(at=NOON))
        exporter.clock.advance(DAY)
        settle(exporter)
        exporter.book(event())
    with Exporter(tmp_path, "", NOON + DAY) as exporter:
        total = sum(amounts.cost_picodollars for amounts in exporter.ledger.books.totals.values())
        assert total == 3 * huge + 2 * 380_000_000
        assert exporter.spend() > 0
