"""sdk/client.py: what it records, and how it reads the effective config."""

import enum
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from alertmanager.receiver.ladder.effective import config_for, effective
from common.clock import iso8601
from common.yamlfile import dump
from exporter.event import EventError, parse_event
from sdk import client as module
from sdk.client import Client
from tests.support.ladders import shipped_baseline, shipped_ladder
from tests.support.spools import Reader, answer
from tests.support.waiting import until

FIELDS = tuple(shipped_baseline()["field_configs"])


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    client = Client(tmp_path / "spool")
    yield client
    client.close()


def events(tmp_path: Path) -> list[dict[str, Any]]:
    reader = Reader(tmp_path / "spool").read(retire=False)
    assert not reader.bad_lines
    for event in reader.events.values():
        parse_event(event, time.time() + 1)  # the exporter takes it
    return list(reader.events.values())


# --- recording ---


def test_a_response_becomes_one_line_with_its_id_model_and_usage(
    client: Client, tmp_path: Path
) -> None:
    assert client.record("blue-tokai", "notes", answer(id="chatcmpl-1"), at=1_800_000_000.5)
    assert events(tmp_path) == [
        {
            "id": "chatcmpl-1",
            "time": "2027-01-15T08:00:00.500Z",
            "outcome": "success",
            "roaster": "blue-tokai",
            "field": "notes",
            "model": "deepseek-chat",
            "usage": {
                "prompt_tokens": 812,
                "prompt_cache_hit_tokens": 512,
                "completion_tokens": 143,
            },
        }
    ]


async def asked() -> dict[str, Any]:
    return answer()


@pytest.mark.parametrize(
    ("response", "instead"),
    [
        (lambda: (chunk for chunk in "ab"), "the response is a generator, not an answer: record"),
        (lambda: type("AsyncStream", (), {"__anext__": 0})(), "a AsyncStream, not an answer"),
        (lambda: type("StreamManager", (), {"__enter__": 0})(), "or let wrap()"),
        (lambda: type("AsyncManager", (), {"__aenter__": 0})(), "or let wrap()"),
        (lambda: type("RawResponse", (), {"http_request": 0})(), "record its parse()"),
        (lambda: type("Response", (), {"iter_lines": 0})(), "record its json()"),
        (lambda: [answer()], "a list, not an answer: record the answer itself"),
        (lambda: "250 g", "a str, not an answer: record the answer itself"),
    ],
)
def test_what_has_no_usage_yet_is_lost_with_a_sentence(
    client: Client,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    response: Callable[[], Any],
    instead: str,
) -> None:
    module._next_warning.clear()
    assert not client.record("r", "f", response())
    assert client.lost() == 1
    assert instead in caplog.text
    assert client.record("r", "f", response(), usage=answer()["usage"])  # the caller knows
    assert [event["usage"]["prompt_tokens"] for event in events(tmp_path)] == [812]


def test_a_coroutine_is_to_be_awaited(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    module._next_warning.clear()
    coroutine = asked()
    assert not client.record("r", "f", coroutine)
    coroutine.close()
    assert "the response is a coroutine, not an answer: await it first" in caplog.text


def test_own_ids_tell_apart_what_a_provider_calls_by_one_name(tmp_path: Path) -> None:
    client = Client.from_environment(
        {"LLM_BUDGET_SPOOL": str(tmp_path / "spool"), "LLM_BUDGET_IDS": "own"}
    )
    for _ in range(2):
        assert client.record("r", "f", answer(id="chatcmpl-1"))
    assert client.record("r", "f", answer(id="chatcmpl-1"), event_id="mine")
    assert len(events(tmp_path)) == 3  # the reader refuses an id that comes twice


def test_other_ids_are_the_providers_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module._next_warning.clear()
    assert Client(tmp_path / "spool", ids="mine").record("r", "f", answer(id="chatcmpl-1"))
    assert "ids is 'mine', neither 'provider' nor 'own'" in caplog.text
    assert events(tmp_path)[0]["id"] == "chatcmpl-1"


def test_a_response_of_the_responses_api_without_usage_is_estimated_by_its_output(
    client: Client, tmp_path: Path
) -> None:
    part = {"type": "output_text", "text": "x" * 100}
    assert client.record("r", "f", {"output": [{"type": "message", "content": [part]}]})
    assert events(tmp_path)[0]["usage"]["completion_tokens"] == 30


@pytest.mark.parametrize(
    "response",
    [
        {"llm_output": {"token_usage": {"prompt_tokens": 9, "completion_tokens": 4}}},  # LangChain
        {"generation": "x", "prompt_token_count": 9, "generation_token_count": 4},  # Bedrock
        {"message": {"content": "x"}, "prompt_eval_count": 9, "eval_count": 4},  # Ollama
    ],
)
def test_usage_is_found_where_libraries_have_it(
    client: Client, tmp_path: Path, response: Any
) -> None:
    assert client.record("r", "f", response)
    usage = events(tmp_path)[0]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (9, 4)


@pytest.mark.parametrize(
    "response",
    [
        {"details": {"generated_tokens": 20}, "generated_text": "x"},
        {"eval_count": 290, "message": {"content": "x"}},  # Ollama, of a prompt that it knew
        {"error": {"message": "x"}},
        {},
    ],
)
def test_an_answer_of_unknown_shape_is_refused_rather_than_estimated_as_nothing(
    client: Client, tmp_path: Path, response: Any
) -> None:
    assert not client.record("r", "f", response)
    with pytest.raises(EventError, match="no countable prompt") as refusal:
        events(tmp_path)
    assert refusal.value.success


def test_an_answer_of_anthropics_without_usage_is_estimated_by_its_text(
    client: Client, tmp_path: Path
) -> None:
    assert client.record("r", "f", {"content": [{"type": "text", "text": "x" * 100}]})
    assert events(tmp_path)[0]["usage"]["completion_tokens"] == 30


@pytest.mark.parametrize(
    ("response", "more", "tier"),
    [
        ({"service_tier": "flex"}, {}, "flex"),
        ({"usage": {"prompt_tokens": 1, "service_tier": "batch"}}, {}, "batch"),  # Anthropic's
        ({"service_tier": "default"}, {"service_tier": "batch"}, "batch"),
        ({"service_tier": object()}, {}, None),
        ({}, {}, None),
    ],
)
def test_the_service_tier_goes_with_the_call_also_into_the_fold(
    tmp_path: Path, response: dict[str, Any], more: dict[str, Any], tier: str | None
) -> None:
    for size, name in ((1 << 20, "spool"), (0, "folded.fold")):
        client = Client(tmp_path / name.removesuffix(".fold"), max_bytes=size)
        client.record("r", "notes", {"usage": {"prompt_tokens": 1}} | response, **more)
        client.record("r", "notes", {"usage": {"prompt_tokens": 1}})
        client.close()
        lines = [line for line in (tmp_path / name).read_text().splitlines() if '"id"' in line]
        tiers = {json.loads(line).get("service_tier") for line in lines}
        assert tiers == {None, tier}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2}, (9, 0, 2)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 4},
            },
            (9, 4, 2),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": None}, (9, 0, 2)),
        (
            {
                "input_tokens": 9,
                "output_tokens": 2,
                "input_tokens_details": {"cached_tokens": 3},
            },
            (9, 3, 2),
        ),
    ],
)
def test_usage_as_deepseek_and_openai_say_it(
    client: Client, tmp_path: Path, usage: dict[str, Any], expected: tuple[int, ...]
) -> None:
    client.record("r", "f", {"id": "1", "usage": usage})
    (event,) = events(tmp_path)
    assert tuple(event["usage"].values()) == expected


def test_an_openai_object_says_the_same_as_the_dict(client: Client, tmp_path: Path) -> None:
    response = answer(id="1", object="chat.completion", created=1)
    response["choices"][0] |= {"index": 0}
    response["usage"]["total_tokens"] = 955
    response["choices"][0]["message"] |= {"role": "assistant"}
    client.record("r", "f", ChatCompletion.model_validate(response))
    (event,) = events(tmp_path)
    assert tuple(event["usage"].values()) == (812, 512, 143)


@pytest.mark.parametrize("outcome", ["cached", "fallback"])
def test_what_asked_no_provider_is_free_and_never_collides_with_the_call_it_repeats(
    client: Client, tmp_path: Path, outcome: str
) -> None:
    response = answer()
    client.record("r", "f", response)
    client.record("r", "f", response, outcome=outcome, model="deepseek-chat")
    first, second = events(tmp_path)
    assert second["outcome"] == outcome
    assert "usage" not in second
    assert second["id"] != first["id"]


def test_calls_without_a_response_have_ids_of_their_own(client: Client, tmp_path: Path) -> None:
    for outcome in ("rate_limited", "error", "error"):
        assert client.record("r", "f", outcome=outcome, duration_seconds=1.25)
    found = events(tmp_path)
    assert [event["outcome"] for event in found] == ["rate_limited", "error", "error"]
    assert found[0]["duration_seconds"] == 1.25


@given(
    st.integers(1, 10_000_000),
    st.integers(0, 10_000_000),
    st.integers(0, 10_000_000),
    st.dictionaries(st.sampled_from(FIELDS), st.integers(1, 100) | st.floats(0.001, 1), min_size=1),
)
def test_shares_of_a_split_response_sum_to_the_last_token(
    tmp_path_factory: pytest.TempPathFactory,
    rest: int,
    cached: int,
    completion: int,
    weights: dict[str, float],
) -> None:
    cached = min(cached, 10_000_000 - rest)
    folder = tmp_path_factory.mktemp("split")
    client = Client(folder / "spool")
    response = answer(rest + cached, completion, cached, id="one")
    client.record("r", weights, response, batch_items=7, batch_slots=9)
    client.close()
    found = events(folder)
    assert [event["id"] for event in found] == [f"one#{name}" for name in weights]
    total = Reader(folder / "spool").read(retire=False).totals()
    assert total["prompt_tokens"] == rest + cached
    assert total["prompt_cache_hit_tokens"] == cached
    assert total["completion_tokens"] == completion
    assert total["batch_items"] == 7


@pytest.mark.parametrize("usage", [None, {}])
def test_a_response_without_usage_is_estimated_and_marked(
    client: Client, tmp_path: Path, usage: Any
) -> None:
    response = answer(usage=usage)
    messages = [{"role": "user", "content": "x" * 100}]
    client.record("r", "f", response, messages=messages)
    (event,) = events(tmp_path)
    assert event["estimated"] is True
    # 104 and 50 characters at 0.3, rounded up.
    assert event["usage"]["prompt_tokens"] == 32
    assert event["usage"]["completion_tokens"] == 15


@given(
    st.text(max_size=300),
    st.text(max_size=300),
    st.text(min_size=1, max_size=600),
    st.text(max_size=30),
)
def test_hostile_labels_and_ids_are_one_line_that_the_exporter_takes(
    tmp_path_factory: pytest.TempPathFactory, roaster: str, field: str, identity: str, model: str
) -> None:
    folder = tmp_path_factory.mktemp("hostile")
    client = Client(folder / "spool")
    assert client.record(roaster, field, answer(id=identity, model=model))
    assert client.record(roaster, [field, "notes"], answer(id=identity + "2"))
    client.close()
    assert len(events(folder)) == (2 if field == "notes" else 3)


def test_labels_may_be_anything_that_has_a_text(client: Client, tmp_path: Path) -> None:
    class Name(str, enum.Enum):  # noqa: UP042
        NOTES = "notes"

    client.record(Path("blue"), Name.NOTES, answer())  # type: ignore[arg-type]
    client.record(None, None, answer())
    first, second = events(tmp_path)
    assert (first["roaster"], first["field"]) == ("blue", "notes")
    assert "roaster" not in second


@pytest.mark.parametrize("field", [[], {}, ""])
def test_no_field_is_no_reason_to_drop_the_call(client: Client, tmp_path: Path, field: Any) -> None:
    assert client.record("r", field, answer())
    assert len(events(tmp_path)) == 1


@pytest.mark.parametrize("weights", [(0, 0), (1e-9, 0), (-1, 2), (float("nan"), 1), (None, 1)])
def test_weights_that_are_none_share_equally(
    client: Client, tmp_path: Path, weights: tuple[float, float]
) -> None:
    assert client.record("r", dict(zip(("notes", "tags"), weights, strict=True)), answer(10, 6, 4))
    shares = [parse_event(event, time.time()) for event in events(tmp_path)]
    assert [(share.tokens, share.output_tokens) for share in shares] == [(8, 3), (8, 3)]


@pytest.mark.parametrize("items", [None, -1])
def test_a_batch_that_is_none_is_no_reason_to_drop_the_call(
    client: Client, tmp_path: Path, items: Any
) -> None:
    assert client.record("r", "f", answer(10, 6, 4), batch_items=items, batch_slots=5)
    (event,) = events(tmp_path)
    assert parse_event(event, time.time()).tokens == 16


@pytest.mark.parametrize(
    ("usage", "found"),
    [
        ({"prompt_tokens": None, "completion_tokens": 5}, "completion_tokens 5"),
        ({"total_tokens": 955}, "total_tokens 955"),
        ({"prompt_tokens": -3, "completion_tokens": 5}, "prompt_tokens"),
        ({"prompt_tokens": "many"}, "prompt_tokens"),
        ({"words_counted": 12}, "words_counted 12"),
        ({"prompt_tokens": 3, "prompt_cache_hit_tokens": 4}, "prompt_cache_hit_tokens 4"),
        ({f"token_kind_{n}": n for n in range(1, 500)}, "token_kind_1 1"),
    ],
)
@pytest.mark.parametrize("field", ["notes", ["notes", "tags"]])
@pytest.mark.parametrize("max_bytes", [0, 1 << 20])
def test_usage_that_cannot_be_counted_is_said_at_once_and_refused_by_the_exporter(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    usage: dict[str, Any],
    found: str,
    field: Any,
    max_bytes: int,
) -> None:
    module._next_warning.clear()
    client = Client(tmp_path / "spool", max_bytes=max_bytes)
    with caplog.at_level(logging.WARNING):
        assert not client.record("r", field, {"id": "a", "model": "m", "usage": usage})
        assert not client.record("r", field, outcome="error", usage=usage)
    client.close()
    assert found in caplog.text
    assert client.lost() == 0
    events = Reader(tmp_path / "spool").read().events.values()
    assert len(events) == (2 if field == "notes" else 4)
    for event in events:
        with pytest.raises(EventError, match=r"usage|token"):
            parse_event(event, time.time() + 1)


def test_a_success_without_usage_or_response_is_said_at_once(
    client: Client, tmp_path: Path
) -> None:
    assert not client.record("r", "f")
    assert not client.record("r", "f", usage={})


class Slots:
    __slots__ = ("completion_tokens", "prompt_tokens")


def slots() -> Slots:
    made = Slots()
    made.prompt_tokens, made.completion_tokens = 9, 2
    return made


@dataclass
class Details:
    cached_tokens: int = 4
    cache_write_tokens: int = 3
    audio_tokens: int = 0


@dataclass
class Usage:
    prompt_tokens: int = 9
    completion_tokens: int = 2
    prompt_tokens_details: Details = dataclass_field(default_factory=Details)


CACHED = {"prompt_tokens": 9, "prompt_cache_hit_tokens": 4, "completion_tokens": 2}
WRITTEN = {**CACHED, "extras.cache_write": 3}
ANTHROPIC = {
    "input_tokens": 2,
    "cache_read_input_tokens": 4,
    "cache_creation_input_tokens": 3,
    "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 2,
}


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ({"usage": Usage()}, WRITTEN),
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 2.0}}, {}),
        (SimpleNamespace(usage=slots()), {}),
        (SimpleNamespace(usage=SimpleNamespace(**ANTHROPIC)), WRITTEN),
        ({"usage": ANTHROPIC}, WRITTEN),
        (
            SimpleNamespace(usage_metadata={"input_tokens": 9, "output_tokens": 2,
                                            "input_token_details": {"cache_read": 4}}),
            CACHED,
        ),
        ({"model": "m", "prompt_eval_count": 9, "eval_count": 2, "message": {"content": "."}}, {}),
        ({"meta": {"billed_units": {"input_tokens": 9.0, "output_tokens": 2.0}}}, {}),
    ],
)  # fmt: skip
def test_objects_of_every_kind_are_read(
    client: Client, tmp_path: Path, response: Any, expected: dict[str, int]
) -> None:
    plain = {"prompt_tokens": 9, "prompt_cache_hit_tokens": 0, "completion_tokens": 2}
    assert client.record("r", "f", response)
    (event,) = events(tmp_path)
    assert event["usage"] == (expected or plain)


def test_a_share_of_nothing_is_taken(client: Client, tmp_path: Path) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "extras": {"cache_write": 1}}
    assert client.record("r", {"a": 0, "b": 1, "c": 1}, usage=usage, batch_items=9)
    shares = events(tmp_path)
    assert sum(event["usage"]["prompt_tokens"] for event in shares) == 1
    assert [event.get("share", False) for event in shares] == [True, True, False]


def test_the_longest_id_and_labels_are_taken(client: Client, tmp_path: Path) -> None:
    wide = "\U0001f600" * 500
    assert client.record(wide, [wide, "\ud800"], answer(id="a" * module.MAX_ID, model=wide))
    assert len(events(tmp_path)) == 2


def test_ids_that_differ_only_in_odd_characters_stay_two(client: Client, tmp_path: Path) -> None:
    client.record("r", "f", answer(id="a\x00"))
    client.record("r", "f", answer(id="a\x01"))
    client.record("r", "f", answer(id="a" * 9000))
    assert len(events(tmp_path)) == 3


class Hostile:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no such luck")


@pytest.mark.parametrize(
    "response",
    [Hostile, {"id": "1", "usage": [1]}, b"bytes", 7],
)
def test_record_never_raises(client: Client, tmp_path: Path, response: Any) -> None:
    response = response() if response is Hostile else response
    before = client.lost()
    assert not client.record("r", "f", response)
    if client.lost() == before:  # written, for the exporter to refuse
        with pytest.raises(EventError, match="no countable prompt"):
            events(tmp_path)


def test_a_wrong_outcome_is_recorded_as_an_error(client: Client, tmp_path: Path) -> None:
    client.record("r", "f", answer(), outcome="sucess")
    (event,) = events(tmp_path)
    assert event["outcome"] == "error"
    assert event["usage"]["prompt_tokens"] == 812


def test_without_a_spool_every_call_is_counted_as_lost_and_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    module._next_warning.clear()
    client = Client.from_environment({})
    with caplog.at_level(logging.WARNING):
        assert [client.record("r", "f", answer()) for _ in range(3)] == [False] * 3
    assert client.lost() == 3
    assert len(caplog.records) == 1
    assert "LLM_BUDGET_SPOOL is not set" in caplog.text


def test_time_is_milliseconds_rounded_down(client: Client, tmp_path: Path) -> None:
    for at in (1_800_000_000.0, 1_800_000_000.9996, 1_799_999_999.5):
        client.record("r", "f", answer(), at=at)
    assert [event["time"] for event in events(tmp_path)] == [
        iso8601(1_800_000_000.0),
        iso8601(1_800_000_000.999),
        iso8601(1_799_999_999.5),
    ]


def test_the_module_functions_use_a_client_made_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "effective.json"
    config.write_text('{"enabled": true, "roasters": {"naivo": {"enabled": false}}}')
    monkeypatch.setenv("LLM_BUDGET_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setenv("LLM_BUDGET_EFFECTIVE", str(config))
    module.default_client.cache_clear()
    try:
        assert module.record("blue-tokai", "notes", answer())
        assert module.allowed("notes", "blue-tokai")
        assert not module.allowed("notes", "naivo")
        assert module.current() == json.loads(config.read_text())
        assert module.lost() == 0
    finally:
        module.default_client.cache_clear()
    assert len(events(tmp_path)) == 1


def test_a_wrong_environment_does_not_keep_it_from_recording(tmp_path: Path) -> None:
    spool = str(tmp_path / "spool")
    client = Client.from_environment(
        {"LLM_BUDGET_SPOOL": spool, "LLM_BUDGET_SPOOL_MAX_BYTES": "1 GB"}
    )
    assert client.record("r", "f", answer())


# --- the effective config ---


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call looks, so that no test waits."""
    monkeypatch.setattr(module, "CONFIG_POLL_SECONDS", 0.0)


@pytest.mark.parametrize("name", ["effective.yml", "effective.json"])
@pytest.mark.usefixtures("instant")
def test_allowed_says_what_the_receiver_means_at_every_level(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    client = Client(effective=path)
    ladder, baseline = shipped_ladder(), shipped_baseline()
    for level in ladder.names:
        for tunings in ([], ["roaster/naivo"]):
            document = effective(ladder, baseline, level, tunings).document
            temporary = tmp_path / "new"
            temporary.write_bytes(dump(document, path))
            temporary.replace(path)
            for roaster in ("naivo", "blue-tokai"):
                config = config_for(document, roaster)
                mine = client.current(roaster)
                assert mine is not None
                assert {key: mine[key] for key in config} == json.loads(
                    dump(config, Path("x.json"))
                )
                for field in FIELDS:
                    expected = config["enabled"] and config["field_configs"][field]["enabled"]
                    assert client.allowed(field, roaster) is expected


@pytest.mark.usefixtures("instant")
def test_the_last_good_config_stays_while_the_file_is_away_or_wrong(tmp_path: Path) -> None:
    path = tmp_path / "effective.json"
    client = Client(effective=path)
    assert client.current() is None
    assert client.allowed("notes") is False
    assert client.allowed("notes", default=True) is True
    path.write_text('{"enabled": true}')
    assert client.allowed("notes") is True
    wrong = ("", "{", "[]", "a: [", "\x00", "3", "!!bool no?")
    wrong += ('{"field_configs": 7}', '{"roasters": {"a": 1}}')
    for content in (*wrong, " " * (module.MAX_CONFIG_BYTES + 1)):
        path.write_text(content)
        assert client.allowed("notes") is True, content
    stops = {f"r{number}": {"enabled": False, "more": "x" * 1500} for number in range(3000)}
    path.write_text(json.dumps({"enabled": True, "roasters": stops}))  # every roaster at its cap
    assert (client.allowed("notes", "r2999"), client.allowed("notes", "other")) == (False, True)
    path.write_text('{"enabled": true}')
    assert client.allowed("notes", "r2999") is True
    path.unlink()
    assert client.current() == {"enabled": True}
    path.write_text('{"enabled": false}')
    assert client.allowed("notes") is False


@pytest.mark.parametrize(
    ("config", "verdict"),
    [
        ({}, True),
        ({"enabled": False}, False),
        ({"field_configs": {"tags": {"enabled": False}}}, True),
        ({"field_configs": {"notes": {"enabled": False}}}, False),
        ({"field_configs": {"notes": None}, "roasters": None}, True),
        ({"roasters": {"naivo": {"enabled": False}}}, False),
        ({"roasters": {"naivo": {"field_configs": {"notes": {"enabled": False}}}}}, False),
        ({"enabled": False, "roasters": {"naivo": {"enabled": True}}}, True),
        ({"roasters": {"other": {"enabled": False}}}, True),
    ],
)
def test_allowed(tmp_path: Path, config: dict[str, Any], verdict: bool) -> None:
    path = tmp_path / "effective.json"
    path.write_text(json.dumps(config))
    assert Client(effective=path).allowed("notes", "naivo") is verdict


@pytest.mark.usefixtures("instant")
def test_yaml_needs_pyyaml_and_json_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = tmp_path / "effective"
    client = Client(effective=path)
    path.write_text("enabled: true\n")
    assert client.current() is None
    path.write_text('{"enabled": true}')
    assert client.current() == {"enabled": True}


def test_between_looks_nothing_is_asked_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "effective.json"
    path.write_text("{}")
    client = Client(effective=path)
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    looks: list[str] = []
    look = os.stat
    monkeypatch.setattr(os, "stat", lambda path: looks.append(path) or look(path))
    for _ in range(100):
        assert client.allowed("notes", "naivo")
    assert len(looks) == 1
    now[0] += module.CONFIG_POLL_SECONDS
    client.allowed("notes", "naivo")
    assert len(looks) == 2
    assert module.CONFIG_POLL_SECONDS < 1, "the bound that docs/adopt.md promises"


def test_what_is_remembered_of_a_config_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "effective.json"
    path.write_text("{}")
    client = Client(effective=path)
    for number in range(10_050):
        client.allowed("notes", f"roaster-{number}")
    snapshot = client._config.snapshot()
    assert snapshot is not None
    for remembered in (snapshot.allows, snapshot.of):
        assert remembered.cache_info().currsize == 10_000


class Receiver:
    """GET /config on loopback, as the receiver answers it."""

    def __init__(self) -> None:
        self.config: Any = {"enabled": True}
        self.status = 200
        self.answers: list[int] = []
        self.paths: list[str] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                receiver.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/config"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = json.dumps(self.config).encode()
        etag = f'"{len(body)}-{self.config.get("enabled")}"'
        status = 304 if request.headers["If-None-Match"] == etag else self.status
        self.answers.append(status)
        self.paths.append(request.path)
        request.send_response(status)
        request.send_header("ETag", etag)
        request.send_header("Location", "/elsewhere")
        request.send_header("Content-Length", str(0 if status == 304 else len(body)))
        request.end_headers()
        request.wfile.write(b"" if status == 304 else body)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.mark.parametrize(
    ("end", "path"), [("", "/"), ("?a=b", "/?a=b"), ("/config?a=b#c", "/config?a=b")]
)
def test_a_request_goes_where_its_url_says_whatever_proxy_is_set(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, end: str, path: str
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    url = receiver.url.removesuffix("/config") + end
    status, headers, body = module.http_request(url, {"If-None-Match": "x"}, limit=5)
    assert (status, headers["Location"], body) == (200, "/elsewhere", b'{"ena')
    assert receiver.paths == [path]


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://", "http:/127.0.0.1", "127.0.0.1:9"])
def test_a_url_that_is_not_http_or_names_no_host_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not an http:// or https:// URL"):
        module.http_request(url, {})


def test_a_url_is_polled_with_its_etag_and_the_last_good_answer_stays(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONFIG_POLL_SECONDS", 0.01)
    client = Client(config_url=receiver.url)
    try:
        assert client.allowed("notes") is True  # the first look waits for the first answer
        until(lambda: receiver.answers.count(304) >= 2, what="an answer that nothing changed")
        receiver.config = {"enabled": False}
        until(lambda: client.allowed("notes") is False)
        for status, config in ((302, {}), (500, {}), (200, ["wrong"])):
            receiver.status, receiver.config = status, dict.fromkeys(config, 1)
            if config:
                receiver.config = {"field_configs": "wrong"}
            seen = len(receiver.answers)
            until(lambda seen=seen: len(receiver.answers) > seen + 2)  # type: ignore[misc]
            assert client.allowed("notes") is False
        receiver.close()
        assert client.current() == {"enabled": False}
    finally:
        client.close()


def test_a_receiver_that_is_away_or_hangs_holds_up_the_first_look_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_CONFIG_SECONDS", 0.05)
    hanging = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)  # accepts, never reads
    client = Client(config_url=f"http://127.0.0.1:{hanging.server_port}/config")
    try:
        assert client.allowed("notes") is False
        thread = client._config._thread
        assert client.allowed("notes", default=True) is True
        assert client._config._thread is thread, "one thread, however often one asks"
    finally:
        client.close()
        hanging.server_close()


def test_a_forked_child_polls_for_itself(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONFIG_POLL_SECONDS", 0.01)
    client = Client(config_url=receiver.url)
    assert client.allowed("notes")
    receiver.config = {"enabled": False}
    until(lambda: not client.allowed("notes"))
    child = os.fork()
    if child == 0:
        seen = client.allowed("notes")
        alive = client._config._thread is not None and client._config._thread.is_alive()
        os._exit(0 if alive and seen is False else 1)
    assert os.waitpid(child, 0)[1] == 0
    client.close()


def test_where_nothing_says_what_to_obey_the_answer_is_no_and_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    module._next_warning.clear()
    client = Client()
    assert client.allowed("notes") is False
    assert client.current() is None
    assert caplog.text.count("LLM_BUDGET_CONFIG_URL is set") == 1


def test_a_strange_url_is_refused_in_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    module._next_warning.clear()
    client = Client(config_url="file:///etc/passwd")
    assert client.current() is None
    assert "is not an http:// or https:// URL" in caplog.text
    client.close()
