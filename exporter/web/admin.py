"""/api/v1/grants, /resets and /reprice: what people add to or correct in the ledger."""

import asyncio
from typing import TypeVar

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from common.http import HttpError, json_response, read_body, require_content
from exporter.ledger.adjustments import Grant, Kind, Reset
from exporter.ledger.ledger import Ledger
from exporter.ledger.repricing import Reprice, report

MAX_BODY_BYTES = 64 << 10
S = TypeVar("S", bound=Struct)


class Admin:
    """The admin endpoints; authorization is the caller's.

    They raise HttpError, UserError (its sentence is the refusal) or LedgerUnavailableError.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def grants(self, request: Request) -> Response:
        """GET: today's grants. POST: one more, booked when answered."""
        if request.method != "POST":
            return await self._list("grant")
        return await self._adjust(await _decode(request, Grant))

    async def resets(self, request: Request) -> Response:
        """GET: today's resets. POST: write off today's spend so far; again writes off the rest."""
        if request.method != "POST":
            return await self._list("reset")
        return await self._adjust(await _decode(request, Reset))

    async def reprice(self, request: Request) -> Response:
        """Book withheld cost; the report, by model and day. Again: finds nothing new."""
        asked = await _decode(request, Reprice)
        return json_response(report(await asyncio.wrap_future(self._ledger.reprice(asked))))

    async def _adjust(self, asked: Reset) -> Response:
        booked = await asyncio.wrap_future(self._ledger.adjust(asked))
        return json_response(booked.report())

    async def _list(self, kind: Kind) -> Response:
        entries = await asyncio.wrap_future(self._ledger.adjusted_today())
        return json_response({f"{kind}s": [entry for entry in entries if entry["kind"] == kind]})


async def _decode(request: Request, kind: type[S]) -> S:
    """The request's JSON body. Raises HttpError 400, 408, 413 or 415."""
    require_content(request, "application/json")
    body = await read_body(request, MAX_BODY_BYTES)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, str(error)) from error
