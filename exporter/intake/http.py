"""POST /v1/usage: an object, an array or NDJSON; answered when what it accepts is on disk."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from common.bodies import BodyBounds
from common.clock import Clock
from common.http import HttpError, json_response, require_content
from common.server import MAX_CONNECTIONS
from exporter.config import Limits
from exporter.event import EventError, UsageEvent, parse_event
from exporter.intake.counters import IntakeMetrics
from exporter.ledger.ledger import Ledger
from exporter.ledger.writer import LedgerUnavailableError

NDJSON = "application/x-ndjson"
CONTENT_TYPES = ("application/json", NDJSON)
SOURCE = "http"
_BAD_LINE = object()
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# Bodies beyond this are read beside the event loop, one at a time: scrapes must not wait for them.
INLINE_BYTES = 64 << 10
# Fewer than the server's connections, so that ingest alone cannot take them all.
MAX_REQUESTS = MAX_CONNECTIONS * 3 // 4
MAX_BYTES = 64 << 20  # of all bodies together
# The good events, their indexes in the request, and the refused ones.
Parsed = tuple[list[UsageEvent], list[int], list[tuple[int, EventError]]]


class UsageEndpoint:
    """The endpoint; authorization is the caller's."""

    def __init__(
        self, ledger: Ledger, metrics: IntakeMetrics, limits: Callable[[], Limits], clock: Clock
    ) -> None:
        """limits: those in force; asked once a request."""
        self._ledger = ledger
        self._metrics = metrics
        self._limits = limits
        self._clock = clock
        self._body_bounds = BodyBounds(MAX_REQUESTS, MAX_BYTES)
        self._one_at_a_time = asyncio.Lock()

    async def post(self, request: Request) -> Response:
        """Raises HttpError 400, 408, 413, 415 or (try again) 503; then nothing was booked."""
        require_content(request, *CONTENT_TYPES)
        limits = self._limits()
        ndjson = NDJSON in request.headers["content-type"].lower()
        async with self._body_bounds.read(request, limits.body_bytes) as body:
            read = partial(self._read, body, ndjson, limits.batch_events)
            if len(body) <= INLINE_BYTES:
                return json_response(await self._book(*read()))
            async with self._one_at_a_time:
                parsed = await run_in_threadpool(read)
            return json_response(await self._book(*parsed))

    def _read(self, body: bytes, ndjson: bool, max_events: int) -> Parsed:
        values = list(_lines(body)) if ndjson else _json(body)
        if len(values) > max_events:
            raise HttpError(413, f"more than {max_events} events in one request")
        return self._parse(values)

    async def _book(
        self,
        events: list[UsageEvent],
        indexes: list[int],
        rejected: list[tuple[int, EventError]],
    ) -> dict[str, Any]:
        try:
            outcome = await asyncio.wrap_future(self._ledger.submit(events))
        except LedgerUnavailableError as error:
            raise HttpError(503, str(error)) from error
        self._metrics.booked(SOURCE, events, outcome)
        for _, refusal in rejected:
            self._metrics.reject(SOURCE, refusal.reason)
        rejected += [(indexes[position], refusal) for position, refusal in outcome.rejected]
        return {
            "accepted": len(outcome.accepted),
            "duplicate": len(outcome.duplicates),
            "rejected": [
                {"index": index, "reason": f"{refusal.reason}: {refusal}"}
                for index, refusal in sorted(rejected, key=lambda item: item[0])
            ],
        }

    def _parse(self, values: list[Any]) -> Parsed:
        """The good events, their indexes in the request, and the refused ones."""
        received = self._clock.now()
        events, indexes, rejected = [], [], []
        for index, value in enumerate(values):
            try:
                if value is _BAD_LINE:
                    raise EventError("malformed", "this line is not JSON")
                events.append(parse_event(value, received))
                indexes.append(index)
            except EventError as error:
                rejected.append((index, error))
        return events, indexes, rejected


def _json(body: bytes) -> list[Any]:
    try:
        value = msgspec.json.decode(body)
    except NOT_JSON as error:
        raise HttpError(400, f"the body is not JSON: {error}") from error
    if not isinstance(value, dict | list):
        raise HttpError(400, "the body must be an event or an array of events")
    return value if isinstance(value, list) else [value]


def _lines(body: bytes) -> Iterator[Any]:
    """The JSON values of the lines that are not blank."""
    for line in body.split(b"\n"):
        if line.strip():
            try:
                yield msgspec.json.decode(line)
            except NOT_JSON:
                yield _BAD_LINE
