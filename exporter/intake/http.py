"""POST /v1/usage: an object, an array or NDJSON; answered when what it accepts is on disk."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from common.clock import Clock
from common.http import NOT_JSON, BodyBounds, HttpError, json_response, require_content
from common.server import MAX_CONNECTIONS
from exporter.config import Limits
from exporter.event import EventError, UsageEvent, parse_event
from exporter.intake.counters import IntakeMetrics
from exporter.ledger.ledger import Ledger

# JSON lines under every name that shippers give them; the first is said in refusals.
NDJSON = tuple(f"application/{name}" for name in ("x-ndjson", "ndjson", "jsonl", "x-jsonlines"))
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SOURCE = "http"
# Bodies beyond this are read beside the event loop, one at a time: scrapes must not wait for them.
INLINE_BYTES = 64 << 10
# Fewer than the server's connections, so that ingest alone cannot take them all.
MAX_REQUESTS = MAX_CONNECTIONS * 3 // 4
MAX_BYTES = 64 << 20  # of all bodies together


@dataclass
class UsageEndpoint:
    """The endpoint; authorization is the caller's."""

    ledger: Ledger
    metrics: IntakeMetrics
    limits: Callable[[], Limits]  # those in force; asked once a request
    clock: Clock
    _body_bounds: BodyBounds = field(default_factory=partial(BodyBounds, MAX_REQUESTS, MAX_BYTES))
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def post(self, request: Request) -> Response:
        """Raises HttpError 400, 408, 413 or 415, or (try again) 503 or LedgerUnavailableError.

        Then nothing was booked.
        """
        ndjson = require_content(request, "application/json", *NDJSON) in NDJSON
        limits = self.limits()
        async with self._body_bounds.read(request, limits.body_bytes) as body:
            if len(body) <= INLINE_BYTES:
                return json_response(await self._book(self._parse(body, ndjson, limits)))
            async with self._one_at_a_time:
                parsed = await run_in_threadpool(self._parse, body, ndjson, limits)
            return json_response(await self._book(parsed))

    def _parse(self, body: bytes, ndjson: bool, limits: Limits) -> list[UsageEvent | EventError]:
        body = body.removeprefix(BYTE_ORDER_MARK)
        values = list(filter(bytes.strip, body.split(b"\n"))) if ndjson else _json(body)
        if len(values) > limits.batch_events:
            raise HttpError(413, f"more than {limits.batch_events} events in one request")
        received = self.clock.now()
        return [_event(value, received) for value in values]

    async def _book(self, parsed: list[UsageEvent | EventError]) -> dict[str, Any]:
        good = {i: event for i, event in enumerate(parsed) if isinstance(event, UsageEvent)}
        refused = {i: error for i, error in enumerate(parsed) if isinstance(error, EventError)}
        events, indexes = list(good.values()), list(good)
        result = await asyncio.wrap_future(self.ledger.submit(events))
        self.metrics.booked(SOURCE, events, result, list(refused.values()))
        refused |= {indexes[position]: error for position, error in result.rejected}
        return {
            "accepted": len(result.accepted),
            "duplicate": len(result.duplicates),
            "rejected": [
                {"index": index, "reason": f"{error.reason}: {error}"}
                for index, error in sorted(refused.items())
            ],
        }


def _event(value: Any, received: float) -> UsageEvent | EventError:
    """The event, or why it is refused. value: of JSON, or a line of it."""
    try:
        decoded = msgspec.json.decode(value) if isinstance(value, bytes) else value
        return parse_event(decoded, received)
    except NOT_JSON:
        return EventError("malformed", "this line is not JSON")
    except EventError as error:
        return error


def _json(body: bytes) -> list[Any]:
    try:
        value = msgspec.json.decode(body)
    except NOT_JSON as error:
        hint = f"; the Content-Type of JSON lines is {NDJSON[0]}" if b"\n" in body.strip() else ""
        raise HttpError(400, f"the body is not JSON: {error}{hint}") from error
    if not isinstance(value, dict | list):
        raise HttpError(400, "the body must be an event or an array of events")
    return value if isinstance(value, list) else [value]
