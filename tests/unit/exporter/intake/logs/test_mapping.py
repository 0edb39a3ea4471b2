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
        ({"roaster_id": 7.5}, "schema"),
        ({"roaster_id": [7]}, "schema"),
        ({"event": "cache_hit", "roaster_id": "caf\ud83d"}, "label"),
        ({"usage": {"prompt_tokens": 100.5}}, "usage"),
        ({"usage": {"prompt_tokens": float("nan")}}, "usage"),
        ({"usage": {"prompt_tokens": "many"}}, "usage"),
        ({"usage": {"prompt_tokens": True}}, "usage"),
        ({"usage": {"completion_tokens": 1, "\ud83d_tokens": 1}}, "usage"),
    ],
)
def test_what_does_not_fit_is_refused_by_reason(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(EventError) as refusal:
        read({**STRUCTLOG, **change})
    assert refusal.value.reason == reason
    assert str(refusal.value).encode(), "it can be shown"


@pytest.mark.parametrize("line", [b"{", b"[" * 10_000, b"nul", b"{'a': 1}", b'{"a": 1}}'])
def test_what_is_no_json_is_malformed(line: bytes) -> None:
    with pytest.raises(EventError) as refusal:
        read_line(line, None, NOON)
    assert refusal.value.reason == "malformed"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named_and_a_byte_order_mark_is_no_part_of_the_line(encoding: str) -> None:
    for line in '{"outcome": "cached"}\n{"outcome": "cached"}'.encode(encoding).split(b"\n"):
        with pytest.raises(EventError, match="UTF-16; the log must be written as UTF-8"):
            read_line(line, msgspec.convert({"path": "x", "other_lines": "ignore"}, Log), NOON)
    assert read_line(b'\xef\xbb\xbf{"outcome": "cached"}', None, NOON)


@pytest.mark.parametrize(
    "line",
    [
        b"Traceback (most recent call last):",
        b"[2027-01-15 12:00:00] INFO started",
        b"{'a': 'python'}",
        b"12",
        b"null",
        b'"text"',
        b"[]",
    ],
)
def test_other_lines_of_a_mixed_log_are_refused_or_ignored(line: bytes) -> None:
    ignoring = msgspec.convert({**RULE, "other_lines": "ignore"}, Log)
    with pytest.raises(EventError) as refusal:
        read_line(line, ignoring, NOON)
    assert refusal.value.reason == "not_json"
    with pytest.raises(EventError) as refusal:
        read_line(line, msgspec.convert(RULE, Log), NOON)
    assert refusal.value.reason in ("malformed", "schema")


def test_the_torn_line_of_a_call_is_not_ignored() -> None:
    ignoring = msgspec.convert({**RULE, "other_lines": "ignore"}, Log)
    with pytest.raises(EventError) as refusal:
        read_line(json.dumps(STRUCTLOG).encode()[:90], ignoring, NOON)
    assert refusal.value.reason == "malformed"


@pytest.mark.parametrize(("status", "key"), [(200, 200), (200, "200"), ("200", 200), (200.0, 200)])
@pytest.mark.parametrize("roaster", [17, 17.0, "17"])
def test_integers_and_booleans_where_text_is_wanted(status: Any, key: Any, roaster: Any) -> None:
    values: dict[str, Any] = {"outcome": {key: "success", True: "success", 429: "rate_limited"}}
    for outcome in (status, True, "true"):
        event = read({**STRUCTLOG, "event": outcome, "roaster_id": roaster}, values=values, only={})
        assert event is not None
        assert (event.outcome, event.roaster) == ("success", "17")


@pytest.mark.parametrize("identity", [2**53 + 1, 10**30])
def test_large_numbers_as_ids_stay_apart(identity: int) -> None:
    change: dict[str, Any] = {"keys": {**RULE["keys"], "id": "request"}}
    one, other = (read({**STRUCTLOG, "request": identity + i}, **change) for i in (0, 1))
    assert one is not None
    assert other is not None
    assert one.digest != other.digest


@pytest.mark.parametrize(("prompt", "completion"), [("100", "10"), (100.0, 10.0), ("100.0", 10)])
def test_token_counts_as_text_and_as_whole_floats(prompt: Any, completion: Any) -> None:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    details = {"prompt_tokens_details": {"cached_tokens": "40"}}
    event = read({**STRUCTLOG, "usage": {**usage, **details}})
    assert event is not None
    assert (event.input_tokens, event.cached_input_tokens, event.output_tokens) == (60, 40, 10)


def test_flags_and_durations_as_text() -> None:
    keys = {"outcome": "event", "estimated": "guess", "duration_seconds": "took"}
    event = read({**STRUCTLOG, "event": "cache_hit", "guess": "True", "took": "0.25"}, keys=keys)
    assert event is not None
    assert (event.estimated, event.duration_seconds) == (True, 0.25)


def test_a_path_leads_into_json_text() -> None:
    call = {"choices": [], "usage": STRUCTLOG["usage"]}
    keys = {**RULE["keys"], "usage": "msg.body.usage"}
    for message in ({"body": json.dumps(call)}, json.dumps({"body": json.dumps(call)})):
        event = read({**STRUCTLOG, "msg": message}, keys=keys)
        assert event is not None
        assert event.prompt_tokens == 812
    event = read({**STRUCTLOG, "usage": json.dumps(STRUCTLOG["usage"])})
    assert event is not None
    assert event.prompt_tokens == 812
    assert find({"a": "{no json"}, "a.b") is find({"a": "text"}, "a.b") is None


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
        ("log: [{path: x, format: syslog}]", "log[0].format"),
        ("log: [{path: x, other_lines: skip}]", "log[0].other_lines"),
        ("log: [{path: x, values: {outcome: {null: error}}}]", "values"),
        ("log: [{path: x, values: {outcome: {200: success, '200': error}}}]", "a word twice"),
        ("log: [{path: x, values: {outcome: {1.5: error}}}]", "values"),
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


@pytest.mark.parametrize("total", [-1, 1.5, "many", 0, True, None])
def test_a_total_that_is_no_number_is_refused_for_all_the_split(total: Any) -> None:
    with pytest.raises(EventError):
        read({**STRUCTLOG, "usage": {"total_tokens": total}}, split={"input": 0.8})


def test_cache_writes_have_a_key() -> None:
    keys = {"outcome": "event", "usage.prompt_tokens": "in", "usage.cache_write_tokens": "written"}
    event = read({"event": "deepseek_call_success", "in": 9, "written": 4}, keys=keys)
    assert event is not None
    assert (event.input_tokens, event.extras) == (9, (("cache_write", 4),))


def test_a_line_without_a_time_is_not_live_because_it_may_have_waited() -> None:
    now = {**STRUCTLOG, "timestamp": "2027-01-15T12:00:00Z"}
    timeless = {key: value for key, value in now.items() if key != "timestamp"}
    found = [read(line) for line in (now, timeless, {**now, "timestamp": None})]
    assert [event and event.live for event in found] == [True, False, False]
    event = {"outcome": "error", "field": "notes"}
    for line, live in ((event, False), ({**event, "time": now["timestamp"]}, True)):
        read_as_it_is = read_line(json.dumps(line).encode(), None, NOON)
        assert read_as_it_is is not None
        assert read_as_it_is.live is live
