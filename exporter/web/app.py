"""The exporter's routes."""

import gzip
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from exporter.config import Config
from exporter.core.clock import Clock
from exporter.core.http import HostCheck, HttpError, http_error, json_response, require_token
from exporter.intake.http import UsageEndpoint
from exporter.ledger.ledger import Ledger
from exporter.metrics.collectors import BudgetCollector, LedgerCollector, LimitsCollector
from exporter.metrics.intake import IntakeMetrics
from exporter.metrics.ledger_text import LedgerText
from exporter.metrics.page import CONTENT_TYPE, Page
from exporter.web.admin import Admin
from exporter.web.status import status

Handler = Callable[[Request], Awaitable[Response]]
_PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)


@dataclass
class Tokens:
    """Bearer tokens; None: not asked for."""

    ingest: str | None
    admin: str | None
    metrics: str | None


class Web:
    """Everything the exporter answers."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        clock: Clock,
        tokens: Tokens,
        hosts: Sequence[str] = (),
    ) -> None:
        """hosts: Host names to answer to, besides those of the config."""
        self.config = config
        self.hosts = [*config.access.hosts, *hosts]
        self.ledger = ledger
        self.clock = clock
        self.tokens = tokens
        registry = CollectorRegistry()
        self.intake = IntakeMetrics(registry, config.limits.models)
        for collector in (
            BudgetCollector(lambda: self.config, ledger),
            LimitsCollector(lambda: self.config),
            LedgerCollector(ledger),
        ):
            registry.register(collector)
        self.page = Page(LedgerText(ledger.books), registry)
        self.admin = Admin(ledger, lambda: self.tokens.admin)
        self.usage = UsageEndpoint(ledger, self.intake, config.limits, clock)

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/", self.index),
                Route("/metrics", self.metrics),
                Route("/health", self.health),
                Route("/api/v1/status", self.status),
                Route("/v1/usage", self._guarded("ingest", self.usage.post), methods=["POST"]),
                *self.admin.routes(),
            ],
            middleware=[Middleware(HostCheck, allowed=self.hosts)],
            exception_handlers={HttpError: http_error},
        )

    def _guarded(self, token: str, handler: Handler) -> Handler:
        """A handler that asks for a token first."""

        async def guarded(request: Request) -> Response:
            require_token(request, getattr(self.tokens, token))
            return await handler(request)

        return guarded

    async def metrics(self, request: Request) -> Response:
        """The Prometheus page, compressed when the client can."""
        require_token(request, self.tokens.metrics)
        body = await run_in_threadpool(self.page.render, self.ledger.today().date)
        headers = {"Content-Type": CONTENT_TYPE, "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            body = await run_in_threadpool(gzip.compress, body, 1)
            headers["Content-Encoding"] = "gzip"
        return Response(body, headers=headers)

    async def health(self, _: Request) -> Response:
        """200 only when the ledger can be written."""
        writable = self.ledger.books.writable
        content = {"status": "ok" if writable else "the ledger cannot be written"}
        return json_response(content, 200 if writable else 503)

    async def status(self, _: Request) -> Response:
        """Today's budget for programs."""
        return json_response(status(self.config, self.ledger, self.clock))

    async def index(self, _: Request) -> Response:
        """Today's budget for people."""
        report = status(self.config, self.ledger, self.clock)
        return HTMLResponse(_PAGES.get_template("status.html").render(report))
