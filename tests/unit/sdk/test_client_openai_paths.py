"""wrap(): every way of the real openai library to spend money is metered, or refused."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import openai
import pytest
from pydantic import BaseModel, ValidationError

from sdk.client import Client
from sdk.client_openai import UNSEEN_COMPLETION_TOKENS, wrap
from tests.support.spools import Reader

CHAT: Any = {"model": "m", "messages": [{"role": "user", "content": "hi there"}]}
INPUT: Any = {"model": "m", "input": "hi there"}
MESSAGE = {"role": "assistant", "content": '{"word": "plum"}'}
COUNTS = {"prompt_tokens": 300, "completion_tokens": 200, "total_tokens": 500}
COUNTED = {"prompt_tokens": 300, "prompt_cache_hit_tokens": 0, "completion_tokens": 200}
OUTPUT = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "plum", "annotations": []}],
}


class Word(BaseModel):
    word: str


class Number(BaseModel):
    number: int


def chat(request: dict[str, Any]) -> list[dict[str, Any]]:
    """An answer, or chunks and at the end what include_usage asks for."""
    head = {"id": "answer-1", "created": 1, "model": "m"}
    if not request.get("stream"):
        choice = {"index": 0, "finish_reason": request.get("stop", "stop"), "message": MESSAGE}
        return [head | {"object": "chat.completion", "choices": [choice], "usage": COUNTS}]
    head |= {"object": "chat.completion.chunk"}
    choice = {"index": 0, "delta": MESSAGE, "finish_reason": None}
    chunks = [head | {"choices": [choice]}]
    chunks.append(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if request.get("stream_options", {}).get("include_usage"):
        chunks.append(head | {"choices": [], "usage": COUNTS})
    return chunks


def responses(request: dict[str, Any]) -> list[dict[str, Any]]:
    whole: dict[str, Any] = {
        "id": "answer-1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": "completed",
        "output": [OUTPUT],
        "usage": {"input_tokens": 300, "output_tokens": 200, "total_tokens": 500},
        "tools": [],
    }
    if not request.get("stream"):
        return [whole]
    started = whole | {"status": "in_progress", "output": [], "usage": None}
    item = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    events = [
        {"type": "response.created", "response": started},
        {"type": "response.output_item.added", "output_index": 0, "item": OUTPUT | {"content": []}},
        {"type": "response.content_part.added", **item, "part": part},
        {"type": "response.output_text.delta", **item, "delta": "plum", "logprobs": []},
        {"type": "response.output_text.done", **item, "text": "plum", "logprobs": []},
        {"type": "response.completed", "response": whole},
    ]
    return [event | {"sequence_number": number} for number, event in enumerate(events)]


def embeddings(request: dict[str, Any]) -> list[dict[str, Any]]:
    usage = {"prompt_tokens": 300, "total_tokens": 300}
    vector = {"object": "embedding", "index": 0, "embedding": [0.5]}
    return [{"object": "list", "model": "m", "data": [vector], "usage": usage}]


ANSWERS = {"completions": chat, "responses": responses, "embeddings": embeddings}


def answer(request: Any) -> Any:
    """The provider."""
    asked = json.loads(request.content)
    parts = ANSWERS[request.url.path.rpartition("/")[2]](asked)
    if not asked.get("stream"):
        return httpx2.Response(200, json=parts[0])
    lines = [f"event: {part.get('type', 'chunk')}\ndata: {json.dumps(part)}\n\n" for part in parts]
    kind = {"content-type": "text/event-stream"}
    return httpx2.Response(200, content="".join(lines) + "data: [DONE]\n\n", headers=kind)


class Books:
    """The library's client, sync and async, with a provider in memory; and what was recorded."""

    def __init__(self, spool: Path) -> None:
        transport = httpx2.MockTransport(answer)
        options: Any = {"base_url": "http://provider.test", "api_key": "x", "max_retries": 0}
        self.client = Client(spool)
        self.inner = openai.OpenAI(**options, http_client=httpx2.Client(transport=transport))
        self.llm = wrap(self.inner, "r", "f", client=self.client)
        http_client = httpx2.AsyncClient(transport=transport)
        inner = openai.AsyncOpenAI(**options, http_client=http_client)
        self.async_llm = wrap(inner, "r", "f", client=self.client)
        self.reader = Reader(spool)

    def events(self) -> list[dict[str, Any]]:
        return list(self.reader.read(retire=False).events.values())

    def only(self) -> dict[str, Any]:
        (event,) = self.events()
        return event


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    books = Books(tmp_path / "spool")
    yield books
    books.client.close()
    books.reader.close()


def read(manager: Any) -> None:
    with manager as events:
        assert list(events)


METERED: dict[str, Callable[[Any], Any]] = {
    "chat.completions.create": lambda llm: llm.chat.completions.create(**CHAT),
    "chat.completions.create, streamed": lambda llm: list(
        llm.chat.completions.create(**CHAT, stream=True)
    ),
    "chat.completions.parse": lambda llm: llm.chat.completions.parse(**CHAT, response_format=Word),
    "chat.completions.stream": lambda llm: read(llm.chat.completions.stream(**CHAT)),
    "beta.chat.completions.parse": lambda llm: llm.beta.chat.completions.parse(
        **CHAT, response_format=Word
    ),
    "beta.chat.completions.stream": lambda llm: read(llm.beta.chat.completions.stream(**CHAT)),
    "with_raw_response": lambda llm: llm.chat.completions.with_raw_response.create(**CHAT).parse(),
    "with_raw_response, at the root": lambda llm: llm.with_raw_response.chat.completions.create(
        **CHAT
    ),
    "with_raw_response, parsed": lambda llm: llm.chat.with_raw_response.completions.parse(
        **CHAT, response_format=Word
    ).parse(),
    "with_raw_response, streamed": lambda llm: list(
        llm.beta.chat.completions.with_raw_response.create(**CHAT, stream=True).parse()
    ),
    "responses.create": lambda llm: llm.responses.create(**INPUT),
    "responses.create, streamed": lambda llm: list(llm.responses.create(**INPUT, stream=True)),
    "responses.parse": lambda llm: llm.responses.parse(**INPUT),
    "responses.stream": lambda llm: read(llm.responses.stream(**INPUT)),
    "responses, raw": lambda llm: llm.with_raw_response.responses.create(**INPUT),
    "a copy": lambda llm: llm.copy(timeout=3).with_options(timeout=2).responses.create(**INPUT),
}


@pytest.mark.parametrize("path", METERED)
def test_every_way_to_an_answer_is_one_event(books: Books, path: str) -> None:
    METERED[path](books.llm)
    event = books.only()
    assert (event["id"], event["model"], event["outcome"]) == ("answer-1", "m", "success")
    assert (event["roaster"], event["field"]) == ("r", "f")
    assert event["usage"] == COUNTED
    assert "estimated" not in event


def test_embeddings_are_a_prompt_without_a_completion(books: Books) -> None:
    books.llm.embeddings.create(**INPUT)
    books.llm.embeddings.with_raw_response.create(**INPUT)
    for event in books.events():
        assert event["usage"] == COUNTED | {"completion_tokens": 0}
        assert "estimated" not in event


def test_the_async_library_is_metered_alike(books: Books) -> None:
    async def run(llm: Any) -> None:
        await llm.chat.completions.create(**CHAT)
        async with llm.beta.chat.completions.stream(**CHAT) as events:
            assert (await events.get_final_completion()).choices[0].message.content
        (await llm.chat.completions.with_raw_response.create(**CHAT)).parse()
        raw = await llm.chat.completions.with_raw_response.create(**CHAT, stream=True)
        assert len([chunk async for chunk in raw.parse()]) == 2
        async with llm.responses.stream(**INPUT) as events:
            assert (await events.get_final_response()).id == "answer-1"
        assert [event async for event in await llm.responses.create(**INPUT, stream=True)]

    llm = wrap(books.async_llm._inner, client=books.client, ids="own")
    asyncio.run(run(llm))
    found = books.events()
    assert len(found) == 6
    assert all(event["usage"] == COUNTED and "estimated" not in event for event in found)


@pytest.mark.parametrize("how", ["left", "never read"])
def test_events_that_are_not_read_to_their_end_are_booked_by_what_was_seen(
    books: Books, how: str
) -> None:
    with books.llm.chat.completions.stream(**CHAT) as events:
        if how == "left":
            next(events)
    event = books.only()
    assert (event["outcome"], event["estimated"]) == ("success", True)
    assert event["usage"]["completion_tokens"] == (5 if how == "left" else 0)


def test_events_nobody_opens_cost_nothing(books: Books) -> None:
    books.llm.chat.completions.stream(**CHAT)
    assert books.events() == []


def test_the_events_and_the_final_completion_are_the_librarys_own(books: Books) -> None:
    with (
        books.inner.chat.completions.stream(**CHAT) as theirs,
        books.llm.chat.completions.stream(**CHAT) as mine,
    ):
        assert [event.type for event in mine] == [event.type for event in theirs]
        assert mine.get_final_completion() == theirs.get_final_completion()


def test_a_library_that_keeps_its_chunks_elsewhere_is_refused_and_booked(tmp_path: Path) -> None:
    class Manager:
        def __enter__(self) -> object:
            return object()

        def __exit__(self, *_: object) -> None: ...

    chat = SimpleNamespace(completions=SimpleNamespace(stream=lambda **_: Manager()))
    llm = wrap(SimpleNamespace(chat=chat), client=Client(tmp_path / "spool"))
    with (
        pytest.raises(TypeError, match="object cannot be metered"),
        llm.chat.completions.stream(**CHAT),
    ):
        pass
    (event,) = Reader(tmp_path / "spool").read(retire=False).events.values()
    assert event["estimated"]


def test_a_raw_stream_that_is_read_past_the_wrapper_is_booked_high(books: Books) -> None:
    raw = books.llm.chat.completions.with_raw_response.create(**CHAT, stream=True)
    assert raw.headers["content-type"] == "text/event-stream"
    raw.http_response.read()
    del raw
    event = books.only()
    assert event["estimated"]
    assert event["usage"]["completion_tokens"] == UNSEEN_COMPLETION_TOKENS


@pytest.mark.parametrize(
    ("form", "stop", "error"),
    [
        (Number, "stop", ValidationError),  # the answer is no such object
        (Word, "length", openai.LengthFinishReasonError),
        (Word, "content_filter", openai.ContentFilterFinishReasonError),
    ],
)
def test_an_answer_that_cannot_be_parsed_was_billed(
    books: Books, form: type[BaseModel], stop: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        books.llm.chat.completions.parse(**CHAT, response_format=form, stop=stop)
    assert (books.only()["usage"], books.only()["id"]) == (COUNTED, "answer-1")


# --- refused ---

REFUSED = """
images.generate images.edit audio.speech.create audio.transcriptions.create videos.create
with_raw_response.images.generate images.with_raw_response.generate
with_streaming_response chat.with_streaming_response chat.completions.with_streaming_response
beta.chat.completions.with_streaming_response responses.with_streaming_response
responses.connect realtime.connect beta.realtime.connect live.connect
beta.threads.create beta.threads.runs.create beta.threads.create_and_run
batches.create fine_tuning.jobs.create evals.runs.create vector_stores.create containers.create
post put patch request
"""


@pytest.mark.parametrize("path", REFUSED.split())
def test_what_would_go_past_the_meter_is_refused_in_a_sentence(books: Books, path: str) -> None:
    *nodes, last = path.split(".")
    for llm in (books.llm, books.async_llm, books.llm.with_options(timeout=1)):
        found = llm
        for name in nodes:
            found = getattr(found, name)
        with pytest.raises(AttributeError, match=f"{last} would go past the meter.* record\\(\\)"):
            getattr(found, last)


FREE = """
models.list models.retrieve files.create files.list chat.completions.list responses.retrieve
responses.input_items.list responses.input_tokens.count batches.retrieve moderations.create
beta.threads.retrieve close is_closed get base_url timeout max_retries api_key
"""


@pytest.mark.parametrize("path", FREE.split())
def test_what_costs_nothing_is_as_before(books: Books, path: str) -> None:
    mine, theirs = books.llm, books.inner
    for name in path.split("."):
        mine, theirs = getattr(mine, name), getattr(theirs, name)
    assert mine == theirs or mine.__func__ is theirs.__func__


def methods(thing: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every method that is reached from a client, below each of its resources."""
    for name in dir(type(thing)):
        found = None if name.startswith("_") or "with_" in name else getattr(thing, name, None)
        if type(found).__module__.startswith("openai.resources"):
            yield from methods(found, (*path, name))
        elif callable(found):
            yield (*path, name)


def test_whatever_the_library_offers_is_metered_or_free_or_refused(books: Books) -> None:
    """No method of the library reaches the caller as it is, but for those known to cost nothing."""
    passed = set()
    for path in methods(books.inner):
        found: Any = books.llm
        try:
            for name in path:
                found = getattr(found, name)
        except AttributeError:
            continue
        if not hasattr(found, "func"):  # a metered one is a partial of the wrapper's
            passed.add(path[-1] if path[-1] != "create" else ".".join(path))
    assert passed == {
        "cancel", "close", "content", "count", "delete", "get", "is_closed", "list", "retrieve",
        "retrieve_content", "unwrap", "update", "verify_signature", "wait_for_processing",
        "complete", "upload_file_chunked",
        "files.create", "moderations.create", "uploads.create", "uploads.parts.create",
    }  # fmt: skip


def test_what_is_answered_later_is_refused_before_it_is_sent(books: Books) -> None:
    with pytest.raises(ValueError, match="background=True is answered later"):
        books.llm.responses.create(**INPUT, background=True)
    assert books.events() == []


def test_a_client_of_another_shape_is_refused_where_it_would_spend(tmp_path: Path) -> None:
    class Chat:
        def complete(self, **_: Any) -> None: ...

    class Other:
        messages = SimpleNamespace(create=lambda **_: None)
        models = SimpleNamespace(generate_content=lambda **_: None)
        inner = Chat()

        def chat(self, **_: Any) -> None: ...

    llm = wrap(Other(), client=Client(tmp_path / "spool"))
    for reach in (
        lambda: llm.messages.create,
        lambda: llm.models.generate_content,
        lambda: llm.inner.complete,
        lambda: llm.chat,
    ):
        with pytest.raises(AttributeError, match="would go past the meter"):
            reach()


def test_a_wrapped_client_is_not_wrapped_again(books: Books) -> None:
    with pytest.raises(ValueError, match="wrapped already"):
        wrap(books.llm)


# --- ids ---


def test_a_provider_whose_ids_repeat_is_told_apart_by_own_ids(books: Books) -> None:
    llm = wrap(books.inner, client=books.client, ids="own")
    for _ in range(2):
        llm.chat.completions.create(**CHAT)
        list(llm.chat.completions.create(**CHAT, stream=True))
    found = books.events()  # the reader refuses an id that comes twice
    assert len(found) == 4
    assert all(event["usage"] == COUNTED for event in found)
