"""wrap(): each attempt and each stream of the real openai library, against the fake provider."""

import asyncio
import copy
import gc
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest
import requests

from command.stack.processes import Child, free_port
from exporter.event import parse_event
from sdk import client as client_module
from sdk.client import Client
from sdk.client_openai import UNSEEN_COMPLETION_TOKENS, wrap
from tests.support.spools import Reader
from tests.support.waiting import until

MESSAGES = [{"role": "user", "content": "word " * 50}]  # 50 tokens of the fake provider
GUESSED_PROMPT = 77  # (250 + 4) characters x 0.3, rounded up
ASK = {"model": "deepseek-chat", "messages": MESSAGES, "max_tokens": 20}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    argv = [sys.executable, "-m", "demo.provider", "--listen", f"127.0.0.1:{port}"]
    child = Child("provider", argv, tmp_path_factory.mktemp("log") / "log", f"{url}/health")
    child.start()
    try:
        child.wait_ready()
        yield url
    finally:
        child.kill()  # it may still be about to give a delayed answer


class Books:
    """A wrapped client, sync and async, and what it recorded."""

    def __init__(self, folder: Path, provider: str) -> None:
        self.provider = provider
        self.client = Client(folder / "spool")
        self.reader = Reader(folder / "spool")
        self.served = self.usage()

    def llm(self, **options: Any) -> Any:
        wrapping = {key: options.pop(key) for key in ("include_usage", "retries") if key in options}
        inner = openai.OpenAI(base_url=self.provider, api_key="simulated", **options)
        return wrap(inner, "blue-tokai", "notes", client=self.client, **wrapping)

    def async_llm(self, **options: Any) -> Any:
        inner = openai.AsyncOpenAI(base_url=self.provider, api_key="simulated", **options)
        return wrap(inner, "blue-tokai", "notes", client=self.client)

    def plan(self, *faults: dict[str, Any]) -> None:
        requests.post(f"{self.provider}/sim/faults", json=faults, timeout=5).raise_for_status()

    def usage(self) -> dict[str, int]:
        return dict(requests.get(f"{self.provider}/sim/usage", timeout=5).json())

    def events(self) -> list[dict[str, Any]]:
        gc.collect()
        found = list(self.reader.read(retire=False).events.values())
        for event in found:
            parse_event(event, time.time() + 1)
            assert (event["roaster"], event["model"]) == ("blue-tokai", "deepseek-chat")
        return found

    def outcomes(self) -> list[tuple[str, bool]]:
        """(outcome, whether estimated) of each."""
        return [(event["outcome"], event.get("estimated", False)) for event in self.events()]

    def check_exact(self) -> None:
        """The books say what the provider served, to the last token."""
        total, now = self.reader.totals(), self.usage()
        keys = {
            "prompt_tokens": "prompt_tokens",
            "cached_tokens": "prompt_cache_hit_tokens",
            "completion_tokens": "completion_tokens",
        }
        for served, mine in keys.items():
            assert total[mine] == now[served] - self.served[served], served


@pytest.fixture
def books(tmp_path: Path, provider: str) -> Iterator[Books]:
    books = Books(tmp_path, provider)
    yield books
    books.client.close()
    books.reader.close()


SUCCESS, LIMITED, ERROR = ("success", False), ("rate_limited", False), ("error", False)
GUESSED, GUESSED_ERROR = ("success", True), ("error", True)


def test_an_answer_is_recorded_under_its_labels_and_returned_as_it_is(books: Books) -> None:
    llm = books.llm()
    response = llm.chat.completions.create(**ASK)
    assert response.choices[0].message.content.startswith("ok ok")
    llm.chat.completions.create(**ASK, field="tags", batch_items=4, batch_slots=5)
    first, second = books.events()
    assert first["id"] == response.id
    assert first["duration_seconds"] > 0
    assert (first["field"], second["field"]) == ("notes", "tags")
    assert (second["batch_items"], second["batch_slots"]) == (4, 5)
    books.check_exact()


def test_everything_else_of_the_client_is_as_before(books: Books) -> None:
    llm = books.llm()
    assert str(llm.base_url).startswith(books.provider)
    with pytest.raises(openai.NotFoundError):
        llm.models.list()
    copied = llm.with_options(timeout=7, max_retries=0)
    assert copied.timeout == 7
    copied.chat.completions.create(**ASK)
    with pytest.raises(openai.NotFoundError):
        copied.models.list()  # after a call, too: not an attempt of it
    assert books.outcomes() == [SUCCESS]


def test_a_wrapped_client_may_be_copied(books: Books) -> None:
    copy.copy(books.llm()).chat.completions.create(**ASK)
    assert books.outcomes() == [SUCCESS]


# --- attempts ---


def test_every_attempt_of_the_librarys_retries_is_recorded(books: Books) -> None:
    books.plan({"status": 429, "retry_after": 0.01}, {"status": 503, "retry_after": 0.01})
    books.llm().chat.completions.create(**ASK)
    assert books.outcomes() == [LIMITED, ERROR, SUCCESS]
    books.check_exact()


@pytest.mark.parametrize(
    ("options", "attempts"), [({}, 3), ({"max_retries": 1}, 2), ({"retries": 0}, 1)]
)
def test_as_many_retries_as_the_library_would_make(
    books: Books, options: dict[str, int], attempts: int
) -> None:
    books.plan(*[{"status": 429, "retry_after": 0.01}] * attempts)
    with pytest.raises(openai.RateLimitError):
        books.llm(**options).chat.completions.create(**ASK)
    assert books.outcomes() == [LIMITED] * attempts


def test_what_the_library_would_not_retry_is_not(books: Books) -> None:
    with pytest.raises(openai.BadRequestError):
        books.llm().chat.completions.create(model="gpt-9", messages=MESSAGES)
    books.plan({"status": 429, "retry_after": 600})
    with pytest.raises(openai.RateLimitError):
        books.llm().chat.completions.create(**ASK)
    found = books.reader.read(retire=False).events.values()
    assert [event["outcome"] for event in found] == ["error", "rate_limited"]


def test_async_attempts_are_recorded_alike(books: Books) -> None:
    async def run() -> Any:
        books.plan({"status": 500, "retry_after": 0.01}, {"status": 429, "retry_after": 0.01})
        async with openai.AsyncOpenAI(base_url=books.provider, api_key="simulated") as inner:
            llm = wrap(inner, "blue-tokai", "notes", client=books.client)
            return await llm.chat.completions.create(**ASK)

    assert asyncio.run(run()).usage.completion_tokens == 20
    assert books.outcomes() == [ERROR, LIMITED, SUCCESS]
    books.check_exact()


def test_a_timeout_is_booked_high_and_marked(books: Books) -> None:
    books.plan({"delay": 30}, {"delay": 30})
    llm = books.llm(timeout=0.2, max_retries=0)
    with pytest.raises(openai.APITimeoutError):
        llm.chat.completions.create(**ASK)
    with pytest.raises(openai.APITimeoutError):
        llm.chat.completions.create(model="deepseek-chat", messages=MESSAGES)
    assert books.outcomes() == [GUESSED_ERROR] * 2
    usages = [event["usage"] for event in books.events()]
    assert [usage["prompt_tokens"] for usage in usages] == [GUESSED_PROMPT] * 2
    assert [usage["completion_tokens"] for usage in usages] == [20, UNSEEN_COMPLETION_TOKENS]


def test_a_broken_connection_is_booked_as_estimated_and_tried_again(books: Books) -> None:
    books.plan({"abort_after": 0})
    books.llm(max_retries=1).chat.completions.create(**ASK)
    assert books.outcomes() == [GUESSED_ERROR, SUCCESS]


def test_a_provider_that_was_never_reached_costs_nothing(tmp_path: Path) -> None:
    books = Books.__new__(Books)
    books.client, books.reader = Client(tmp_path / "spool"), Reader(tmp_path / "spool")
    books.provider = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(openai.APIConnectionError):
        books.llm(max_retries=0).chat.completions.create(**ASK)
    (event,) = books.events()
    assert event["outcome"] == "error"
    assert "usage" not in event


def test_a_cancelled_call_is_booked_as_estimated(books: Books) -> None:
    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=books.provider, api_key="simulated") as inner:
            llm = wrap(inner, "blue-tokai", "notes", client=books.client)
            await asyncio.wait_for(llm.chat.completions.create(**ASK), timeout=0.3)

    books.plan({"delay": 30})
    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(run())
    assert books.outcomes() == [GUESSED_ERROR]


def test_an_answer_without_usage_is_estimated(books: Books) -> None:
    books.plan({"usage": False})
    books.llm().chat.completions.create(**ASK)
    (event,) = books.events()
    assert event["estimated"] is True
    assert event["usage"]["prompt_tokens"] == GUESSED_PROMPT
    assert event["usage"]["completion_tokens"] == 18  # "ok ok …", 59 characters x 0.3


def test_a_call_with_wrong_arguments_raises_what_it_raised_before(books: Books) -> None:
    with pytest.raises(TypeError):
        books.llm().chat.completions.create(nonsense=1)


# --- the library's http client ---


class HeadersOnly(BaseHTTPRequestHandler):
    """Answers 200 at once and never sends the body."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.rfile.read()  # until the client goes

    def log_message(self, *_: object) -> None:
        pass


def test_a_body_that_never_comes_is_a_failed_attempt(books: Books) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), HeadersOnly)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    books.provider = f"http://127.0.0.1:{server.server_port}"
    try:
        with pytest.raises(openai.APITimeoutError):
            books.llm(timeout=0.2, max_retries=1).chat.completions.create(**ASK)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert books.outcomes() == [GUESSED_ERROR] * 2


def test_the_retries_are_the_librarys_and_the_http_client_is_the_users(books: Books) -> None:
    seen: list[tuple[str, str]] = []

    def hook(request: Any) -> None:
        seen.append((request.headers["x-mine"], request.headers["x-stainless-retry-count"]))

    mine = openai.DefaultHttpx2Client(headers={"X-Mine": "1"}, event_hooks={"request": [hook]})
    books.plan({"status": 429, "retry_after": 0.01})
    books.llm(http_client=mine).chat.completions.create(**ASK)
    assert seen == [("1", "0"), ("1", "1")]
    mine.close()
    with pytest.raises(RuntimeError, match="closed"):
        books.llm(http_client=mine).chat.completions.create(**ASK)
    assert books.outcomes() == [LIMITED, SUCCESS, ERROR]


def test_a_copy_with_another_http_client_is_recorded_alike(books: Books) -> None:
    books.plan({"status": 429, "retry_after": 0.01})
    with openai.DefaultHttpx2Client() as other:
        books.llm().with_options(http_client=other).chat.completions.create(**ASK)
    assert books.outcomes() == [LIMITED, SUCCESS]


def test_one_client_may_be_wrapped_twice_and_used_as_it_is(books: Books) -> None:
    inner = openai.OpenAI(base_url=books.provider, api_key="simulated")
    first, second = (wrap(inner, "blue-tokai", field, client=books.client) for field in "ab")
    books.plan({"status": 429, "retry_after": 0.01})
    for llm in (first, second, inner):
        llm.chat.completions.create(**ASK)
    found = [(event["outcome"], event["field"]) for event in books.events()]
    assert found == [("rate_limited", "a"), ("success", "a"), ("success", "b")]


def test_client_and_wrapper_outlive_each_other(books: Books) -> None:
    llm = books.llm()  # of its client nothing else is left
    gc.collect()
    llm.chat.completions.create(**ASK)
    inner = openai.OpenAI(base_url=books.provider, api_key="simulated")
    wrap(inner, client=books.client)
    gc.collect()
    assert inner.chat.completions.create(**ASK).usage


def test_calls_at_the_same_time_have_each_their_own_attempts(books: Books) -> None:
    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=books.provider, api_key="simulated") as inner:
            create = wrap(inner, "blue-tokai", client=books.client).chat.completions.create
            await asyncio.gather(*(create(**ASK, field=f"f{number}") for number in range(8)))

    books.plan(*[{"status": 429, "retry_after": 0.01}] * 3)
    asyncio.run(run())
    fields: dict[str, list[str]] = {}
    for event in books.events():
        fields.setdefault(event["field"], []).append(event["outcome"])
    assert len(fields) == 8
    assert all(outcomes.pop() == "success" for outcomes in fields.values())
    assert [what for failed in fields.values() for what in failed] == ["rate_limited"] * 3
    books.check_exact()


def test_a_call_cancelled_between_two_attempts_has_the_one(books: Books) -> None:
    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=books.provider, api_key="simulated") as inner:
            llm = wrap(inner, "blue-tokai", "notes", client=books.client)
            call = asyncio.create_task(llm.chat.completions.create(**ASK))
            await asyncio.to_thread(until, books.outcomes)
            call.cancel()
            await call

    books.plan({"status": 429, "retry_after": 60})
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    assert books.outcomes() == [LIMITED]


def test_a_library_whose_http_client_is_not_found_is_named_in_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client_module._next_warning.clear()
    completions = SimpleNamespace(create=lambda **_: {"id": "a", "usage": {"prompt_tokens": 3}})
    llm = SimpleNamespace(max_retries=2, chat=SimpleNamespace(completions=completions))
    wrap(llm, client=Client(tmp_path / "spool")).chat.completions.create(model="m")
    assert "SimpleNamespace has no http client to watch" in caplog.text
    assert len(Reader(tmp_path / "spool").read(retire=False).events) == 1


# --- streams ---


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def test_a_stream_is_booked_exactly_and_looks_as_if_nothing_was_asked(books: Books) -> None:
    chunks = list(books.llm().chat.completions.create(**ASK, stream=True))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert text_of(chunks) == "ok " * 20
    assert books.outcomes() == [SUCCESS]
    assert books.events()[0]["id"] == chunks[0].id
    books.check_exact()


def test_a_caller_who_asks_for_the_usage_gets_it(books: Books) -> None:
    options = {"include_usage": True}
    chunks = list(books.llm().chat.completions.create(**ASK, stream=True, stream_options=options))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 20
    assert books.outcomes() == [SUCCESS]


def test_a_caller_who_stops_at_the_finish_reason_is_booked_exactly(books: Books) -> None:
    for chunk in books.llm().chat.completions.create(**ASK, stream=True):
        if chunk.choices[0].finish_reason:
            break
    assert books.outcomes() == [SUCCESS]
    books.check_exact()


@pytest.mark.parametrize("how", ["break", "close", "with", "never read"])
def test_a_stream_left_by_its_caller_is_booked_by_what_was_seen(books: Books, how: str) -> None:
    stream = books.llm().chat.completions.create(**ASK, stream=True)
    seen = 0
    if how == "with":
        with stream:
            next(stream)
            seen = 1
    elif how != "never read":
        for _ in stream:
            seen += 1
            if seen == 3:
                break
    if how == "close":
        stream.close()
    del stream
    assert books.outcomes() == [GUESSED]
    usage = books.events()[0]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (GUESSED_PROMPT, seen)


def test_a_stream_that_breaks_raises_and_is_booked_by_what_was_seen(books: Books) -> None:
    books.plan({"abort_after": 4})
    chunks = []
    with pytest.raises(openai.APIConnectionError):
        chunks.extend(books.llm().chat.completions.create(**ASK, stream=True))
    assert books.outcomes() == [GUESSED_ERROR]
    assert books.events()[0]["usage"]["completion_tokens"] == 4


def test_a_refused_stream_is_tried_again(books: Books) -> None:
    books.plan({"status": 429, "retry_after": 0.01})
    assert len(list(books.llm().chat.completions.create(**ASK, stream=True))) == 21
    assert books.outcomes() == [LIMITED, SUCCESS]
    books.check_exact()


def test_without_include_usage_a_stream_is_estimated(books: Books) -> None:
    llm = books.llm(include_usage=False)
    assert len(list(llm.chat.completions.create(**ASK, stream=True))) == 21
    assert books.outcomes() == [GUESSED]
    assert books.events()[0]["usage"]["completion_tokens"] == 20


@pytest.mark.parametrize("how", ["read", "stop", "break", "broken"])
def test_async_streams_are_booked_alike(books: Books, how: str) -> None:
    async def consume(stream: Any) -> None:
        async for chunk in stream:
            if how == "break" or (how == "stop" and chunk.choices[0].finish_reason):
                break

    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=books.provider, api_key="simulated") as inner:
            llm = wrap(inner, "blue-tokai", "notes", client=books.client)
            async with await llm.chat.completions.create(**ASK, stream=True) as stream:
                await consume(stream)

    if how == "broken":
        books.plan({"abort_after": 1})
        with pytest.raises(openai.APIConnectionError):
            asyncio.run(run())
    else:
        asyncio.run(run())
    expected = {"broken": GUESSED_ERROR, "break": GUESSED}
    assert books.outcomes() == [expected.get(how, SUCCESS)]
    usage = books.events()[0]["usage"]
    assert usage["completion_tokens"] == (20 if how in ("read", "stop") else 1)


def test_an_async_stream_that_is_cancelled_is_booked_by_what_was_seen(books: Books) -> None:
    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=books.provider, api_key="simulated") as inner:
            llm = wrap(inner, "blue-tokai", "notes", client=books.client)
            async with asyncio.timeout(0.3):
                async for _ in await llm.chat.completions.create(**ASK, stream=True):
                    await asyncio.sleep(30)

    with pytest.raises(TimeoutError):
        asyncio.run(run())
    assert books.outcomes() == [GUESSED]


# --- other clients ---


def test_any_client_of_that_shape_will_do(tmp_path: Path) -> None:
    """A dict for an answer, a list of dicts for a stream, no retries to take over."""
    client = Client(tmp_path / "spool")
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    chunks = [
        {"id": "s", "choices": [{"delta": {"content": "a"}}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": usage},
    ]

    def create(stream: bool = False, **request: Any) -> Any:
        assert ("stream_options" in request) is stream
        return chunks if stream else {"id": "a", "usage": usage}

    duck = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    llm = wrap(duck, client=client)
    assert llm.chat.completions.create(model="m", roaster="r", field="f")["id"] == "a"
    assert list(llm.chat.completions.create(model="m", stream=True)) == chunks[:2]
    found = Reader(tmp_path / "spool").read(retire=False).events
    assert [event["usage"]["prompt_tokens"] for event in found.values()] == [3, 3]
    assert list(found) == ["a", "s"]


def test_an_answer_that_could_not_be_parsed_was_billed_all_the_same(tmp_path: Path) -> None:
    client = Client(tmp_path / "spool")

    def parse(**_: Any) -> Any:
        error = ValueError("cut off by max_tokens")
        error.completion = {"id": "a", "usage": {"prompt_tokens": 3}}  # type: ignore[attr-defined]
        raise error

    duck = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(parse=parse)))
    with pytest.raises(ValueError, match="cut off"):
        wrap(duck, client=client).chat.completions.parse(model="m")
    (event,) = Reader(tmp_path / "spool").read(retire=False).events.values()
    assert (event["id"], event["usage"]["prompt_tokens"]) == ("a", 3)


class Odd:
    """An object that answers anything, and nothing sensible."""

    def __getattr__(self, name: str) -> object:
        if name in ("id", "usage", "choices", "content"):
            return object()
        raise AttributeError(name)


@pytest.mark.parametrize("stream", [False, True])
def test_whatever_a_client_returns_reaches_the_caller(tmp_path: Path, stream: bool) -> None:
    result: Any = [Odd(), Odd()] if stream else Odd()
    duck = SimpleNamespace(
        chat=SimpleNamespace(completions=SimpleNamespace(create=lambda **_: result))
    )
    llm = wrap(duck, client=Client(tmp_path / "spool"))
    messages = [Odd(), {"content": [Odd()]}, float("nan")]
    got = llm.chat.completions.create(model="m", messages=messages, stream=stream)
    assert (list(got) if stream else got) == result
    assert len(Reader(tmp_path / "spool").read(retire=False).events) == 1
