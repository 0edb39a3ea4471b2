"""The exporter's routes."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from common.clock import Clock
from common.errors import UserError
from common.http import HostCheck, HttpError, http_error, json_response, require_token
from exporter.access import Settings, Tokens
from exporter.config import Config, Log
from exporter.intake.counters import IntakeMetrics
from exporter.intake.http import UsageEndpoint
from exporter.intake.logs.source import LogSource
from exporter.ledger.ledger import Ledger
from exporter.ledger.writer import LedgerUnavailableError
from exporter.metrics.collectors import BudgetCollector, LedgerCollector, LimitsCollector
from exporter.metrics.ledger_text import LedgerText
from exporter.metrics.page import CONTENT_TYPE, Page
from exporter.metrics.provider import ProviderPoller
from exporter.web.admin import Admin
from exporter.web.reload import Reloader
from exporter.web.status import status

Handler = Callable[[Request], Awaitable[Response]]
_PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)


class Web:
    """Everything the exporter answers."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        clock: Clock,
        tokens: Tokens,
        hosts: Sequence[str] = (),
        load: Callable[[], Settings] | None = None,
        folder: Path = Path(),
        logs: Sequence[Log] = (),
    ) -> None:
        """hosts: Host names to answer to, besides the config's. load: reads config and tokens.

        folder: of budget.yml, to which the files that it names are relative. logs: to follow,
        besides the config's.
        """
        self.config = config
        self._extra_hosts = hosts
        self.hosts = {*config.access.hosts, *hosts}
        self.ledger = ledger
        self.clock = clock
        self.tokens = tokens
        registry = CollectorRegistry()
        self.intake = IntakeMetrics(registry, config.limits.models)
        self.provider = ProviderPoller(lambda: self.config.provider, folder)
        for collector in (
            BudgetCollector(lambda: self.config, ledger, lambda: self.page.day or ledger.today()),
            LimitsCollector(lambda: self.config, ledger),
            LedgerCollector(ledger),
            self.provider,
        ):
            registry.register(collector)
        self.page = Page(LedgerText(ledger.books), registry)
        self.admin = Admin(ledger, lambda: self.tokens.admin)
        self._extra_logs = logs
        self.logs = LogSource([*config.log, *logs], ledger, self.intake, clock)
        self.usage = UsageEndpoint(ledger, self.intake, lambda: self.config.limits, clock)
        same = Settings(config, tokens)
        self.reloader = Reloader(load or (lambda: same), self.use, registry, clock)

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/", self._guarded("metrics", self.index)),
                Route("/metrics", self._guarded("metrics", self.metrics)),
                Route("/health", self.health),
                Route("/api/v1/status", self._guarded("metrics", self.status)),
                Route("/-/reload", self.reload, methods=["POST"]),
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
        body = await run_in_threadpool(self.page.render, self.ledger.today())
        headers = {"Content-Type": CONTENT_TYPE, "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            body = await run_in_threadpool(gzip.compress, body, 1)
            headers["Content-Encoding"] = "gzip"
        return Response(body, headers=headers)

    async def health(self, _: Request) -> Response:
        """200 only when the ledger can be written and every log that is there can be read."""
        problems = list(self.logs.problems)
        if not self.ledger.books.writable:
            problems.insert(0, "the ledger cannot be written")
        content = {"status": "; ".join(problems) or "ok", "logs": self.logs.report()}
        return json_response(content, 503 if problems else 200)

    async def status(self, _: Request) -> Response:
        """Today's budget for programs."""
        return json_response(self._report())

    async def index(self, _: Request) -> Response:
        """Today's budget for people."""
        return HTMLResponse(_PAGES.get_template("status.html").render(self._report()))

    async def reload(self, request: Request) -> Response:
        """Read budget.yml and the token files again; 400 with the reason keeps the old ones."""
        self.admin.require(request)
        try:
            await self.reloader.reload()
        except UserError as error:
            raise HttpError(400, str(error)) from error
        except LedgerUnavailableError as error:
            raise HttpError(503, str(error)) from error
        return json_response(self.reloader.report())

    async def use(self, settings: Settings) -> None:
        """Put settings in force: the ledger's part first, which alone can fail; then all at once.

        Raises LedgerUnavailableError.
        """
        await asyncio.wrap_future(self.ledger.reconfigure(settings.config))
        self.config, self.tokens = settings.config, settings.tokens
        self.hosts.clear()
        self.hosts.update(settings.config.access.hosts, self._extra_hosts)
        self.intake.max_models = settings.config.limits.models
        self.logs.configure([*settings.config.log, *self._extra_logs])

    def _report(self) -> dict[str, Any]:
        report = status(self.config, self.ledger, self.clock)
        return {**report, "config": self.reloader.report(), "logs": self.logs.report()}
