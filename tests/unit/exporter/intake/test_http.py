"""POST /v1/usage: what is booked, what is refused, and that nothing is lost in between."""

import gzip
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.support.exporters import INGEST, NOON, Exporter, event


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    with Exporter(tmp_path) as running:
        yield running


def test_a_call_costs_what_the_list_says_cached_input_included(exporter: Exporter) -> None:
    """1,000 prompt tokens, 400 of them cached, 100 completion tokens, by hand:

    600 x $0.27 + 400 x $0.07 + 100 x $1.10 per million = $0.000162 + $0.000028 + $0.000110.
    """
    exporter.book(event(1000, 100, cached=400))
    assert exporter.spend() == Decimal("0.0003")


def test_a_mixed_day_of_the_runbooks_era_worked_by_hand(exporter: Exporter) -> None:
    """Per million: input $0.27, cached $0.07, output $1.10."""
    exporter.book(event(2_000_000, 0), event(1_000_000, 0, cached=1_000_000))
    exporter.book(event(1_000_000, 3_000_000))
    assert exporter.spend() == Decimal("4.18")  # 0.54 + 0.07 + 0.27 + 3.30
    for _ in range(1000):
        exporter.book(event(1, 0))
    assert exporter.spend() == Decimal("4.18027")


def test_cached_tokens_in_openais_words_cost_the_same(exporter: Exporter) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    exporter.book(event() | {"usage": usage | {"prompt_tokens_details": {"cached_tokens": 400}}})
    assert exporter.spend() == Decimal("0.0003")


def test_an_id_counts_once_however_often_it_comes(exporter: Exporter) -> None:
    call = event(id="chatcmpl-1")
    assert exporter.book(call) == {"accepted": 1, "duplicate": 0, "rejected": []}
    assert exporter.book(call, call)["duplicate"] == 2
    assert exporter.book(dict(reversed(call.items())))["duplicate"] == 1  # order of keys is nothing
    assert exporter.status()["requests"] == 1


def test_the_same_id_with_other_content_is_a_conflict(exporter: Exporter) -> None:
    exporter.book(event(id="a"))
    answer = exporter.book(event(2000, id="a"))
    assert answer["accepted"] == answer["duplicate"] == 0
    assert answer["rejected"][0]["reason"].startswith("conflict: ")
    assert exporter.value("llm_ingest_conflicts_total", source="http") == 1
    assert exporter.status()["requests"] == 1


def test_an_ids_scope_is_its_provider_and_an_empty_id_is_none(exporter: Exporter) -> None:
    other = event(2000, id="a", provider="openai")
    assert exporter.book(event(id="a"), other)["accepted"] == 2
    assert exporter.book(event(id=""), event(id=""))["accepted"] == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"usage": {"prompt_tokens": -1}}, "$.usage.prompt_tokens"),
        ({"usage": {"prompt_tokens": 1.5}}, "$.usage.prompt_tokens"),
        ({"usage": {"prompt_tokens": 10_000_001}}, "$.usage.prompt_tokens"),
        ({"usage": {"prompt_tokens": 1, "prompt_cache_hit_tokens": 2}}, "prompt_cache_hit_tokens"),
        ({"usage": None}, "$.usage"),
        ({"outcome": "maybe"}, "$.outcome"),
        ({"roaster": "x" * 121}, "$.roaster"),
        ({"field": "a\nb"}, "$.field"),
        ({"model": 7}, "$.model"),
        ({"time": "2027-01-15T12:00:00"}, "needs a zone"),
        ({"time": "noon"}, "$.time"),
        ({"time": "2026-11-01T00:00:00Z"}, "too_old"),
        ({"id": "x" * 513}, "$.id"),
    ],
)
def test_a_bad_event_is_refused_by_key_and_the_rest_is_kept(
    exporter: Exporter, change: dict[str, Any], reason: str
) -> None:
    answer = exporter.book(event(), event() | change, event())
    assert answer["accepted"] == 2
    (rejected,) = answer["rejected"]
    assert rejected["index"] == 1
    assert reason in rejected["reason"]


def test_an_event_may_sum_up_several_calls(exporter: Exporter) -> None:
    exporter.book(event(30_000_000, 0, count=3), event())
    labels = {"roaster": "blue-tokai", "field": "notes", "model": "deepseek-chat"}
    assert exporter.value("llm_requests_total", outcome="success", **labels) == 4
    assert exporter.value("llm_ingest_accepted_total", source="http") == 2
    too_many = [event(30_000_001, 0, count=3), event(count=0), event(count=100_001)]
    answer = exporter.book(*too_many, event(count=1.5), event(batch_items=10_000_001))
    assert answer["accepted"] == 0
    assert all("schema: " in item["reason"] for item in answer["rejected"])


def test_a_key_added_later_changes_no_content(exporter: Exporter) -> None:
    assert exporter.book(event(id="a"))["accepted"] == 1
    assert exporter.book(event(id="a", count=1, estimated=False))["duplicate"] == 1


def test_labels_that_are_missing_are_unknown_and_other_keys_are_ignored(exporter: Exporter) -> None:
    exporter.book({"outcome": "cached", "colour": "blue"})
    labels = {"roaster": "unknown", "field": "unknown", "model": "unknown", "outcome": "cached"}
    assert exporter.value("llm_requests_total", **labels) == 1


LINES = b"\n".join(json.dumps(event()).encode() for _ in range(2))
BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("body", [LINES, BOM + LINES, LINES + b"\r\n\r\n"])
@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-ndjson; charset=utf-8",
        "Application/NDJSON",
        "application/jsonl",
        "application/x-jsonlines",
    ],
)
def test_json_lines_are_booked_under_each_name_of_theirs(
    exporter: Exporter, content_type: str, body: bytes
) -> None:
    assert exporter.post(body, content_type).json()["accepted"] == 2


@pytest.mark.parametrize(
    ("content_type", "words"),
    [
        ("application/json", "the Content-Type of JSON lines is application/x-ndjson"),
        ("text/plain", "must be application/json or application/x-ndjson"),
        ("application/json-seq", "must be application/json or application/x-ndjson"),
    ],
)
def test_json_lines_under_another_name_are_told_theirs(
    exporter: Exporter, content_type: str, words: str
) -> None:
    answer = exporter.post(LINES, content_type)
    assert answer.status_code in (400, 415)
    assert words in answer.json()["error"]
    assert exporter.status()["requests"] == 0


def test_a_byte_order_mark_is_no_part_of_the_json_and_compression_is_told_off(
    exporter: Exporter,
) -> None:
    array = json.dumps([event(), event()]).encode()
    assert exporter.post(BOM + array).json()["accepted"] == 2
    answer = exporter.post(gzip.compress(array), **{"Content-Encoding": "gzip"})
    assert answer.status_code == 415
    assert "without Content-Encoding" in answer.json()["error"]


def test_ndjson_refuses_its_bad_lines_alone(exporter: Exporter) -> None:
    lines = [json.dumps(event()), "{half", "", json.dumps(event()), "null"]
    answer = exporter.post("\n".join(lines).encode(), "application/x-ndjson").json()
    assert answer["accepted"] == 2
    assert [item["index"] for item in answer["rejected"]] == [1, 3]


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"7", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"id": "\xff"}', "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"{}", "application/x-www-form-urlencoded", 415),
        (b" " * (9 << 20), "application/json", 413),
        (json.dumps([{}] * 10_001).encode(), "application/json", 413),
    ],
)
def test_a_request_that_cannot_be_read_books_nothing(
    exporter: Exporter, body: bytes, content_type: str, status: int
) -> None:
    answer = exporter.post(body, content_type)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert exporter.status()["requests"] == 0


def test_the_token_and_the_host_are_asked_for(tmp_path: Path) -> None:
    with Exporter(tmp_path, tokens=True) as exporter:
        assert exporter.post(event()).status_code == 401
        good = {"Authorization": f"Bearer {INGEST}"}
        assert exporter.post(event(), **good).status_code == 200
        assert exporter.post(event(), Host="evil.example", **good).status_code == 403


def test_an_event_from_the_future_is_booked_now_and_counted(exporter: Exporter) -> None:
    exporter.book(event(at=NOON + 86_400))
    assert exporter.spend() == Decimal("0.00038")
    assert exporter.value("llm_time_adjusted_total") == 1


def test_a_late_event_goes_to_its_own_day(exporter: Exporter) -> None:
    exporter.book(event(at=NOON - 86_400))
    assert exporter.spend() == 0
    labels = {"roaster": "blue-tokai", "field": "notes", "model": "deepseek-chat"}
    assert exporter.value("llm_cost_usd_total", **labels) == 0.00038
    assert exporter.value("llm_cost_usd_at_day_start", **labels) == 0.00038
    assert exporter.value("llm_late_cost_usd_total") == 0.00038


def test_the_clock_turns_the_day_not_an_event(exporter: Exporter) -> None:
    exporter.book(event())
    exporter.clock.advance(43_199)
    assert exporter.spend() == Decimal("0.00038")
    exporter.clock.advance(1)
    assert exporter.spend() == 0
    assert exporter.status()["day"]["date"] == "2027-01-16"


def test_an_unknown_model_counts_its_tokens_and_withholds_the_cost(exporter: Exporter) -> None:
    exporter.book(event(1000, 100, model="gpt-unheard-of"))
    assert exporter.spend() == 0
    assert exporter.value("llm_unpriced_tokens_total", model="gpt-unheard-of") == 1100
    assert exporter.status()["unpriced_tokens"] == 1100


def test_labels_beyond_the_cap_go_to_other_and_still_sum_exactly(tmp_path: Path) -> None:
    with Exporter(tmp_path, "limits: {roasters: 2}") as exporter:
        exporter.book(*(event(roaster=f"r{i}") for i in range(5)))
        assert exporter.spend() == 5 * Decimal("0.00038")
        assert set(exporter.status()["by_roaster"]) == {"r0", "r1", "other"}
        assert exporter.value("llm_label_overflow_total", label="roaster") == 3
        exporter.book(event(roaster="r0"))
        assert Decimal(exporter.status()["by_roaster"]["r0"]) == 2 * Decimal("0.00038")


def books(exporter: Exporter) -> list[str]:
    """What the page shows of the ledger: all before the intake, but what counts since the start."""
    lines = exporter.http.get("/metrics").text.split("# HELP llm_ingest")[0].splitlines()
    return [line for line in lines if not line.startswith("llm_calls_live_total")]


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.book(event(id="a"), event(id="b"))
        before = books(exporter)
    with Exporter(tmp_path) as exporter:
        assert exporter.book(event(id="a"))["duplicate"] == 1
        assert books(exporter) == before
