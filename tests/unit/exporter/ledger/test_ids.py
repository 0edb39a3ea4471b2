"""Ids at their edges: scope, the last second of 35 days, clocks."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import iso8601
from exporter.ledger import schema
from exporter.ledger.ids import KEEP_SECONDS, WEEK_SECONDS, IdTables
from tests.support.exporters import NOON, Exporter, event

DAY = 86_400


def accepted(exporter: Exporter, **more: Any) -> int:
    return int(exporter.book(event(**more))["accepted"])


def id_tables(exporter: Exporter) -> list[str]:
    query = "SELECT name FROM sqlite_schema WHERE name GLOB 'event_ids_*' ORDER BY name"
    with schema.connect(exporter.ledger.path) as db:
        return [name for (name,) in db.execute(query)]


def test_an_event_is_too_old_one_second_after_35_days(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        assert accepted(exporter, at=NOON - KEEP_SECONDS) == 1
        (rejected,) = exporter.book(event(at=NOON - KEEP_SECONDS - 1))["rejected"]
        assert rejected["reason"].startswith("too_old")
        assert exporter.value("llm_ingest_rejected_total", source="http", reason="too_old") == 1


@pytest.mark.parametrize("age", [0, DAY, KEEP_SECONDS])
def test_an_id_is_known_to_the_last_second_of_35_days_from_receipt(
    tmp_path: Path, age: int
) -> None:
    """An old event that is delivered now stays known for 35 days from now."""
    with Exporter(tmp_path) as exporter:
        call = {"id": "a", **({"at": NOON - age} if age else {})}
        assert accepted(exporter, **call) == 1
        exporter.clock.advance(KEEP_SECONDS)
        assert accepted(exporter) == 1  # a commit that drops what has expired
        answer = exporter.book(event(**call))
        assert answer["accepted"] == 0
        assert answer["duplicate"] == (1 if age == 0 else 0)  # else: too old by now


def test_an_id_from_the_future_is_known_until_its_own_time_and_35_days(tmp_path: Path) -> None:
    """A scraper's clock is 100 days ahead; its retry must not count again once we get there."""
    ahead = NOON + 100 * DAY
    with Exporter(tmp_path) as exporter:
        assert accepted(exporter, id="a", at=ahead) == 1
        for _ in range(5):
            exporter.clock.advance(27 * DAY)
            assert accepted(exporter) == 1
            assert exporter.book(event(id="a", at=ahead))["duplicate"] == 1
        exporter.clock.advance(DAY)
        assert exporter.book(event(id="a", at=ahead))["rejected"]


def test_weeks_of_ids_are_dropped_whole_once_the_last_has_expired(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        for _ in range(20):
            exporter.clock.advance(3 * DAY)
            assert accepted(exporter, id=f"id-{exporter.clock.now()}") == 1
            assert len(id_tables(exporter)) <= 6
        exporter.clock.advance(KEEP_SECONDS + WEEK_SECONDS)
        assert accepted(exporter) == 1
        assert id_tables(exporter) == []


@given(
    times=st.lists(
        st.integers(0, 250_000_000_000),
        min_size=1,
        max_size=300,  # up to the year 9999
    ),
)
def test_ids_from_any_clocks_share_few_tables_and_none_is_dropped_early(times: list[int]) -> None:
    db = schema.connect(Path(":memory:"))
    tables = IdTables(db)
    now = NOON
    for number, claimed in enumerate(times):
        tables.add(number.to_bytes(16), b"", max(claimed, now), now)
    assert len(tables._weeks) <= 70
    last = sorted(times)[len(times) // 2]
    tables.drop_expired(max(last, now) + KEEP_SECONDS)
    for number, claimed in enumerate(times):
        if claimed >= max(last, now):
            assert tables.find(number.to_bytes(16)) == b""


def test_an_ids_scope_is_provider_and_id(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        assert accepted(exporter, id="a") == 1
        assert accepted(exporter, id="a", provider="openai") == 1
        assert accepted(exporter, id="openai\0a") == 1
        assert accepted(exporter, id="a#notes", field="notes") == 1
        assert accepted(exporter, id="a#tags", field="tags") == 1
        assert exporter.book(event(id="a#tags", field="tags"))["duplicate"] == 1
        assert exporter.status()["requests"] == 5


@pytest.mark.parametrize("nothing", ["", None])
def test_no_id_means_each_counts(tmp_path: Path, nothing: str | None) -> None:
    with Exporter(tmp_path) as exporter:
        assert exporter.book(event(id=nothing), event(id=nothing))["accepted"] == 2
        assert id_tables(exporter) == []


@pytest.mark.parametrize(
    "change",
    [
        {"roaster": "other-roaster"},
        {"outcome": "error"},
        {"estimated": True},
        {"batch_items": 1},
        {"time": iso8601(NOON - 1)},
        {"usage": {"prompt_tokens": 1000, "completion_tokens": 101}},
    ],
)
def test_each_different_content_under_one_id_is_a_conflict(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.book(event(id="a"))
        before = exporter.http.get("/api/v1/status").json()["spend_usd"]
        (refused,) = exporter.book(event(id="a") | change)["rejected"]
        assert refused["reason"].startswith("conflict")
        assert exporter.value("llm_ingest_conflicts_total", source="http") == 1
        rejected = {"source": "http", "reason": "conflict"}
        assert exporter.value("llm_ingest_rejected_total", **rejected) == 1
        assert exporter.http.get("/api/v1/status").json()["spend_usd"] == before


def test_a_conflict_inside_one_request_refuses_the_later(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        answer = exporter.book(event(id="a"), event(2, id="a"), event(id="a"))
        assert answer["accepted"] == 1
        assert answer["duplicate"] == 1
        assert [item["index"] for item in answer["rejected"]] == [1]


def test_starting_does_not_read_the_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: only the names of their tables are asked for."""
    with Exporter(tmp_path) as exporter:
        exporter.book(*(event(id=str(number)) for number in range(100)))
    asked: list[str] = []
    original = schema.connect

    def traced(path: Path) -> Any:
        db = original(path)
        db.set_trace_callback(asked.append)
        return db

    monkeypatch.setattr(schema, "connect", traced)
    with Exporter(tmp_path):
        assert asked
        assert not [query for query in asked if "event_ids" in query and "GLOB" not in query]
