"""Optional, beside client.py: an OpenAI client that records its completions by itself.

    from client_openai import wrap

    llm = wrap(OpenAI(), roaster="blue-tokai")       # or AsyncOpenAI, or whatever has that shape
    llm.chat.completions.create(…, field="notes")    # field=, roaster=: for the ledger only

Each attempt that the library makes is an event, and so is each stream. Standard library only,
Python 3.9+; openai itself is not imported. Everything else: docs/adopt.md of llm-budget.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from . import client as base
else:  # this file and client.py lie flat in a program's folder
    import client as base

__all__ = ["wrap"]

UNSEEN_COMPLETION_TOKENS = 1024  # an answer nobody saw, when the request set no max_tokens

# From the root of the client: what is metered, what leads there, and what would go past the meter.
_METERED = {"chat.completions.create", "chat.completions.parse", "completions.create"}
_LEADING = {"chat", "chat.completions", "completions"}
_UNMETERED = {"stream", "with_raw_response", "with_streaming_response"}
_COPIES = {"with_options", "copy"}
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
) -> Any:
    """An OpenAI-compatible client (sync or async) that records each attempt of each completion.

    roaster and field: the defaults; each call may say its own, create(…, roaster=…, field=…,
    batch_items=…, batch_slots=…). The library retries as ever (retries overrides its max_retries).
    include_usage=False: for a provider that refuses stream_options; its streams are estimated.
    """
    if retries is not None:
        llm = llm.with_options(max_retries=retries)
    new_call = functools.partial(_Call, client, roaster, field, include_usage)
    return _Wrapped(_with_watched_http(llm), "", new_call)


class _Wrapped:
    """A wrapped object on the way to a metered method."""

    def __init__(self, inner: Any, path: str, new_call: Callable[..., _Call]) -> None:
        self._inner = inner
        self._path = path
        self._new_call = new_call

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # not the client's, and asked for by copy and pickle
            raise AttributeError(name)
        path = f"{self._path}.{name}" if self._path else name
        if name in _UNMETERED and (not self._path or self._path in _LEADING):
            raise AttributeError(
                f"{path} would go past the meter: use create(stream=…), or record() its response"
            )
        found = getattr(self._inner, name)
        if path in _METERED:
            return functools.partial(self._create, found)
        if path in _LEADING:
            return _Wrapped(found, path, self._new_call)
        return functools.partial(self._copy, found) if path in _COPIES else found

    def _create(self, create: Callable[..., Any], *args: Any, **request: Any) -> Any:
        call = self._new_call(request)
        return call.run(lambda: create(*args, **call.request), call.answered)

    def _copy(self, make: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return _Wrapped(_with_watched_http(make(*args, **options)), "", self._new_call)


# --- calls and their attempts -------------------------------------------------------------------


# The call that the http client is sending for: in this thread, in this task.
_call_under_way: contextvars.ContextVar[_Call | None] = contextvars.ContextVar(
    "llm_budget_call", default=None
)


class _Call:
    """One create(…): records each attempt, once."""

    def __init__(
        self,
        client: base.Client | None,
        roaster: str | None,
        field: base.Field | None,
        include_usage: bool,
        request: dict[str, Any],
    ) -> None:
        defaults = {"roaster": roaster, "field": field, "batch_items": 0, "batch_slots": 0}
        self._labels = {key: request.pop(key, value) for key, value in defaults.items()}
        self._client = client
        self.request = request
        self._hide_usage = False
        if request.get("stream") and include_usage:
            options = request.get("stream_options")
            options = options if isinstance(options, dict) else {}
            self._hide_usage = not options.get("include_usage")
            self.request = {**request, "stream_options": {**options, "include_usage": True}}
        self.begin_attempt()
        # Of a stream, so far:
        self._head: dict[str, Any] = {}
        self._usage: Any = None
        self._tokens_seen = 0
        self._waiting: list[Any] = []
        self._broken: Exception | None = None

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

    def answered(self, result: Any) -> Any:
        """The result for the caller: recorded, or as a stream that is recorded at its end."""
        if self.request.get("stream"):
            return _Stream(result, self)
        self._record(result)
        return result

    def sent(self, response: Any) -> Any:
        """The HTTP response, for the library; recorded if it is an error, which is not billed."""
        if not response.is_success:
            self._refused(response.status_code)
        return response

    def _failed(self, error: BaseException) -> None:
        """Record what ended in an error, unless it was recorded when it was sent."""
        completion = getattr(error, "completion", None)  # answered and billed, but not parsable
        status = getattr(error, "status_code", None)
        if base.get(completion, "usage") is not None:
            self._record(completion)
        elif isinstance(status, int):
            self._refused(status)
        elif _perhaps_reached(error):
            limit = self.request.get("max_completion_tokens") or self.request.get("max_tokens")
            unseen = limit if isinstance(limit, int) else UNSEEN_COMPLETION_TOKENS
            self._record_estimate(None, "error", unseen)
        else:
            self._record(None, "error")

    def _refused(self, status: int) -> None:
        self._record(None, "rate_limited" if status == 429 else "error")

    def chunk_read(self, chunk: Any) -> list[Any]:
        """Take note of a stream's chunk; which ones the caller may have now.

        The usage follows the chunk that says why the answer ended. That one waits for it, so that
        a caller who stops there is recorded exactly.
        """
        usage, choices = base.get(chunk, "usage"), base.get(chunk, "choices")
        if usage is not None:
            self._usage = usage
        if not self._head:
            self._head = {"id": base.get(chunk, "id"), "model": base.get(chunk, "model")}
        text = base.answer_text(choices)
        if text:  # providers send about one token a chunk
            self._tokens_seen += max(1, base.estimate_tokens(text))
        if self._hide_usage and usage is not None and not choices:
            return []
        ready = [*self._waiting, chunk]
        self._waiting = [ready.pop()] if _finish_reason(chunk) else []
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
            self.stream_ended(error)
            if not isinstance(error, Exception):
                raise
            self._broken = error

    def rest(self) -> Iterator[Any]:
        """The chunk that waited, if any; then the error."""
        yield from self._waiting
        if self._broken:
            raise self._broken

    def stream_ended(self, error: BaseException | None = None) -> None:
        """The stream is over: read to its end or left by the caller, or broken by an error."""
        if self._usage is not None:
            self._record(self._head, usage=self._usage)
        else:
            outcome = "success" if error is None else "error"
            self._record_estimate(self._head, outcome, self._tokens_seen)

    def _record_estimate(self, response: Any, outcome: str, completion: int) -> None:
        prompt = base.estimate_tokens(base.prompt_text(self._prompt()))
        usage = {"prompt_tokens": prompt, "completion_tokens": completion}
        self._record(response, outcome, usage=usage, estimated=True)

    def _prompt(self) -> list[Any]:
        return [self.request.get(key) for key in ("messages", "prompt", "suffix", "tools")]

    def _record(self, response: Any, outcome: str = "success", **more: Any) -> None:
        if self._recorded:
            return
        self._recorded = True
        (self._client or base.default_client()).record(
            response=response,
            outcome=outcome,
            model=base.get(response, "model") or self.request.get("model"),
            duration_seconds=time.monotonic() - self._started,
            messages=self._prompt(),
            **self._labels,
            **more,
        )


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


# --- streams ------------------------------------------------------------------------------------


@base.tolerant
def _finish_reason(chunk: Any) -> str:
    """Why the answer ended; empty in every chunk but its last."""
    reasons = [base.get(choice, "finish_reason") for choice in base.get(chunk, "choices") or ()]
    return "".join(filter(None, reasons))


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
        self._call = call
        self._stream = stream
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
