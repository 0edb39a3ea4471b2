"""Label values at their caps, and what is booked under them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.exporters import NOON, Exporter, event


def by_roaster(exporter: Exporter) -> dict[str, str]:
    return dict(exporter.status()["by_roaster"])


def test_other_and_unknown_said_literally_take_no_room(tmp_path: Path) -> None:
    with Exporter(tmp_path, "limits: {roasters: 1}") as exporter:
        exporter.book(event(roaster="other"), event(roaster="unknown"), event(roaster=None))
        exporter.book(event(roaster="r1"), event(roaster="r2"))
        assert by_roaster(exporter) == {"other": "0.00076", "unknown": "0.00076", "r1": "0.00038"}
        assert exporter.value("llm_label_overflow_total", label="roaster") == 1


def test_a_name_with_a_budget_cap_takes_no_room_and_is_never_other(tmp_path: Path) -> None:
    capped = "budget: {roasters: {late: 5}, fields: {rare: 5}}\n"
    with Exporter(tmp_path, capped + "limits: {roasters: 2, fields: 1}") as exporter:
        exporter.book(*(event(roaster=f"r{number}") for number in range(3)))
        exporter.book(event(roaster="late", field="rare"), event(roaster="later", field="rarer"))
        exporter.book(event(roaster="late"))
        assert set(by_roaster(exporter)) == {"r0", "r1", "other", "late"}
        assert set(exporter.status()["by_field"]) == {"notes", "rare", "other"}
    with Exporter(tmp_path, "limits: {roasters: 3, fields: 2}") as exporter:
        exporter.book(event(roaster="late"), event(roaster="r4"))  # its cap is gone, it stays
        assert set(by_roaster(exporter)) == {"r0", "r1", "other", "late"}


def test_a_lowered_cap_keeps_what_is_known_and_sums_exactly(tmp_path: Path) -> None:
    with Exporter(tmp_path, "limits: {roasters: 3}") as exporter:
        exporter.book(*(event(roaster=f"r{number}") for number in range(3)))
    with Exporter(tmp_path, "limits: {roasters: 1}") as exporter:
        exporter.book(*(event(roaster=f"r{number}") for number in range(5)))
        assert by_roaster(exporter) == {
            "r0": "0.00076",
            "r1": "0.00076",
            "r2": "0.00076",
            "other": "0.00076",
        }
        assert exporter.status()["spend_usd"] == "0.00304"
        assert exporter.value("llm_label_overflow_total", label="roaster") == 2


def test_a_refused_request_takes_no_room(tmp_path: Path) -> None:
    with Exporter(tmp_path, "limits: {roasters: 1}") as exporter:
        exporter.book(event(roaster="r1", time="2020-01-01T00:00:00Z"))  # too old
        exporter.book(event(roaster="r2"))
        assert set(by_roaster(exporter)) == {"r2"}


@pytest.mark.parametrize(
    "name",
    [
        "caf\u00e9 \u2615",
        "blue\u00a0tokai",  # a no-break space is no control character
        "\u0915\u094d\u200d\u0937",  # Devanagari with a zero-width joiner
        "\u3000",
        'back\\slash "quoted" {x="y"} # 1',
        "x" * 120,
    ],
)
def test_any_name_is_published_as_it_was_said(tmp_path: Path, name: str) -> None:
    with Exporter(tmp_path) as exporter:
        assert exporter.book(event(roaster=name))["accepted"] == 1
        labels = {"roaster": name, "field": "notes", "model": "deepseek-chat"}
        assert exporter.value("llm_cost_usd_total", **labels) == 0.00038


@pytest.mark.parametrize("name", ["a\nb", "a\x00", "\x7f", "\x9b31m", "a\u2028b", "x" * 121])
def test_controls_and_long_names_are_refused(tmp_path: Path, name: str) -> None:
    with Exporter(tmp_path) as exporter:
        for key in ("roaster", "field", "model", "provider"):
            (refused,) = exporter.book(event(**{key: name}))["rejected"]
            assert f"$.{key}" in refused["reason"]


@pytest.mark.parametrize("text", [b'"\\ud800"', b'"\\udfff x"', b'"\xff"', b'"\xed\xa0\x80"'])
def test_text_that_is_no_unicode_is_refused_alone(tmp_path: Path, text: bytes) -> None:
    body = json.dumps(event(id="ID", roaster="NAME")).encode()
    with Exporter(tmp_path) as exporter:
        for key in (b'"ID"', b'"NAME"'):
            assert exporter.post(body.replace(key, text)).status_code == 400
            lines = body + b"\n" + body.replace(key, text)
            answer = exporter.post(lines, "application/x-ndjson").json()
            assert [item["index"] for item in answer["rejected"]] == [1]
        assert exporter.status()["requests"] == 1


@pytest.mark.parametrize(
    ("absurd", "why"),
    [
        (event(10**12, 0, count=100_000), "limits.event_tokens is 10000000000"),
        (event(2_000_000, 0, model="gold"), "limits.call_usd is 1000"),
        (event(4_000_000, 0, model="gold", count=2), "2000 USD a call"),
        (event(count=51), "limits.event_calls is 50"),
    ],
)
def test_an_event_beyond_what_a_call_can_be_is_refused_alone(
    tmp_path: Path, absurd: dict[str, Any], why: str
) -> None:
    gold = "prices: {gold: {input_usd_per_1k: 1, output_usd_per_1k: 1}}"
    limits = "limits: {event_calls: 50}" if "event_calls" in why else ""
    with Exporter(tmp_path, f"{gold}\n{limits}") as exporter:
        for _ in range(2):  # its id is not remembered
            answer = exporter.book(absurd | {"id": "a"}, event(1_000_000, 0, model="gold"))
            assert answer["accepted"] == 1
            [refusal] = answer["rejected"]
            assert refusal["reason"].startswith("implausible: ")
            assert why in refusal["reason"]
        assert exporter.spend() == 2000


def test_a_sum_of_as_many_calls_as_the_client_makes_passes_the_bounds(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        assert exporter.book(event(9 * 10**9, 10**9, count=100_000))["accepted"] == 1


def live(exporter: Exporter, roaster: str) -> float | None:
    labels = {"roaster": roaster, "field": "notes", "model": "deepseek-chat"}
    return exporter.value("llm_calls_live_total", **labels)


def test_paid_calls_of_now_are_counted_once_and_those_told_late_are_not(tmp_path: Path) -> None:
    with Exporter(tmp_path, "limits: {roasters: 1}") as exporter:
        known = event(id="a", roaster="r", at=NOON - 60)
        exporter.book(known, event(roaster="r", outcome="error", count=5))
        exporter.book(known, event(id="b", roaster="r", at=NOON - 61))
        exporter.book(
            *(event(roaster="r", outcome=o) for o in ("cached", "fallback", "rate_limited"))
        )
        exporter.book(event(-1, roaster="r"), event(roaster="beyond-the-cap"))
        assert (live(exporter, "r"), live(exporter, "other")) == (6, 1)
    with Exporter(tmp_path, "limits: {roasters: 1}") as exporter:  # from 0 again, and there
        assert (live(exporter, "r"), live(exporter, "other")) == (0, 0)


def test_what_a_failed_write_did_not_book_is_no_call(tmp_path: Path) -> None:
    """An account beyond 64 bits makes the whole batch fail first, and is then booked by halves."""
    gold = "{gold: {input_usd_per_1k: 10, output_usd_per_1k: 10}}"
    with Exporter(tmp_path, f"limits: {{call_usd: 1000000}}\nprices: {gold}\n") as exporter:
        full = [event(10_000_000, 10_000_000, model="gold")] * 47
        answer = exporter.book(event(roaster="r"), *full, event(roaster="r"))
        assert [refused["index"] for refused in answer["rejected"]] == [47]
        assert live(exporter, "r") == 2
