"""wrap(): what a stream reports of its usage, believed or estimated, in every form seen."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk

from exporter.event import parse_event
from sdk.client import Client
from sdk.client_openai import wrap
from tests.support.spools import Reader

WORDS = ["plum ", "jaggery ", "black ", "tea "] * 50
ASK: Any = {"model": "m", "messages": [{"role": "user", "content": "Describe this coffee. " * 40}]}
PROMPT = 266  # (880 + 4) characters x 0.3
SEEN = 450  # 200 words at 2 to 3 tokens each
REAL = {"prompt_tokens": 300, "completion_tokens": 200, "total_tokens": 500}
ZERO = dict.fromkeys(REAL, 0)
EARLY = {"prompt_tokens": 300, "completion_tokens": 0}
FINISH: dict[str, Any] = {"finish_reason": "stop"}


def chunk(text: str | None = None, usage: Any = None, index: int = 0, **more: Any) -> Any:
    """A chunk with one choice, as a dict."""
    choice = {"index": index, "delta": {"content": text}, "finish_reason": None, **more}
    return {"id": "c1", "model": "m", "choices": [choice], "usage": usage}


def last(usage: Any, **more: Any) -> Any:
    return {"id": "c1", "model": "m", "choices": [], "usage": usage, **more}


TEXT = [chunk(word) for word in WORDS]
GROWING = [
    chunk(word, {"prompt_tokens": 300, "completion_tokens": number + 1})
    for number, word in enumerate(WORDS)
]


class Lines:
    """Wraps whatever answers; reads what was recorded."""

    def __init__(self, spool: Path) -> None:
        self.client = Client(spool)
        self.spool = spool

    def stream(self, stream: Any, path: str = "chat.completions.create", **ask: Any) -> Any:
        """The metered stream of a client that answers so, at this path."""
        llm: Any = lambda **_: stream  # noqa: E731
        for name in reversed(path.split(".")):
            llm = SimpleNamespace(**{name: llm})
        found = wrap(llm, "r", "f", client=self.client)
        for name in path.split("."):
            found = getattr(found, name)
        return found(**(ask or ASK), stream=True)

    def only(self) -> dict[str, Any]:
        (event,) = Reader(self.spool).read(retire=False).events.values()
        return event

    def figures(self) -> tuple[int, int, bool]:
        """Prompt, completion, whether they are estimated."""
        event = self.only()
        usage = event["usage"]
        estimated = event.get("estimated", False)
        return usage["prompt_tokens"], usage["completion_tokens"], estimated


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    lines = Lines(tmp_path / "spool")
    yield lines
    lines.client.close()


def broken(chunks: list[Any]) -> Iterator[Any]:
    yield from chunks
    raise ConnectionError("peer closed connection")


def as_attributes(value: Any) -> Any:
    """A dict as objects with attributes."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: as_attributes(item) for key, item in value.items()})
    return list(map(as_attributes, value)) if isinstance(value, list) else value


def as_models(chunk: Any) -> Any:
    """A dict as openai's own class, which keeps what it does not know beside its fields."""
    return ChatCompletionChunk.construct(**chunk)


END = chunk(**FINISH)
TOLD = (300, 200, False)
FORMS: dict[str, tuple[list[Any], tuple[int, int, bool]]] = {
    "after the finish": ([*TEXT, END, last(REAL)], TOLD),
    "with the finish": ([*TEXT, chunk(usage=REAL, **FINISH)], TOLD),
    "on each chunk": ([*GROWING, END], TOLD),
    "on each chunk, then zeros": ([*GROWING, END, last(ZERO)], TOLD),
    "real, then zeros": ([*TEXT, chunk(usage=REAL, **FINISH), last(ZERO)], TOLD),
    "real, then empty": ([*TEXT, END, last(REAL), last({})], TOLD),
    "zeros on each chunk, then real": (
        [chunk(word, ZERO) for word in WORDS] + [END, last(REAL)],
        TOLD,
    ),
    "early, then real": ([chunk("", EARLY), *TEXT, END, last(REAL)], TOLD),
    "input first, output last": (
        [
            chunk("", {"prompt_tokens": 300, "completion_tokens": 1, "total_tokens": 301}),
            *TEXT,
            chunk(usage={"completion_tokens": 200}, **FINISH),
        ],
        TOLD,
    ),
    "zeros": ([*TEXT, END, last(ZERO)], (PROMPT, SEEN, True)),
    "empty": ([*TEXT, END, last({})], (PROMPT, SEEN, True)),
    "none": ([*TEXT, END], (PROMPT, SEEN, True)),
    "not numbers": (
        [*TEXT, END, last({"prompt_tokens": "n/a", "completion_tokens": "n/a"})],
        (PROMPT, SEEN, True),
    ),
    "negative": (
        [*TEXT, END, last({"prompt_tokens": -1, "completion_tokens": -1})],
        (PROMPT, SEEN, True),
    ),
    "early only": ([chunk("", EARLY), *TEXT, END], (300, SEEN, True)),
    "early, with a token": (
        [chunk("", EARLY | {"completion_tokens": 1}), *TEXT, END],
        (300, SEEN, True),
    ),
    "a total only": ([*TEXT, END, last({"total_tokens": 1000})], (PROMPT, 1000 - PROMPT, True)),
    "in the other spelling": (
        [*TEXT, END, last({"input_tokens": 300, "output_tokens": 200, "total_tokens": 500})],
        TOLD,
    ),
    "a completion only": ([*TEXT, END, last({"completion_tokens": 200})], (PROMPT, 200, True)),
    "under x_groq": ([*TEXT, END, last(None, x_groq={"id": "r", "usage": REAL})], TOLD),
    "chunks without choices": (
        [{"id": "c1", "choices": None}, None, {}, *TEXT, END, {"choices": None, "usage": REAL}],
        TOLD,
    ),
}


def in_choice(index: int, completion: int) -> Any:
    """The last chunk of a choice, with the usage inside of it (Moonshot's)."""
    found = chunk(index=index, **FINISH)
    found["choices"][0]["usage"] = {"prompt_tokens": 300, "completion_tokens": completion}
    return found


def both(usage: Any = None) -> list[Any]:
    """Two choices, a word at a time: a token each."""
    return [chunk("tea", usage, index=index) for _ in range(100) for index in (0, 1)]


FORMS |= {
    "in the choice": ([*TEXT, in_choice(0, 200)], TOLD),
    "in each choice, its own": ([*both(), in_choice(0, 100), in_choice(1, 100)], TOLD),
    "in each choice, of all": ([*both(), in_choice(0, 200), in_choice(1, 200)], TOLD),
    "beside each choice, its own (vLLM)": (
        [
            chunk("tea", {"prompt_tokens": 300, "completion_tokens": number + 1}, index=index)
            for number in range(100)
            for index in (0, 1)
        ],
        TOLD,
    ),
    "beside each choice, its own, then all": (
        [*both({"prompt_tokens": 300, "completion_tokens": 100}), last(REAL)],
        TOLD,
    ),
}


def test_a_prompt_far_below_its_text_is_a_placeholder(lines: Lines) -> None:
    ask: Any = {"model": "m", "messages": [{"role": "user", "content": "x" * 1000}]}
    list(lines.stream([*TEXT, END, last(REAL | {"prompt_tokens": 1})], **ask))
    prompt, completion, estimated = lines.figures()
    assert (completion, estimated) == (200, True)
    assert prompt >= 300


@pytest.mark.parametrize(("told", "tier"), [({}, "priority"), ({"service_tier": "default"}, None)])
def test_the_tier_is_the_requests_where_the_answer_names_none(
    lines: Lines, told: Any, tier: str | None
) -> None:
    list(lines.stream([*TEXT, END, last(REAL) | told], **ASK, service_tier="priority"))
    assert lines.only().get("service_tier") == tier


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", [dict, as_attributes])
def test_usage_in_a_stream(lines: Lines, form: str, make: Any) -> None:
    chunks, expected = FORMS[form]
    list(lines.stream([item and make(item) for item in chunks]))
    assert lines.figures() == expected
    assert lines.only()["outcome"] == "success"


@pytest.mark.parametrize("form", ["under x_groq", "in the choice", "on each chunk", "zeros"])
def test_usage_in_the_librarys_own_chunks(lines: Lines, form: str) -> None:
    chunks, expected = FORMS[form]
    list(lines.stream([as_models(item) for item in chunks]))
    assert lines.figures() == expected


def test_cached_tokens_outlive_a_later_zero(lines: Lines) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 256}}
    zero = ZERO | {"prompt_tokens_details": {"cached_tokens": 0}}
    list(lines.stream([*TEXT, chunk(usage=REAL | details, **FINISH), last(zero)]))
    assert lines.only()["usage"]["prompt_cache_hit_tokens"] == 256


# --- broken and left ---


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (GROWING, TOLD),
        ([chunk("", EARLY), *TEXT], (300, SEEN, True)),
        ([*TEXT, chunk(usage=REAL, **FINISH)], TOLD),
        (TEXT, (PROMPT, SEEN, True)),
        ([], (PROMPT, 0, True)),
    ],
)
def test_a_broken_stream_is_an_error_with_what_was_reported_or_seen(
    lines: Lines, chunks: list[Any], expected: tuple[int, int, bool]
) -> None:
    with pytest.raises(ConnectionError):
        list(lines.stream(broken(chunks)))
    assert lines.figures() == expected
    assert lines.only()["outcome"] == "error"


@pytest.mark.parametrize(
    ("path", "chunk"),
    [
        ("chat.completions.create", {"error": {"code": 502}, "choices": [], "id": "c1"}),
        ("responses.create", {"type": "error", "message": "overloaded"}),
        ("responses.create", {"type": "response.failed", "response": {"error": {"code": "x"}}}),
    ],
)
def test_an_error_inside_a_stream_is_an_error(lines: Lines, path: str, chunk: Any) -> None:
    list(lines.stream([chunk], path))
    assert lines.only()["outcome"] == "error"
    assert lines.only()["estimated"]


@pytest.mark.parametrize("how", ["close", "with", "forgotten"])
def test_usage_so_far_of_a_stream_that_its_caller_leaves(lines: Lines, how: str) -> None:
    stream = lines.stream(item for item in GROWING)
    for _ in range(3):
        next(stream)
    if how == "close":
        stream.close()
    elif how == "with":
        with stream:
            pass
    del stream
    assert lines.figures() == (300, 3, False)
    assert lines.only()["outcome"] == "success"


def test_a_task_cancelled_while_it_waits_for_a_chunk_is_an_error(lines: Lines) -> None:
    async def endless() -> AsyncIterator[Any]:
        for item in TEXT:
            yield item
        await asyncio.Event().wait()

    async def read() -> None:
        async for _ in lines.stream(endless()):
            pass

    async def run() -> None:
        await asyncio.wait_for(read(), 0.2)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(run())
    assert lines.figures() == (PROMPT, SEEN, True)
    assert lines.only()["outcome"] == "error"


# --- text ---

SAID = "a" * 100  # 30 tokens
PARTS: dict[str, Any] = {
    "content": {"content": SAID},
    "content in pieces": {"content": [{"type": "text", "text": SAID}]},
    "reasoning_content": {"reasoning_content": SAID},
    "reasoning": {"reasoning": SAID},
    "reasoning_details": {"reasoning_details": [{"type": "reasoning.text", "text": SAID}]},
    "reasoning twice": {
        "reasoning": SAID,
        "reasoning_details": [{"type": "reasoning.summary", "summary": SAID}],
    },
    "thinking": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": SAID}]}]},
    "tool call": {"tool_calls": [{"index": 0, "function": {"arguments": SAID}}]},
    "custom tool call": {"tool_calls": [{"index": 0, "custom": {"input": SAID}}]},
    "function call": {"function_call": {"arguments": SAID}},
    "refusal": {"refusal": SAID},
    "spoken": {"audio": {"data": "UklGRg==", "transcript": SAID}},
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("make", [dict, as_attributes])
def test_all_text_of_an_answer_counts_once(lines: Lines, part: str, make: Any) -> None:
    delta = PARTS[part]
    chunks = [{"id": "c1", "choices": [{"index": n, "delta": delta}]} for n in (0, 1)]
    list(lines.stream([make(item) for item in chunks]))
    assert lines.figures() == (PROMPT, 60, True)


def test_an_answer_without_a_stream_is_believed_and_estimated_alike(lines: Lines) -> None:
    completions = SimpleNamespace(create=lambda **_: {"choices": [{"text": SAID}], "usage": ZERO})
    llm = wrap(SimpleNamespace(completions=completions), client=lines.client)
    llm.completions.create(model="m", prompt=[[1, 2, 3], [4, 5]])  # token ids
    assert lines.figures() == (5, 30, True)


@pytest.mark.parametrize("usage", [{"total_tokens": 500}, {"completion_tokens": 200}])
def test_an_answers_usage_that_cannot_be_counted_is_left_to_the_exporter(
    lines: Lines, usage: dict[str, int]
) -> None:
    completions = SimpleNamespace(create=lambda **_: {"choices": [{"text": SAID}], "usage": usage})
    llm = wrap(SimpleNamespace(completions=completions), client=lines.client)
    llm.completions.create(model="m", prompt="hello")
    event = lines.only()
    assert "estimated" not in event
    with pytest.raises(ValueError, match="no countable prompt"):
        parse_event(event, time.time() + 1)


# --- the Responses API, Anthropic's events ---

RESPONSE = {"id": "resp_1", "model": "gpt-4o"}
STARTED = {"type": "response.created", "response": {**RESPONSE, "usage": None, "output": []}}
ITEM = {"type": "message", "content": [{"type": "output_text", "text": SAID}]}
DELTAS = [
    {"type": f"response.{kind}.delta", "delta": SAID}
    for kind in ("output_text", "reasoning_summary_text", "function_call_arguments", "refusal")
]
SOUND = {"type": "response.audio.delta", "delta": "UklGRg==" * 100}
REPORTED = {"input_tokens": 300, "output_tokens": 200, "total_tokens": 500}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([*DELTAS, ("completed", REPORTED)], TOLD),
        ([*DELTAS, ("incomplete", REPORTED)], TOLD),
        ([*DELTAS, ("completed", None)], (2, 120, True)),
        ([*DELTAS, SOUND], (2, 120, True)),
        ([("completed", None)], (2, 30, True)),  # the answer came in one piece
    ],
)
def test_events_of_the_responses_api(lines: Lines, events: list[Any], expected: Any) -> None:
    ends = {
        kind: {
            "type": f"response.{kind}",
            "response": {**RESPONSE, "usage": usage, "output": [ITEM]},
        }
        for kind, usage in (event for event in events if isinstance(event, tuple))
    }
    stream = [STARTED, *(ends[e[0]] if isinstance(e, tuple) else e for e in events)]
    list(lines.stream(stream, "responses.create", model="alias", input="hello"))
    assert lines.figures() == expected
    assert (lines.only()["id"], lines.only()["model"]) == ("resp_1", "gpt-4o")


def test_events_as_anthropic_sends_them(lines: Lines) -> None:
    started = {**RESPONSE, "usage": {"input_tokens": 300, "output_tokens": 1}}
    stream = [
        {"type": "message_start", "message": started},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": SAID}},
        {
            "type": "content_block_delta",
            "delta": {"type": "input_json_delta", "partial_json": SAID},
        },
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}},
    ]
    list(lines.stream(stream))
    assert lines.figures() == (300, 60, True)
    assert lines.only()["id"] == "resp_1"


# --- id and model ---


def test_id_and_model_are_the_first_that_are_not_empty(lines: Lines) -> None:
    """Azure's first chunk has neither, and no choices."""
    first = {"id": "", "model": "", "choices": []}
    chunks = [first, *(item | {"id": "chatcmpl-7", "model": "gpt-4o-2024-08-06"} for item in TEXT)]
    assert list(lines.stream([*chunks, last(REAL)])) == chunks
    event = lines.only()
    assert (event["id"], event["model"]) == ("chatcmpl-7", "gpt-4o-2024-08-06")


def test_a_stream_without_id_and_model_gets_an_id_and_the_requests_model(lines: Lines) -> None:
    list(lines.stream([{"id": "", "model": None, "choices": []}, last(REAL) | {"id": None}]))
    assert lines.only()["model"] == "m"
