"""POST /v1/usage: an object, an array or NDJSON; answered when what it accepts is on disk."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from exporter.config import Limits
from exporter.core.clock import Clock
from exporter.core.http import HttpError, json_response, read_body, require_content
from exporter.intake.event import EventError, UsageEvent, parse_event
from exporter.ledger.ledger import Ledger, LedgerUnavailableError
from exporter.metrics.intake import IntakeMetrics

NDJSON = "application/x-ndjson"
CONTENT_TYPES = ("application/json", NDJSON)
SOURCE = "http"
_BAD_LINE = object()


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

    async def post(self, request: Request) -> Response:
        """Raises HttpError 400, 413, 415 (nothing booked) or 503 (nothing booked, try again)."""
        require_content(request, *CONTENT_TYPES)
        limits = self._limits()
        body = await read_body(request, limits.body_bytes)
        values = list(_lines(body)) if NDJSON in request.headers["content-type"] else _json(body)
        if len(values) > limits.batch_events:
            raise HttpError(413, f"more than {limits.batch_events} events in one request")
        return json_response(await self._book(values))

    async def _book(self, values: list[Any]) -> dict[str, Any]:
        events, indexes, rejected = self._parse(values)
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

    def _parse(
        self, values: list[Any]
    ) -> tuple[list[UsageEvent], list[int], list[tuple[int, EventError]]]:
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
    except (msgspec.DecodeError, RecursionError) as error:
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
            except (msgspec.DecodeError, RecursionError):
                yield _BAD_LINE
