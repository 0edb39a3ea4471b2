"""/api/v1/grants, /resets and /reprice: a person's word on the money, under the admin token."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from decimal import Decimal
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from common.errors import UserError
from common.http import HttpError, json_response, read_body, require_content, require_token
from common.money import picodollars, usd
from exporter.ledger.adjustments import Adjustment, Kind
from exporter.ledger.ledger import Ledger
from exporter.ledger.repricing import Reprice, report
from exporter.ledger.writer import LedgerUnavailableError

MAX_BODY_BYTES = 64 << 10
Sentence = Annotated[str, Meta(min_length=1, max_length=500)]
S = TypeVar("S", bound=Struct)
T = TypeVar("T")


class ResetRequest(Struct, forbid_unknown_fields=True):
    """Write off what today has cost so far."""

    reason: Sentence
    author: Sentence
    id: Annotated[str, Meta(max_length=200)] = ""


class GrantRequest(ResetRequest, forbid_unknown_fields=True, kw_only=True):
    """Add money for today. amount_usd: a JSON string or number, taken as an exact decimal."""

    amount_usd: Decimal


class RepriceRequest(Struct, forbid_unknown_fields=True):
    """Book withheld cost that has a price now, of one model or of all; or only show it."""

    reason: Sentence
    author: Sentence
    model: str | None = None
    dry_run: bool = False


class Admin:
    """The admin endpoints. token: asked at each request, so that a reload counts at once."""

    def __init__(self, ledger: Ledger, token: Callable[[], str | None]) -> None:
        self._ledger = ledger
        self._token = token

    def routes(self) -> list[Route]:
        """What the application mounts."""
        return [
            Route("/api/v1/grants", self.grants, methods=["GET", "POST"]),
            Route("/api/v1/resets", self.resets, methods=["GET", "POST"]),
            Route("/api/v1/reprice", self.reprice, methods=["POST"]),
        ]

    def require(self, request: Request) -> None:
        """Raises HttpError 403 when no admin token is configured, 401 without the right one."""
        token = self._token()
        if token is None:
            raise HttpError(
                403, "no admin token is set: name its file in LLM_BUDGET_ADMIN_TOKEN_FILE"
            )
        require_token(request, token)

    async def grants(self, request: Request) -> Response:
        """GET: today's grants. POST: one more, booked when answered."""
        self.require(request)
        if request.method != "POST":
            return await self._list("grant")
        asked = await self.decode(request, GrantRequest)
        return await self._adjust(
            lambda: Adjustment(
                "grant", asked.reason, asked.author, picodollars(asked.amount_usd), asked.id
            )
        )

    async def resets(self, request: Request) -> Response:
        """GET: today's resets. POST: write off today's spend so far; again writes off the rest."""
        self.require(request)
        if request.method != "POST":
            return await self._list("reset")
        asked = await self.decode(request, ResetRequest)
        return await self._adjust(
            lambda: Adjustment("reset", asked.reason, asked.author, id=asked.id)
        )

    async def reprice(self, request: Request) -> Response:
        """Book withheld cost; the report, by model and day. Again: finds nothing new."""
        self.require(request)
        asked = await self.decode(request, RepriceRequest)
        done = await self.done(
            lambda: self._ledger.reprice(
                Reprice(asked.author, asked.reason, asked.model, asked.dry_run)
            )
        )
        return json_response(report(done))

    async def decode(self, request: Request, kind: type[S]) -> S:
        """The request's JSON body. Raises HttpError 400, 408, 413 or 415."""
        require_content(request, "application/json")
        body = await read_body(request, MAX_BODY_BYTES)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise HttpError(400, str(error)) from error

    async def done(self, ask: Callable[[], "Future[T]"]) -> T:
        """Wait for the ledger. Raises HttpError 400 (its sentence) or 503 (try again)."""
        try:
            return await asyncio.wrap_future(ask())
        except UserError as error:
            raise HttpError(400, str(error)) from error
        except LedgerUnavailableError as error:
            raise HttpError(503, str(error)) from error

    async def _adjust(self, asked: Callable[[], Adjustment]) -> Response:
        booked = await self.done(lambda: self._ledger.adjust(asked()))
        return json_response(
            {
                "day": booked.day,
                "kind": booked.kind,
                "usd": usd(booked.picodollars),
                "duplicate": booked.duplicate,
            }
        )

    async def _list(self, kind: Kind) -> Response:
        entries = await self.done(self._ledger.adjusted_today)
        wanted: list[dict[str, Any]] = [entry for entry in entries if entry["kind"] == kind]
        return json_response({f"{kind}s": wanted})
