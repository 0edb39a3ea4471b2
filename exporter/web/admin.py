"""/api/v1/grants, /resets and /reprice: what people add to or correct in the ledger."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from common.http import HttpError, json_response, read_body, require_content
from exporter.ledger.adjustments import Reset
from exporter.ledger.ledger import Ledger
from exporter.ledger.repricing import Reprice, report

MAX_BODY_BYTES = 64 << 10
# Authorization is the caller's. It may raise HttpError, UserError (its sentence is the refusal) or
# LedgerUnavailableError.
Handler = Callable[[Request], Awaitable[Response]]
S = TypeVar("S", bound=Struct)


def adjustments(ledger: Ledger, asked: type[Reset]) -> Handler:
    """GET: today's grants or resets. POST: one more, booked when answered.

    A reset writes off today's spend so far; a second one writes off the rest.
    """

    async def answer(request: Request) -> Response:
        if request.method == "POST":
            adjustment = await _decode(request, asked)
            booked = await asyncio.wrap_future(ledger.adjust(adjustment))
            return json_response(booked.report())
        entries = await asyncio.wrap_future(ledger.adjusted_today())
        of_kind = [entry for entry in entries if entry["kind"] == asked.kind]
        return json_response({f"{asked.kind}s": of_kind})

    return answer


def reprice(ledger: Ledger) -> Handler:
    """POST: book withheld cost; the report, by model and day. Again: finds nothing new."""

    async def answer(request: Request) -> Response:
        asked = await _decode(request, Reprice)
        return json_response(report(await asyncio.wrap_future(ledger.reprice(asked))))

    return answer


async def _decode(request: Request, kind: type[S]) -> S:
    """The request's JSON body. Raises HttpError 400, 408, 413 or 415."""
    require_content(request, "application/json")
    body = await read_body(request, MAX_BODY_BYTES)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, str(error)) from error
