"""The exporter's routes."""

import gzip
from collections.abc import Awaitable, Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from common.auth import bearer_matches
from common.budget_status import LogStatus
from common.errors import UserError
from common.http import HostCheck, HttpError, http_error, json_response, require_token
from exporter.composition import Exporter
from exporter.ledger.adjustments import Grant, Reset
from exporter.ledger.writer import LedgerUnavailableError
from exporter.metrics.page import CONTENT_TYPE
from exporter.web.admin import Handler, adjustments, reprice
from exporter.web.status import budget_status

UNTOLD = "a log cannot be read: /api/v1/status says which"
NO_ADMIN = "no admin token is set: name its file in LLM_BUDGET_ADMIN_TOKEN_FILE"
_PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)


def application(exporter: Exporter) -> Starlette:
    """The ASGI application."""
    pages, ledger = Pages(exporter), exporter.ledger

    def route(path: str, name: str, handler: Handler, *methods: str) -> Route:
        """A route that asks for a token first: 401 without it, 403 when no admin token is set."""

        async def guarded(request: Request) -> Response:
            token = getattr(exporter.settings.tokens, name)
            if token is None and name == "admin":
                raise HttpError(403, NO_ADMIN)
            require_token(request, token)
            return await handler(request)

        return Route(path, guarded, methods=methods or ("GET",))

    return Starlette(
        routes=[
            Route("/health", pages.health),
            route("/", "metrics", pages.index),
            route("/metrics", "metrics", pages.metrics),
            route("/api/v1/status", "metrics", pages.status),
            route("/v1/usage", "ingest", exporter.usage.post, "POST"),
            route("/-/reload", "admin", pages.reload, "POST"),
            route("/api/v1/grants", "admin", adjustments(ledger, Grant), "GET", "POST"),
            route("/api/v1/resets", "admin", adjustments(ledger, Reset), "GET", "POST"),
            route("/api/v1/reprice", "admin", reprice(ledger), "POST"),
        ],
        middleware=[Middleware(HostCheck, allowed=exporter.hosts)],
        exception_handlers={
            HttpError: http_error,
            UserError: _refusal(400),
            LedgerUnavailableError: _refusal(503),
        },
    )


def _refusal(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    """A handler that answers with an error's own sentence."""

    async def refuse(request: Request, error: Exception) -> Response:
        return await http_error(request, HttpError(status, str(error)))

    return refuse


class Pages:
    """What is read, and the reload."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter

    async def metrics(self, request: Request) -> Response:
        """The Prometheus page, compressed when the client can."""
        body = await run_in_threadpool(self._exporter.page.render, self._exporter.ledger.today())
        headers = {"Content-Type": CONTENT_TYPE, "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            body = await run_in_threadpool(gzip.compress, body, 1)
            headers["Content-Encoding"] = "gzip"
        return Response(body, headers=headers)

    async def health(self, request: Request) -> Response:
        """200 only when the ledger can be written and every log that is there can be read.

        Open to all; which log it is, and what a line said, is for holders of the metrics token.
        """
        token = self._exporter.settings.tokens.metrics
        told = token is None or bearer_matches(request.headers.get("authorization"), token)
        logs = self._exporter.logs
        problems, report = list(logs.problems), logs.report()
        if not told:
            problems = [UNTOLD][: len(problems)]
            report = [LogStatus("", log.state, lag_bytes=log.lag_bytes) for log in report]
        if not self._exporter.ledger.books.writable:
            problem = self._exporter.ledger.books.problem
            problems.insert(0, f"the ledger cannot be written: {problem}")
        content = {"status": "; ".join(problems) or "ok", "logs": report}
        return json_response(content, 503 if problems else 200)

    async def status(self, _: Request) -> Response:
        """Today's budget for programs."""
        return json_response(budget_status(self._exporter).document())

    async def index(self, _: Request) -> Response:
        """Today's budget for people."""
        document = budget_status(self._exporter).document()
        return HTMLResponse(_PAGES.get_template("status.html").render(document))

    async def reload(self, _: Request) -> Response:
        """Read budget.yml and the token files again; 400 with the reason keeps the old ones."""
        await self._exporter.reload()
        return json_response(self._exporter.reload_status)
