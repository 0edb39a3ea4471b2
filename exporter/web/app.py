"""The exporter's routes."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from common import http
from common.auth import bearer_matches
from common.budget_status import LogStatus
from common.errors import UserError
from exporter.composition import Exporter
from exporter.ledger.adjustments import Grant, Reset, Revoke
from exporter.ledger.month import Carry
from exporter.ledger.reconcile import reconcile
from exporter.ledger.report import report
from exporter.ledger.repricing import Reprice
from exporter.ledger.writer import LedgerUnavailableError
from exporter.web import runbook
from exporter.web.page import POLICY, render
from exporter.web.peers import Peers
from exporter.web.status import budget_status

MAX_BODY_BYTES = 64 << 10  # of an admin's request
UNTOLD = "a log cannot be read: /api/v1/status says which"
NO_ADMIN = "no admin token is set: name its file in LLM_BUDGET_ADMIN_TOKEN_FILE"
Handler = Callable[[Request], Awaitable[Response]]


def application(
    exporter: Exporter, peers: Peers | None = None, links: Mapping[str, str] | None = None
) -> Starlette:
    """The ASGI application. peers, links: what the page asks, and where it leads people to."""
    web = Web(exporter, peers or Peers(), links or {})

    def route(path: str, name: str, handler: Handler, *methods: str) -> Route:
        """A route that asks for a token first: 401 without it, 403 when no admin token is set."""

        async def guarded(request: Request) -> Response:
            token = getattr(exporter.settings.tokens, name)
            if token is None and name == "admin":
                raise http.HttpError(403, NO_ADMIN)
            http.require_token(request, token)
            return await handler(request)

        return Route(path, guarded, methods=methods or ("GET",))

    return Starlette(
        routes=[
            Route("/health", web.health),
            route("/", "metrics", web.index),
            route("/runbook", "metrics", web.runbook),
            route("/metrics", "metrics", web.metrics),
            route("/api/v1/status", "metrics", web.status),
            route("/api/v1/report", "metrics", web.report),
            route("/api/v1/reconcile", "metrics", web.reconcile),
            route("/v1/usage", "ingest", exporter.usage.post, "POST"),
            route("/-/reload", "admin", web.reload, "POST"),
            *(
                route(f"/api/v1/{one.kind}s", "admin", partial(web.adjust, one), "GET", "POST")
                for one in (Grant, Reset, Revoke)
            ),
            route("/api/v1/reprice", "admin", web.reprice, "POST"),
            route("/api/v1/carry", "admin", web.carry, "POST"),
        ],
        middleware=[
            Middleware(http.SafeHeaders),
            Middleware(http.HostCheck, allowed=exporter.hosts),
        ],
        exception_handlers={
            http.HttpError: http.http_error,
            UserError: _refuse,
            LedgerUnavailableError: _refuse,
        },
    )


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer with an error's own sentence."""
    status = 503 if isinstance(error, LedgerUnavailableError) else 400
    return await http.http_error(request, http.HttpError(status, str(error)))


class Web:
    """What is read; the reload, and what people add to or correct in the ledger."""

    def __init__(self, exporter: Exporter, peers: Peers, links: Mapping[str, str]) -> None:
        self._exporter, self._peers = exporter, peers
        self._links = {"Runbook": "runbook"} | dict(links)  # its own, unless another is named
        self._ledger = exporter.ledger
        self._one_report_at_a_time = asyncio.Lock()

    async def metrics(self, request: Request) -> Response:
        """The Prometheus page, compressed when the client can."""
        body = await run_in_threadpool(self._exporter.page.render, self._ledger.today())
        # Prometheus 3 refuses a page without a content type; this one every version reads.
        headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            body = await run_in_threadpool(gzip.compress, body, 1)
            headers["Content-Encoding"] = "gzip"
        return Response(body, headers=headers)

    async def health(self, request: Request) -> Response:
        """200 only when the ledger can be written and every log that is there can be read.

        Open to all; which log it is, and what a line said, is for holders of the metrics token.
        """
        token = self._exporter.settings.tokens.metrics
        logs, books = self._exporter.logs, self._ledger.books
        problems, told = list(logs.problems), logs.report()
        if token and not bearer_matches(request.headers.get("authorization"), token):
            problems = [UNTOLD][: len(problems)]
            told = [LogStatus("", log.state, lag_bytes=log.lag_bytes) for log in told]
        if not books.writable:
            problems.insert(0, f"the ledger cannot be written: {books.problem}")
        content = {"status": "; ".join(problems) or "ok", "logs": told}
        return http.json_response(content, 503 if problems else 200)

    async def status(self, _: Request) -> Response:
        """Today's budget for programs."""
        return http.json_response(budget_status(self._exporter).document())

    async def report(self, request: Request) -> Response:
        """Sums of a range of days (from, to, by), read beside the writer and the event loop."""
        asked = (request.query_params.get(key, "") for key in ("from", "to", "by"))
        return await self._alone(report, self._ledger.path, *asked, self._exporter.clock.now())

    async def reconcile(self, request: Request) -> Response:
        """The provider's balance (or without it, balance=0) against the books; like a report."""
        asked, now = request.query_params, self._exporter.clock.now()
        answer = partial(reconcile, balance=asked.get("balance") != "0")
        provider, since = self._exporter.config.provider, asked.get("since", "")
        return await self._alone(answer, self._ledger.path, since, now, provider)

    async def _alone(self, answer: Callable[..., object], *asked: object) -> Response:
        async with self._one_report_at_a_time:
            return await run_in_threadpool(lambda: http.json_response(answer(*asked)))

    async def index(self, _: Request) -> Response:
        """Today's budget for people."""
        said = await self._peers.ask()
        html = await run_in_threadpool(render, self._exporter, *said, self._links)
        return HTMLResponse(html, headers={"Content-Security-Policy": POLICY})

    async def runbook(self, _: Request) -> Response:
        """What to do, by alert."""
        return await run_in_threadpool(runbook.page)

    async def reload(self, _: Request) -> Response:
        """Read budget.yml and the token files again; 400 with the reason keeps the old ones."""
        await self._exporter.reload()
        return http.json_response(self._exporter.reload_status)

    async def reprice(self, request: Request) -> Response:
        """Book withheld cost; the report, by model and day. Again: finds nothing new."""
        asked = await http.read_json(request, Reprice, MAX_BODY_BYTES)
        done = await asyncio.wrap_future(self._ledger.reprice(asked))
        return http.json_response(done.report)

    async def carry(self, request: Request) -> Response:
        """Answer for a month of a ledger that is gone; again: replaces what was said before."""
        asked = await http.read_json(request, Carry, MAX_BODY_BYTES)
        await asyncio.wrap_future(self._ledger.carry(asked))
        return http.json_response(asked)

    async def adjust(self, kind: type[Reset], request: Request) -> Response:
        """GET: today's grants, resets or revokes. POST: one more, booked when answered."""
        if request.method == "POST":
            asked = await http.read_json(request, kind, MAX_BODY_BYTES)
            done = await asyncio.wrap_future(self._ledger.adjust(asked))
            return http.json_response(done.report())
        today = await asyncio.wrap_future(self._ledger.adjusted_today())
        found = [one for one in today if one["kind"] == kind.kind]
        return http.json_response({f"{kind.kind}s": found})
