"""A DeepSeek-compatible provider on loopback, from its public API documentation.

POST /chat/completions (and /v1/…), streaming and not, with the usage object and its cache-hit
tokens; GET /user/balance; errors in its form. Not DeepSeek's: a token is a word, an answer is
max_tokens long, /sim/usage says what was really served, and POST /sim/faults (a list, one for each
of the next completions) makes it fail as the real one does: {"status": 429, "retry_after": 1},
{"delay": 2.5}, {"abort_after": 3} (chunks of a stream; 0: no answer at all), {"usage": false}.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from common.errors import UserError
from common.http import bind, parse_listen
from common.server import serve

CACHE_UNIT = 64  # context caching works on prefixes in units of 64 tokens
MAX_PREFIXES = 100_000
DEFAULT_ANSWER_TOKENS = 32
MODELS = ("deepseek-chat", "deepseek-reasoner")
# USD a token: input (cache miss), input (cache hit), output.
PRICES = (Decimal("0.00000027"), Decimal("0.00000007"), Decimal("0.00000110"))
FAULTS = {429: "rate_limit_reached", 500: "server_error", 503: "server_overloaded"}
INVALID = "invalid_request_error"
Json = dict[str, Any]


class ApiError(Exception):
    """An error answer in the API's form."""

    def __init__(self, status: int, kind: str, message: str, **headers: str) -> None:
        super().__init__(message)
        body = {"error": {"message": message, "type": kind, "param": None, "code": kind}}
        self.answer = JSONResponse(body, status, headers)


class Provider:
    """The account: balance, prefix cache, totals."""

    def __init__(self, balance: Decimal) -> None:
        self.balance = balance
        self.prefixes: set[int] = set()
        self.faults: deque[Json] = deque()
        self.served = Counter(requests=0, prompt_tokens=0, cached_tokens=0, completion_tokens=0)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/chat/completions", self.complete, methods=["POST"]),
                Route("/v1/chat/completions", self.complete, methods=["POST"]),
                Route("/user/balance", self.user_balance),
                Route("/health", lambda _: JSONResponse({"status": "ok"})),
                Route("/sim/usage", lambda _: JSONResponse(self.served)),
                Route("/sim/faults", self.plan, methods=["POST"]),
            ],
            exception_handlers={ApiError: lambda _, error: error.answer},
        )

    async def plan(self, request: Request) -> Response:
        """How the next completions fail."""
        self.faults.extend(await request.json())
        return JSONResponse({})

    async def complete(self, request: Request) -> Response:
        asked = await _read(request)
        if self.balance <= 0:
            raise ApiError(402, "insufficient_balance", "Insufficient Balance")
        fault = self.faults.popleft() if self.faults else {}
        if status := fault.get("status"):
            headers = {"retry-after": str(fault["retry_after"])} if "retry_after" in fault else {}
            raise ApiError(status, FAULTS.get(status, "error"), "as planned", **headers)
        words = " ".join(str(m.get("content", "")) for m in asked["messages"]).split()
        tokens, abort_after = asked.get("max_tokens"), fault.get("abort_after")
        answer = (["ok"] * int(tokens or DEFAULT_ANSWER_TOKENS))[:abort_after]
        usage: Json | None = self._charge(words, len(answer))
        if not fault.get("usage", True):
            usage = None
        await asyncio.sleep(fault.get("delay", 0))
        identity = {
            "id": f"chatcmpl-{self.served['requests']:012d}-{time.time_ns():x}",
            "created": int(time.time()),
            "model": asked["model"],
            "system_fingerprint": "fp_simulated",
        }
        if asked.get("stream"):
            with_usage = (asked.get("stream_options") or {}).get("include_usage")
            stream = _stream(identity, answer, usage if with_usage else None, abort_after)
            return StreamingResponse(stream, media_type="text/event-stream")
        if abort_after is not None:
            broken = _stream(identity, [], None, abort_after)
            return StreamingResponse(broken, media_type="application/json")
        message = {"role": "assistant", "content": " ".join(answer)}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        body = identity | {"object": "chat.completion", "choices": [choice]}
        return JSONResponse(body | ({"usage": usage} if usage else {}))

    async def user_balance(self, request: Request) -> Response:
        _authenticate(request)
        left = f"{max(self.balance, Decimal(0)):.2f}"
        parts = {"total_balance": left, "granted_balance": "0.00", "topped_up_balance": left}
        infos = [{"currency": "USD", **parts}]
        return JSONResponse({"is_available": self.balance > 0, "balance_infos": infos})

    def _charge(self, words: list[str], completion: int) -> Json:
        """The usage object; the longest prefix seen before is a cache hit."""
        cached = 0
        for end in range(CACHE_UNIT, len(words) + 1, CACHE_UNIT):
            prefix = hash(tuple(words[:end]))
            if prefix in self.prefixes:
                cached = end
            elif len(self.prefixes) < MAX_PREFIXES:
                self.prefixes.add(prefix)
        prompt, (miss, hit, output) = len(words), PRICES
        self.balance -= (prompt - cached) * miss + cached * hit + completion * output
        counts = {"prompt_tokens": prompt, "completion_tokens": completion}
        self.served.update(requests=1, cached_tokens=cached, **counts)
        return counts | {
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
            "prompt_cache_hit_tokens": cached,
            "prompt_cache_miss_tokens": prompt - cached,
        }


def _authenticate(request: Request) -> None:
    if not request.headers.get("authorization", "").startswith("Bearer "):
        raise ApiError(401, "authentication_error", "Authentication Fails (no such user)")


async def _read(request: Request) -> Json:
    _authenticate(request)
    try:
        asked = await request.json()
    except ValueError as error:
        raise ApiError(400, INVALID, f"Failed to parse the body: {error}") from error
    if not isinstance(asked, dict) or asked.get("model") not in MODELS:
        raise ApiError(400, INVALID, "Model Not Exist")
    messages = asked.get("messages")
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise ApiError(422, INVALID, "messages: a list of objects is required")
    return asked


async def _stream(
    identity: Json, answer: list[str], usage: Json | None, abort_after: int | None
) -> AsyncIterator[str]:
    """Server-sent events: chunks, then (when asked for) one with the usage, then [DONE]."""
    base = identity | {"object": "chat.completion.chunk"}

    def chunk(choices: list[Json], usage: Json | None = None) -> str:
        return f"data: {json.dumps(base | {'choices': choices, 'usage': usage})}\n\n"

    for word in answer:
        yield chunk([{"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}])
        await asyncio.sleep(0)
    if abort_after is not None:
        raise ConnectionAbortedError("as planned")
    yield chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    if usage is not None:
        yield chunk([], usage)
    yield "data: [DONE]\n\n"


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m demo.provider")
    parser.add_argument("--listen", default="127.0.0.1:8002", metavar="HOST:PORT")
    parser.add_argument("--balance", type=Decimal, default=Decimal(100), metavar="USD")
    arguments = parser.parse_args()
    try:
        asyncio.run(serve(Provider(arguments.balance).app(), bind(*parse_listen(arguments.listen))))
    except UserError as error:
        sys.exit(f"provider: {error}")


if __name__ == "__main__":
    main()
