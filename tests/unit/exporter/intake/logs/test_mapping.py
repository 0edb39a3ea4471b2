"""Fitting the log of somebody else's program: key map, words, defaults, filter, zone."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from common.errors import UserError
from exporter.config import Log, load_config
from exporter.event import EventError, UsageEvent
from exporter.intake.logs.mapping import find, read_line
from tests.support.exporters import NOON, write_config

STRUCTLOG = {
    "event": "deepseek_call_success",
    "field": "notes",
    "roaster_id": "blue-tokai",
    "usage": {"prompt_tokens": 812, "completion_tokens": 143, "prompt_cache_hit_tokens": 512},
    "timestamp": "2027-01-15T10:00:00.250000Z",
    "level": "info",
    "count": 37,  # means something else here, and is not mapped
    "id": "worker-1",
}
RULE: dict[str, Any] = {
    "path": "llm.log",
    "keys": {
        "roaster": "roaster_id",
        "field": "field",
        "usage": "usage",
        "time": "timestamp",
        "outcome": "event",
    },
    "values": {"outcome": {"deepseek_call_success": "success", "cache_hit": "cached"}},
    "defaults": {"model": "deepseek-chat"},
    "only": {"event": ["deepseek_call_success", "cache_hit"]},
}


def read(line: dict[str, Any], **change: Any) -> UsageEvent | None:
    rule = msgspec.convert({**RULE, **change}, Log)
    return read_line(json.dumps(line).encode(), rule, NOON)


def test_the_service_tier_is_mapped() -> None:
    keys = {**RULE["keys"], "service_tier": "tier"}
    event = read({**STRUCTLOG, "tier": "Flex"}, keys=keys)
    assert event is not None
    assert event.product == "deepseek-chat:flex"


def test_a_structlog_line_becomes_a_usage_event() -> None:
    event = read(STRUCTLOG)
    assert event is not None
    assert (event.roaster, event.field, event.model) == ("blue-tokai", "notes", "deepseek-chat")
    assert (event.input_tokens, event.cached_input_tokens, event.output_tokens) == (300, 512, 143)
    assert (event.outcome, event.count, event.digest) == ("success", 1, None)
    assert event.time == NOON - 7199.75


def test_words_are_translated_and_other_lines_are_left_out() -> None:
    cached = read({**STRUCTLOG, "event": "cache_hit", "usage": None})
    assert cached is not None
    assert cached.outcome == "cached"
    assert read({**STRUCTLOG, "event": "page_fetched"}) is None
    assert read({"message": "hello"}) is None
    assert read_line(b"  \r\n", None, NOON) is None


def test_a_filter_compares_as_json_does() -> None:
    only = {"llm.done": True}
    assert read({**STRUCTLOG, "llm": {"done": True}}, only=only)
    assert read({**STRUCTLOG, "llm": {"done": 1}}, only=only) is None
    assert read(STRUCTLOG, only={"missing": None})


def test_flat_keys_are_gathered_into_usage() -> None:
    keys = {
        "usage.prompt_tokens": "gen_ai.usage.input_tokens",
        "usage.completion_tokens": "response.tokens.out",
        "id": "response.id",
    }
    line = {"gen_ai.usage.input_tokens": 10, "response": {"id": "x", "tokens": {"out": 3}}}
    event = read(line, keys=keys, only={}, values={}, defaults={"outcome": "success"})
    assert event is not None
    assert (event.input_tokens, event.output_tokens) == (10, 3)
    assert event.digest is not None


@pytest.mark.parametrize(
    ("time", "zone", "expected"),
    [
        ("2027-01-15T15:30:00", "Asia/Kolkata", NOON - 7200),
        ("2027-01-15 15:30:00", "Asia/Kolkata", NOON - 7200),
        ("2027-01-15T10:00:00+00:00", "Asia/Kolkata", NOON - 7200),
        (NOON - 0.5, None, NOON - 0.5),
        (int(NOON), None, NOON),
    ],
)
def test_times(time: Any, zone: str | None, expected: float) -> None:
    event = read({**STRUCTLOG, "timestamp": time}, timezone=zone)
    assert event is not None
    assert event.time == expected


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"timestamp": "2027-01-15T10:00:00"}, "time"),  # naive, and the log names no zone
        ({"timestamp": 1e300}, "time"),
        ({"timestamp": "noon"}, "time"),
        ({"timestamp": True}, "schema"),
        ({"usage": None}, "usage"),
        ({"usage": [1]}, "schema"),
        ({"roaster_id": 7}, "schema"),
    ],
)
def test_what_does_not_fit_is_refused_by_reason(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(EventError) as refusal:
        read({**STRUCTLOG, **change})
    assert refusal.value.reason == reason


@pytest.mark.parametrize("line", [b"{", b"[" * 10_000, b'{"a": "\xff"}', b"nul"])
def test_what_is_no_json_is_malformed(line: bytes) -> None:
    with pytest.raises(EventError) as refusal:
        read_line(line, None, NOON)
    assert refusal.value.reason == "malformed"


def test_a_key_with_dots_comes_before_a_path() -> None:
    assert find({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert find({"a": {"b.c": 3}}, "a.b.c") == 3
    assert find({"a": [1]}, "a.b") is None
    assert find({"a": 1}, "a.") is None


def test_paths_in_the_config_are_relative_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etc").mkdir()
    path = write_config(tmp_path / "etc", "log: [{path: 'logs/*.jsonl'}, {path: /var/log/x}]")
    monkeypatch.chdir(tmp_path)
    for given in (path, path.relative_to(tmp_path)):
        logs = load_config(given).log
        assert [log.path for log in logs] == [f"{tmp_path}/etc/logs/*.jsonl", "/var/log/x"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("log: [{}]", "path"),
        ("log: [{path: ''}]", "log[0].path"),
        ("log: [{path: x, keys: {rooster: a}}]", "rooster"),
        ("log: [{path: x, keys: {roaster: 7}}]", "keys"),
        ("log: [{path: x, only: {event: {a: b}}}]", "only"),
        ("log: [{path: x, values: {outcome: [a]}}]", "values"),
        ("log: [{path: x, defaults: {model: [a]}}]", "defaults"),
        ("log: [{path: x, start: middle}]", "middle"),
        ("log: [{path: x, timezone: Mars/Base}]", "Mars/Base"),
        ("log: [{path: x, surprise: 1}]", "surprise"),
        ("log: {path: x}", "log"),
    ],
)
def test_a_wrong_log_is_named_by_its_key(tmp_path: Path, config: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        load_config(write_config(tmp_path, config))
    assert words in str(error.value)
    assert "budget.yml" in str(error.value)


@pytest.mark.parametrize(
    ("usage", "keys"),
    [
        ({"total_tokens": 955}, {}),
        ({"totalTokens": 955, "cost": 0.1}, {}),
        ({"used": 955}, {"usage": "nothing", "usage.total_tokens": "usage.used"}),
    ],
)
def test_a_total_alone_is_refused_or_split_as_the_map_says(
    usage: dict[str, Any], keys: dict[str, str]
) -> None:
    line, keys = {**STRUCTLOG, "usage": usage}, {**RULE["keys"], **keys}
    with pytest.raises(EventError, match=r"no countable prompt; found .* 955"):
        read(line, keys=keys)
    event = read(line, keys=keys, split={"input": 0.8})
    assert event is not None
    assert (event.input_tokens, event.output_tokens, event.estimated) == (764, 191, True)
    whole = read(STRUCTLOG, split={"input": 0.8})
    assert whole is not None
    assert (whole.tokens, whole.estimated) == (955, False)


@pytest.mark.parametrize("total", [-1, 1.5, "955", 0, True, None])
def test_a_total_that_is_no_number_is_refused_for_all_the_split(total: Any) -> None:
    with pytest.raises(EventError):
        read({**STRUCTLOG, "usage": {"total_tokens": total}}, split={"input": 0.8})


def test_cache_writes_have_a_key() -> None:
    keys = {"outcome": "event", "usage.prompt_tokens": "in", "usage.cache_write_tokens": "written"}
    event = read({"event": "deepseek_call_success", "in": 9, "written": 4}, keys=keys)
    assert event is not None
    assert (event.input_tokens, event.extras) == (9, (("cache_write", 4),))
