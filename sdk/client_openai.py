"""Optional, beside client.py: an OpenAI client that records its calls by itself.

    from client_openai import wrap

    llm = wrap(OpenAI(), roaster="blue-tokai")       # or AsyncOpenAI, or whatever has that shape
    llm.chat.completions.create(…, field="notes")    # field=, roaster=: for the ledger only

Each attempt that the library makes is an event, and so is each stream; what costs money and cannot
be metered is refused. Standard library only, Python 3.9+; openai itself is not imported. Everything
else: docs/adopt.md of llm-budget.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING or __package__:
    from . import client as base
else:  # this file and client.py lie flat in a program's folder
    import client as base

__all__ = ["wrap"]

UNSEEN_COMPLETION_TOKENS = 1024  # an answer nobody saw, when the request set no max_tokens
FAR_BELOW = 10  # a tenth of the text's estimate is no count but a placeholder

# From the root of the client. Streams of the first are asked for their usage, the others tell it.
_ASKED = {"chat.completions.create", "chat.completions.parse", "chat.completions.stream",
          "completions.create"}  # fmt: skip
_METERED = {"responses.create", "responses.parse", "responses.stream", "responses.compact",
            "embeddings.create", *_ASKED}  # fmt: skip
_LEADING = {"", "chat", *(path.rpartition(".")[0] for path in _METERED)}
_TRANSPARENT = {"beta", "with_raw_response"}  # below them are the same methods once more
_COPIES = {"with_options", "copy"}
# What costs nothing: methods, wherever they are, and paths. Any other method is refused.
_FREE = {
    "list", "retrieve", "update", "delete", "cancel", "content", "count", "get", "close",
    "is_closed", "unwrap", "verify_signature", "retrieve_content", "wait_for_processing",
    "files.create", "uploads.create", "uploads.complete", "uploads.upload_file_chunked",
    "uploads.parts.create", "moderations.create",
}  # fmt: skip
_PROMPT = ("messages", "prompt", "suffix", "input", "instructions", "tools", "functions")
_SETTINGS = {"base_url", "websocket_base_url", "timeout", "default_headers", "default_query", "qs"}
_VALUES = (str, bytes, int, float, dict, list, tuple, type(None))
# Names of errors, so that no library is imported: the first win over the second.
_NOT_REACHED = {
    "ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol",
    "ConnectionRefusedError", "NewConnectionError", "NameResolutionError", "gaierror",
}  # fmt: skip
_PERHAPS_REACHED = ("Timeout", "TimeoutError", "TimeoutException", "ConnectionError",
                    "ProtocolError", "ReadError", "WriteError", "NetworkError")  # fmt: skip


def wrap(
    llm: Any,
    roaster: str | None = None,
    field: base.Field | None = None,
    *,
    client: base.Client | None = None,
    retries: int | None = None,
    include_usage: bool = True,
    ids: str = "provider",
) -> Any:
    """An OpenAI-compatible client (sync or async) that records each attempt of each call.

    roaster and field: the defaults; each call may say its own, create(…, roaster=…, field=…,
    batch_items=…, batch_slots=…). The library retries as ever (retries overrides its max_retries).
    include_usage=False: for a provider that refuses stream_options; its streams are estimated.
    ids="own": for a provider whose ids repeat. Raises ValueError for a wrapped client; a method
    that costs money and is not metered raises AttributeError when it is reached.
    """
    if isinstance(llm, _Wrapped):
        raise ValueError("this client is wrapped already: each of its calls would count twice")
    if retries is not None:
        llm = llm.with_options(max_retries=retries)
    labels = {"roaster": roaster, "field": field, "batch_items": 0, "batch_slots": 0}
    settings = _Settings(client, labels, include_usage, base.own_ids(ids))
    return _Wrapped(_with_watched_http(llm), "", settings)


class _Settings(NamedTuple):
    """What one wrap() says about all its calls."""

    client: base.Client | None
    labels: dict[str, Any]
    include_usage: bool
    own_ids: bool


class _Wrapped:
    """A wrapped client, or what leads from it to a method."""

    def __init__(self, inner: Any, path: str, settings: _Settings) -> None:
        self._inner, self._path, self._settings = inner, path, settings

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # not the client's, and asked for by copy and pickle
            raise AttributeError(name)
        path = self._path if name in _TRANSPARENT else f"{self._path}.{name}".strip(".")
        found = getattr(self._inner, name)
        if path in _METERED:
            return functools.partial(self._call, path, found)
        if path in _COPIES:
            return functools.partial(self._copy, found)
        if path in _SETTINGS or isinstance(found, _VALUES):
            return found
        if callable(found) and not _FREE.isdisjoint((name, path)):
            return found
        is_method = inspect.isroutine(found) if path in _LEADING else callable(found)
        if name == "with_streaming_response" or is_method:
            raise AttributeError(
                f"{type(self._inner).__name__}.{name} would go past the meter, which knows only "
                "chat.completions, completions, responses and embeddings: call it on the client "
                "that was given to wrap(), and record() what it cost"
            )
        return _Wrapped(found, path, self._settings)

    def _call(self, path: str, method: Callable[..., Any], *args: Any, **request: Any) -> Any:
        if request.get("background"):
            raise ValueError(
                "background=True is answered later, past the meter: call it on the client that was "
                "given to wrap(), and record() the response when it is complete"
            )
        call = _Call(path, request, self._settings)
        return call.run(lambda: method(*args, **call.request), call.answered)

    def _copy(self, make: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return _Wrapped(_with_watched_http(make(*args, **options)), "", self._settings)


# --- calls and their attempts -------------------------------------------------------------------


# The call that the http client is sending for: in this thread, in this task.
_call_under_way: contextvars.ContextVar[_Call | None] = contextvars.ContextVar(
    "llm_budget_call", default=None
)


class _Call:
    """One call of a metered method: records each attempt, once."""

    def __init__(self, path: str, request: dict[str, Any], settings: _Settings) -> None:
        self._settings = settings
        self._labels = {key: request.pop(key, value) for key, value in settings.labels.items()}
        self._streams = path.endswith(".stream") or bool(request.get("stream"))
        self._hide_usage = False
        self.request = request
        if self._streams and path in _ASKED and settings.include_usage:
            options = request.get("stream_options")
            options = options if isinstance(options, dict) else {}
            self._hide_usage = not options.get("include_usage")
            self.request = {**request, "stream_options": {**options, "include_usage": True}}
        self._unseen = 0 if path == "embeddings.create" else _limit(request)
        self.begin_attempt()

    def run(self, make: Callable[[], Any], then: Callable[[Any], Any]) -> Any:
        """then(make()), with this call under way; of an async client the coroutine that does it."""
        with self._under_way():
            result = make()
        return self._run_async(result, then) if inspect.isawaitable(result) else then(result)

    async def _run_async(self, result: Any, then: Callable[[Any], Any]) -> Any:
        with self._under_way():
            result = await result
        return then(result)

    @contextlib.contextmanager
    def _under_way(self) -> Iterator[None]:
        """What the http client sends meanwhile are this call's attempts."""
        before = _call_under_way.get()
        _call_under_way.set(self)
        try:
            yield
        except BaseException as error:
            self._failed(error)
            raise
        finally:
            _call_under_way.set(before)

    def begin_attempt(self) -> None:
        self._started = time.monotonic()
        self._recorded = False
        self._response: Any = None
        self._seen = _Seen()
        self._unread = 0  # completion tokens of a stream that was not read here
        self._waiting: list[Any] = []
        self._broken: Exception | None = None

    def answered(self, result: Any) -> Any:
        """The result for the caller: recorded, or as a stream that is recorded at its end."""
        kind, has = type(result), functools.partial(hasattr, result)
        raw = hasattr(kind, "parse") and hasattr(kind, "http_request")
        if not self._streams:
            self._answered(_json_of(result.http_response) if raw else result)
        elif raw:  # with_raw_response: its stream may be read past parse(), too
            self._unread = self._unseen
            stream = _Stream(result.parse(), self)
            result.parse = lambda: stream
        elif (has("__exit__") or has("__aexit__")) and not (has("__next__") or has("__anext__")):
            return _Manager(result, self)
        else:
            return _Stream(result, self)
        return result

    def sent(self, response: Any) -> Any:
        """The HTTP response, for the library; recorded if it is an error, which is not billed."""
        if response.is_success:
            self._response = response
        else:
            self._refused(response.status_code)
        return response

    def _answered(self, answer: Any) -> None:
        """Record an answer that is not a stream."""
        self._seen.take(answer)
        if self._seen.outcome == "error" and not (self._seen.usage() or self._seen.tokens):
            self._record("error", None)
        else:
            self._record_seen(self._unseen)

    def _failed(self, error: BaseException) -> None:
        """Record what ended in an error, unless it was recorded when it was sent."""
        # Perhaps answered and billed, but not what the library, or the caller's model, can parse.
        answer = getattr(error, "completion", None) or _json_of(self._response)
        status = getattr(error, "status_code", None)
        if answer is not None:
            self._answered(answer)
        elif self._response is None and (isinstance(status, int) or not _perhaps_reached(error)):
            self._refused(status)
        else:
            self._record("error", self._estimate(self._unseen), True)

    def _refused(self, status: Any) -> None:
        self._record("rate_limited" if status == 429 else "error", None)

    def chunk_read(self, chunk: Any) -> list[Any]:
        """Take note of a stream's chunk; which ones the caller may have now.

        The usage follows the chunk that says why the answer ended. That one waits for it, so that
        a caller who stops there is recorded exactly.
        """
        self._seen.take(chunk)
        has_usage = base.get(chunk, "usage") is not None
        if self._hide_usage and has_usage and not base.get(chunk, "choices"):
            return []
        ready = [*self._waiting, chunk]
        self._waiting = [ready.pop()] if self._seen.finished else []
        return ready

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Records a stream that ends or breaks. Its error waits for rest(), a cancellation not."""
        try:
            yield
            self.stream_ended()
        except GeneratorExit:  # left by the caller
            raise
        except BaseException as error:
            self._seen.outcome = "error"
            self.stream_ended()
            if not isinstance(error, Exception):
                raise
            self._broken = error

    def rest(self) -> Iterator[Any]:
        """The chunk that waited, if any; then the error."""
        yield from self._waiting
        if self._broken:
            raise self._broken

    def stream_ended(self) -> None:
        """The stream is over: read to its end or left by the caller, or broken by an error."""
        if not self._recorded:
            self._record_seen(self._unread)

    def _record_seen(self, unseen: int) -> None:
        """By the provider's figures where they are plausible, else by the text that was seen.

        An answer's usage that cannot be counted goes to the exporter, which refuses it.
        """
        usage, said, outcome = self._seen.usage(), self._seen.tokens, self._seen.outcome
        prompt, completion = _counts(usage)
        if self._streams and prompt * FAR_BELOW < self._estimate(0)["prompt_tokens"]:
            prompt = 0
        if completion * FAR_BELOW < said or (self._streams and not completion):
            completion = 0
        elif prompt:
            return self._record(outcome, usage)
        if not self._streams and base.count_or_problem(usage, True)[1]:
            return self._record(outcome, usage)
        estimate = self._estimate(completion or said or unseen, prompt)
        total = usage.get("total_tokens")
        if isinstance(total, int):  # evidence, too
            estimate["completion_tokens"] += max(0, total - sum(estimate.values()))
        return self._record(outcome, estimate, True)

    def _estimate(self, completion: int, prompt: int = 0) -> dict[str, int]:
        asked = [self.request.get(key) for key in _PROMPT]
        guess = base.estimate_tokens(base.prompt_text(asked)) + _token_ids(asked)
        return {"prompt_tokens": prompt or max(1, guess), "completion_tokens": completion}

    def _record(self, outcome: str, usage: Any, estimated: bool = False) -> None:
        if self._recorded:  # each attempt once: by what the http client sees of it first
            return
        self._recorded = True
        asked_tier = self.request.get("service_tier")
        (self._settings.client or base.default_client()).record(
            response=self._seen.head,
            outcome=outcome,
            usage=usage,
            estimated=estimated,
            model=self._seen.head.get("model") or self.request.get("model"),
            service_tier=self._seen.head.get("service_tier")
            or (asked_tier if isinstance(asked_tier, str) else None),
            event_id=uuid.uuid4().hex if self._settings.own_ids else None,
            duration_seconds=time.monotonic() - self._started,
            **self._labels,
        )


def _limit(request: dict[str, Any]) -> int:
    """Tokens of an answer that nobody saw: as many as the request allows."""
    limits = map(request.get, ("max_completion_tokens", "max_output_tokens", "max_tokens"))
    return next((limit for limit in limits if isinstance(limit, int)), UNSEEN_COMPLETION_TOKENS)


def _token_ids(asked: Any) -> int:
    """A prompt or an input may be token ids instead of text."""
    if isinstance(asked, (list, tuple)):
        return sum(map(_token_ids, asked))
    return int(isinstance(asked, int))


def _json_of(response: Any) -> Any:
    """The body of an HTTP response; None when it was not read, or is no JSON object."""
    try:
        body = response.json()
    except Exception:  # of whatever HTTP library
        return None
    return body if isinstance(body, dict) else None


def _perhaps_reached(error: BaseException) -> bool:
    """Whether the provider may have worked (and billed) for a request that failed."""
    if not isinstance(error, Exception):  # cancelled, by asyncio.wait_for for example
        return True
    names: set[str] = set()  # of the error's classes, and of its causes'
    cause: BaseException | None = error
    for _ in range(8):
        if cause is not None:
            names |= {kind.__name__ for kind in type(cause).__mro__}
            cause = cause.__cause__ or cause.__context__
    return not names & _NOT_REACHED and any(name.endswith(_PERHAPS_REACHED) for name in names)


# --- the library's http client ------------------------------------------------------------------


def _with_watched_http(llm: Any) -> Any:
    """The client with an http client whose send() is watched: one send is one attempt.

    `_client` is where openai, and libraries made like it, keep what `http_client=` was.
    """
    original = getattr(llm, "_client", None)
    retries = isinstance(getattr(llm, "max_retries", None), int)
    if not retries or isinstance(original, _WatchedHttp):
        return llm
    if not (hasattr(llm, "with_options") and hasattr(original, "send")):
        name = type(llm).__name__
        base.warn("wrap", f"{name} has no http client to watch: its own retries are not recorded")
        return llm
    kind = type("WatchedHttp", (_WatchedHttp, type(original)), {"__slots__": ("original",)})
    watched: Any = object.__new__(kind)
    watched.__dict__ = original.__dict__
    watched.original = original
    return llm.with_options(http_client=watched)


class _WatchedHttp:
    """Before the class of the user's http client, whose state it shares (proxies, hooks, pool).

    It keeps the original, which closes the connections when Python collects it.
    """

    __slots__ = ()
    original: Any

    def send(self, request: Any, **options: Any) -> Any:
        """As the original does; sent for a call, it is an attempt of that call."""
        call = _call_under_way.get()
        if call is None:
            return self.original.send(request, **options)
        call.begin_attempt()
        return call.run(lambda: self.original.send(request, **options), call.sent)

    def __del__(self) -> None:
        """Closes nothing."""


# --- answers and streams ------------------------------------------------------------------------


class _Seen:
    """What an answer, or a stream so far, has shown: id and model, text, usage."""

    def __init__(self) -> None:
        self.head: dict[str, Any] = {}
        self.tokens = 0  # of the text, estimated
        self.outcome = "success"
        self.finished = False  # the last chunk said why the answer ended
        self._usage: dict[str, Any] = {}
        self._by_choice: dict[Any, dict[str, Any]] = {}  # None: of the whole answer

    def take(self, chunk: Any) -> None:
        """Take note of a chunk, or of a whole answer. Never raises, whatever it is made of."""
        try:
            kind = base.get(chunk, "type")  # of an event: the Responses API's, or Anthropic's
            kind = kind if isinstance(kind, str) else ""
            inner = kind and (base.get(chunk, "response") or base.get(chunk, "message"))
            body = inner or chunk
            for key in ("id", "model", "service_tier"):  # Azure's first chunk has empty ones
                self.head[key] = self.head.get(key) or base.get(body, key)
            if kind == "error" or base.get(body, "error"):
                self.outcome = "error"
            choices = list(base.get(body, "choices") or ())
            self.finished = any(base.get(choice, "finish_reason") for choice in choices)
            said = choices or self._of_event(kind, chunk, base.get(body, "output"))
            if text := base.answer_text(said):  # providers send about one token a chunk
                self.tokens += max(1, base.estimate_tokens(text))
            self._take_usage(body, choices)
        except Exception as error:
            base.warn("chunk", f"cannot read part of an answer: {type(error).__name__}: {error}")

    def _take_usage(self, body: Any, choices: list[Any]) -> None:
        """At the usual place, at Groq's, or in each choice (Moonshot's)."""
        usage = base.get(body, "usage") or base.get(base.get(body, "x_groq"), "usage")
        found = [(usage, choices[0] if len(choices) == 1 else None)]
        for usage, choice in [*found, *((base.get(choice, "usage"), choice) for choice in choices)]:
            if usage:
                usage = base.as_json(usage)
                _fill(self._usage, usage)
                _fill(self._by_choice.setdefault(base.get(choice, "index"), {}), usage)

    def _of_event(self, kind: str, chunk: Any, whole: Any) -> Any:
        """What an event says; the whole answer only if it did not come in pieces before."""
        if kind.endswith("delta"):
            return None if kind == "response.audio.delta" else [base.get(chunk, "delta")]
        return None if kind and self.tokens else whole

    def usage(self) -> dict[str, Any]:
        """The provider's figures: each key's last value that is not empty.

        Some report each choice's own figures beside it (vLLM, continuous_usage_stats), others the
        whole answer's beside each choice: without a last word on all, the text tells which.
        """
        if len(self._by_choice) < 2:
            return self._usage
        parts = {index: _counts(usage)[1] for index, usage in self._by_choice.items()}
        whole, last = parts.pop(None, 0), _counts(self._usage)[1]
        total = sum(parts.values())
        if whole or abs(total - self.tokens) >= abs(last - self.tokens):
            return self._usage
        rest = {key: value for key, value in self._usage.items() if key != "total_tokens"}
        return {**rest, "completion_tokens": total}


def _fill(known: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
    """known, with what is not empty in usage: a zero never takes the place of a count."""
    for key, value in usage.items():
        value = _fill(dict(known.get(key) or {}), value) if isinstance(value, dict) else value
        if value:
            known[key] = value
    return known


def _counts(usage: Any) -> tuple[int, int]:
    """Prompt and completion tokens that are named; 0 where unknown."""
    tokens = base.count_or_problem(usage, False)[0] or base.Tokens(0, 0, 0, {})
    return tokens.prompt, tokens.completion - tokens.extras.get("unexplained", 0)


def _chunks(stream: Any, call: _Call) -> Iterator[Any]:
    with call.reading():
        for chunk in stream:
            yield from call.chunk_read(chunk)
    yield from call.rest()


async def _chunks_async(stream: Any, call: _Call) -> AsyncIterator[Any]:
    with call.reading():
        async for chunk in stream:
            for ready in call.chunk_read(chunk):
                yield ready
    for ready in call.rest():
        yield ready


class _Stream(
    Iterator[Any],
    AsyncIterator[Any],
    contextlib.AbstractContextManager[Any],
    contextlib.AbstractAsyncContextManager[Any],
):
    """A stream of chunks, sync or async, that is recorded when it ends, breaks or is left."""

    def __init__(self, stream: Any, call: _Call) -> None:
        self._call, self._stream = call, stream
        read: Any = _chunks_async if hasattr(stream, "__aiter__") else _chunks
        self._chunks = read(stream, call)

    def __next__(self) -> Any:
        return next(self._chunks)

    def __anext__(self) -> Any:
        return self._chunks.__anext__()

    def close(self) -> Any:
        """Of an async stream: to be awaited, as ever."""
        self._call.stream_ended()
        return self._stream.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __del__(self) -> None:
        self._call.stream_ended()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._stream, name)


class _Manager(contextlib.AbstractContextManager[Any], contextlib.AbstractAsyncContextManager[Any]):
    """`with ….stream(…) as events:` the chunks beneath the library's events are metered."""

    def __init__(self, manager: Any, call: _Call) -> None:
        self._manager, self._call = manager, call

    def __enter__(self) -> Any:
        return self._call.run(self._manager.__enter__, self._metered)

    async def __aenter__(self) -> Any:
        return await self._call.run(self._manager.__aenter__, self._metered)

    def _metered(self, events: Any) -> Any:
        """`_raw_stream` is where openai keeps the chunks that its events are made from."""
        chunks = _Stream(getattr(events, "_raw_stream", ()), self._call)
        if not hasattr(events, "_raw_stream"):
            raise TypeError(f"{type(events).__name__} cannot be metered: use create(stream=True)")
        events._raw_stream = chunks
        return events

    def __exit__(self, *error: Any) -> Any:
        self._call.stream_ended()
        return self._manager.__exit__(*error)

    async def __aexit__(self, *error: Any) -> Any:
        self._call.stream_ended()
        return await self._manager.__aexit__(*error)
