"""Sums of a range of days: exact to the pico-dollar, beside the writer, bounded, and honest."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from common.http import json_response
from exporter.ledger import report as reports
from exporter.ledger.report import FIGURES, GROUPS, report
from exporter.ledger.retention import tidy
from tests.support.examples import examples
from tests.support.exporters import ADMIN, INGEST, NOON, Exporter, event

DAY = 86_400
CALL = {"prompt": 1000, "completion": 100, "cached": 300}  # 320,000,000 pico-dollars
ACCOUNTS = (
    "INSERT INTO accounts (day, roaster, field, model, price_version, success, error, rate_limited,"
    " cached, fallback, input_tokens, cached_input_tokens, output_tokens, cost_picodollars,"
    " estimated_cost_picodollars, late_cost_picodollars, batch_items, batch_slots)"
    " VALUES (?,?,?,?,?, ?,?,?,?,?, ?,?,?,?, 0, 0, 0, 0)"
)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Three days: on 13 January two calls, on the 14th one of another roaster, on the 15th none."""
    with Exporter(tmp_path, now=NOON - 2 * DAY) as exporter:
        exporter.book(event(**CALL), event(outcome="cached", usage=None, model="deepseek-chat"))
        exporter.book(event(field="weight", outcome="error", usage=None))
        exporter.clock.advance(DAY)
        exporter.book(event(roaster="naivo", **CALL))
    return tmp_path / "ledger.sqlite"


def rows(found: dict[str, Any], *keys: str) -> list[tuple[Any, ...]]:
    return [tuple(row.get(key) for key in keys) for row in found["rows"]]


def test_forgotten_days_are_said_though_calls_that_wait_for_a_price_are_left_of_them(
    tmp_path: Path,
) -> None:
    with Exporter(tmp_path, now=NOON - 100 * DAY) as exporter:
        for _ in range(100):
            exporter.book(event(), event(model="house-model"))
            exporter.clock.advance(DAY)
        today = exporter.ledger.today().date
        for keep in (50, 60):  # what is forgotten stays so
            while exporter.ledger.writer.run(lambda db, _, k=keep: tidy(db, today, k)).result(9):
                pass
    path = tmp_path / "ledger.sqlite"
    found = report(path, "99d", "90d", "day", NOON)
    assert [row["cost_usd"] for row in found["rows"]] == ["0"] * 10
    said = "Days until 2026-11-25 are forgotten, but for calls that waited for a price."
    assert found["notes"][0] == said
    assert said in report(path, "51d", "today", "month", NOON)["notes"]
    notes = report(path, "50d", "today", "month", NOON)["notes"]
    assert not [one for one in notes if "forgotten" in one or "begins" in one]


def test_calls_tokens_and_cost_by_several_groups(ledger: Path) -> None:
    found = report(ledger, "7d", "today", "day,roaster,field", NOON)
    assert (found["from"], found["to"]) == ("2027-01-08", "2027-01-15")
    assert rows(found, "day", "roaster", "field", *FIGURES) == [
        ("2027-01-13", "blue-tokai", "notes", 1, 700, 300, 100, 0, "0.00032", "0.00032"),
        ("2027-01-13", "blue-tokai", "weight", 1, 0, 0, 0, 0, "0", "0"),
        ("2027-01-14", "naivo", "notes", 1, 700, 300, 100, 0, "0.00032", "0.00032"),
    ]
    sums = dict(zip(FIGURES, (3, 1400, 600, 200, 0, "0.00064", "0.000213333333"), strict=True))
    assert found["total"] == sums


@pytest.mark.parametrize(
    ("since", "until", "range_", "calls"),
    [
        ("today", "today", None, 0),
        ("1d", "today", ("2027-01-14", "2027-01-15"), 1),
        ("2d", "1d", ("2027-01-13", "2027-01-14"), 3),
        ("2027-01-13", "2027-01-13", ("2027-01-13", "2027-01-13"), 2),
        ("month", "month", ("2027-01-01", "2027-01-31"), 3),
        ("2026-01-01", "2d", ("2026-01-01", "2027-01-13"), 2),
    ],
)
def test_ranges(
    since: str, until: str, range_: tuple[str, str] | None, calls: int, ledger: Path
) -> None:
    if range_ is None:
        with pytest.raises(UserError, match="to 2027-01-15; the ledger has 2027-01-13 to 2027"):
            report(ledger, since, until, "day", NOON)
        return
    found = report(ledger, since, until, "month", NOON)
    assert (found["from"], found["to"]) == range_
    assert [row["calls"] for row in found["rows"]] == [calls]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("2027-01-14", "2027-01-13", "day"), "begins on 2027-01-14 and ends before it"),
        (("7d", "today", "day,colour"), "cannot sum by 'colour'; write some of day,month"),
        (("7d", "today", ""), "cannot sum by ''"),
        (("7d", "today", "day; DROP TABLE accounts"), "cannot sum by 'day; DROP"),
        (("yesterday", "today", "day"), "'yesterday' is no day; write 2027-01-15, today"),
        (("", "today", "day"), "'' is no day"),
        (("2027-02-30", "today", "day"), "'2027-02-30' is no day"),
        (("7d", "99999d", "day"), "'99999d' is no day"),
        (
            ("2026-01-01", "2026-01-31", "day"),
            "no calls from 2026-01-01 to 2026-01-31; the",
        ),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(
    asked: tuple[str, str, str], words: str, ledger: Path
) -> None:
    with pytest.raises(UserError) as refused:
        report(ledger, *asked, NOON)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [None, b"", b"no ledger", b"SQLite format 3\0" + b"\xff" * 99])
def test_what_is_no_ledger_is_said(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.sqlite"):
        report(path, "7d", "today", "day", NOON)


def test_a_ledger_without_calls_says_so(tmp_path: Path) -> None:
    Exporter(tmp_path).close()
    with pytest.raises(UserError, match="2027-01-15; the ledger has none yet"):
        report(tmp_path / "ledger.sqlite", "7d", "today", "day", NOON)


def test_what_the_ledger_saw_only_in_part_is_said(ledger: Path) -> None:
    def notes(since: str, until: str, now: float = NOON) -> list[str]:
        return report(ledger, since, until, "day", now)["notes"]

    begins = "The ledger begins on 2027-01-13, perhaps not at that day's start."
    assert notes("7d", "1d") == [begins]
    assert notes("2d", "today") == [begins, "The day 2027-01-15 is not over."]
    assert notes("1d", "1d") == []
    ended = "The ledger has nothing after 2027-01-14."
    assert notes("2027-01-14", "3d", NOON + 6 * DAY) == [ended]
    assert notes("2027-01-14", "today", NOON + 6 * DAY) == [
        ended, "The day 2027-01-21 is not over.",
    ]  # fmt: skip


def test_withheld_cost_is_said_and_no_mean_is_made_of_it(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.book(event(**CALL), event(50, 7, model="nobody-prices-me"))
        found = report(exporter.ledger.path, "today", "today", "model", NOON)
    keys = ("model", "unpriced_tokens", "cost_usd", "cost_per_call_usd")
    assert rows(found, *keys) == [
        ("deepseek-chat", 0, "0.00032", "0.00032"),
        ("nobody-prices-me", 57, "0", None),
    ]
    assert (found["total"]["unpriced_tokens"], found["total"].get("cost_per_call_usd")) == (
        57,
        None,
    )
    assert "The cost of 57 tokens without a price is missing (reprice)." in found["notes"]


def test_a_day_is_the_budgets_also_after_a_change_of_its_zone(tmp_path: Path) -> None:
    config = "budget: {timezone: Asia/Kolkata}"  # half past five hours ahead
    with Exporter(tmp_path, config, now=NOON + 10 * 3600) as exporter:  # 22:00 UTC
        exporter.book(event(**CALL))
        found = report(exporter.ledger.path, "today", "today", "day", exporter.clock.now())
    assert rows(found, "day") == [("2027-01-16",)]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sums")
    Exporter(folder).close()
    return folder / "ledger.sqlite"


ACCOUNT = st.tuples(
    st.integers(0, 40), *[st.integers(0, 2)] * 3, st.integers(0, 2**62) | st.integers(0, 9)
)


@settings(max_examples=examples(30))
@given(
    st.lists(ACCOUNT, min_size=1, max_size=30, unique_by=lambda one: one[:4]),
    st.lists(st.sampled_from(list(GROUPS)), min_size=1, max_size=5),
)
def test_sums_by_whatever_group_are_the_ledgers_to_the_last_pico_dollar(
    empty: Path, booked: list[Any], by: list[str]
) -> None:
    with closing(sqlite3.connect(empty)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("DELETE FROM accounts")
        for day, roaster, field, model, cost in booked:
            month, number = divmod(day, 28)
            named = (f"2026-{10 + month}-{number + 1:02d}", f"r{roaster}", f"f{field}", f"m{model}")
            db.execute(ACCOUNTS, (*named, 0, *[1] * 5, cost, 1, 2, cost))
        db.commit()
    found = report(empty, "2026-01-01", "2026-12-31", ",".join(by), NOON)
    exact = sum(one[-1] for one in booked)
    assert int(Decimal(found["total"]["cost_usd"]).scaleb(12)) == exact
    assert sum(int(Decimal(row["cost_usd"]).scaleb(12)) for row in found["rows"]) == exact
    assert (
        found["total"]["input_tokens"] == sum(row["input_tokens"] for row in found["rows"]) == exact
    )
    assert found["total"]["calls"] == 3 * len(booked)
    names = [tuple(row[name] for name in found["by"]) for row in found["rows"]]
    assert len(names) == len(set(names))


def year(folder: Path, pairs: int) -> Path:
    """A year of so many pairs of roaster and field."""
    Exporter(folder).close()
    path = folder / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as db, db:
        day = "date('2026-01-15', '+' || d.value || ' days')"
        counted = "WITH RECURSIVE n(value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM n LIMIT %d)"
        db.execute(f"CREATE TEMP TABLE days AS {counted % 365} SELECT value FROM n")
        db.execute(f"CREATE TEMP TABLE pairs AS {counted % pairs} SELECT value FROM n")
        db.execute(
            f"INSERT INTO accounts SELECT {day}, 'r' || (p.value / 10), 'f' || (p.value % 10),"
            " 'm', 0, 1, 0, 0, 0, 0, 10, 0, 1, 7000000000001, 0, 0, 0, 0"
            " FROM days d CROSS JOIN pairs p"
        )
    return path


def test_a_year_of_2000_pairs_takes_less_than_five_seconds(tmp_path: Path) -> None:
    path = year(tmp_path, 2000)
    began = time.process_time()  # the machine may do other work
    found = report(path, "2026-01-15", "today", "month,roaster,field", NOON)
    assert time.process_time() - began < 5
    assert len(found["rows"]) == 13 * 2000
    assert found["total"]["cost_usd"] == "5110000.00000073"
    assert len(json_response(found).body) < 8 << 20


def test_the_writer_and_the_scrapes_do_not_wait_for_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = threading.Event(), threading.Event()
    find = reports._read

    def slow(*words: Any) -> Any:
        asked.set()
        assert go_on.wait(30)
        return find(*words)

    monkeypatch.setattr(reports, "_read", slow)
    query = {"from": "7d", "to": "today", "by": "day"}
    with Exporter(tmp_path) as exporter, ThreadPoolExecutor() as pool:
        exporter.book(event(**CALL))
        answer = pool.submit(exporter.http.get, "/api/v1/report", params=query)
        assert asked.wait(30)
        exporter.book(event(**CALL))
        assert exporter.http.get("/metrics").status_code == 200
        go_on.set()
        rows = answer.result().json()["rows"]
    assert rows[0]["cost_usd"] == "0.00032", "it is of one moment"


def test_an_answer_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_ROWS", 100)
    path = year(tmp_path, 10)
    assert len(report(path, "2026-01-15", "2026-01-24", "day,roaster,field", NOON)["rows"]) == 100
    with pytest.raises(UserError, match="more than 100 rows; sum by less, or ask for a shorter"):
        report(path, "2026-01-15", "2026-01-25", "day,roaster,field", NOON)


def test_over_http_it_asks_for_the_metrics_token_and_refuses_in_a_sentence(tmp_path: Path) -> None:
    with Exporter(tmp_path, tokens=True) as exporter:
        exporter.parts.settings = type(exporter.parts.settings)(
            exporter.parts.config, type(exporter.tokens)(INGEST, ADMIN, "metrics-token-0123456789")
        )
        assert exporter.http.get("/api/v1/report").status_code == 401
        headers = {"Authorization": "Bearer metrics-token-0123456789"}
        asked = {"from": "7d", "to": "today", "by": "day"}
        answer = exporter.http.get("/api/v1/report", params=asked, headers=headers)
        assert answer.status_code == 400
        assert "the ledger has none yet" in answer.json()["error"]
