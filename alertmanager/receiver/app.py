"""The receiver's routes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from alertmanager.receiver.alerts import Notification
from alertmanager.receiver.controller import ApplyError, Controller
from alertmanager.receiver.ladder.ladder import Document
from alertmanager.receiver.overrides import OverrideRequest
from alertmanager.receiver.report import ReceiverCollector, report
from common import http, names
from common.errors import UserError
from common.yamlfile import dump

JSON = "application/json"  # as Alertmanager sends
MAX_HISTORY = 1000  # changes an answer
MAX_BODY_BYTES = 4 << 20  # a notification of 10,000 alerts is smaller
MAX_NOTIFICATIONS, MAX_BYTES = 64, 32 << 20  # at once; beyond it Alertmanager tries again


@dataclass
class ReceiverApp:
    """Everything the receiver answers."""

    controller: Controller
    webhook_token: str | None  # None: it is not asked for
    admin_token: str | None  # None: nobody may

    def __post_init__(self) -> None:
        self.announcer, self.store = self.controller.announcer, self.controller.store
        self._body_bounds = http.BodyBounds(MAX_NOTIFICATIONS, MAX_BYTES)
        self.registry = CollectorRegistry()
        self.registry.register(ReceiverCollector(self.controller))
        self._bodies: dict[str, tuple[Document, bytes, str]] = {}

    def asgi(self, hosts: list[str]) -> Starlette:
        """The ASGI application; hosts: names to answer to, besides localhost and IP addresses."""
        return Starlette(
            routes=[
                Route("/alerts", self.alerts, methods=["POST"]),
                Route("/watchdog", self.watchdog, methods=["POST"]),
                Route("/config", self.config),
                Route("/state", self.state),
                Route("/metrics", self.metrics),
                Route("/health", self.health),
                Route("/api/v1/history", self.history),
                Route("/api/v1/override", self.override, methods=["POST"]),
            ],
            middleware=[Middleware(http.SafeHeaders), Middleware(http.HostCheck, allowed=hosts)],
            exception_handlers={http.HttpError: http.http_error},
        )

    async def alerts(self, request: Request) -> Response:
        """Alertmanager's webhook: 2xx only when it is durably in place."""
        try:
            http.require_token(request, self.webhook_token)
            http.require_content(request, JSON)
            async with self._body_bounds.read(request, MAX_BODY_BYTES) as body:
                await run_in_threadpool(self.controller.notify, _notification(body))
        except http.HttpError as error:
            result = "failed" if isinstance(error, ApplyError) else "refused"
            self.announcer.counts[names.DEGRADATION_NOTIFICATIONS, result] += 1
            raise
        self.announcer.counts[names.DEGRADATION_NOTIFICATIONS, "applied"] += 1
        return http.json_response({"level": self.store.in_force.level})

    async def watchdog(self, request: Request) -> Response:
        """The dead man's switch arrived: alerts do find their way."""
        http.require_token(request, self.webhook_token)
        http.require_content(request, JSON)
        async with self._body_bounds.read(request, MAX_BODY_BYTES) as body:
            _notification(body)
        self.announcer.watchdog_at = self.controller.clock.now()
        return http.json_response({})

    async def config(self, request: Request) -> Response:
        """The effective config (in shadow mode the baseline), by Accept as YAML, with an ETag."""
        name, kind = "config.json", JSON
        if "yaml" in request.headers.get("accept", ""):
            name, kind = "config.yml", "application/yaml"
        store = self.store
        document = store.configs.baseline if store.shadow else store.effective.document
        kept, body, etag = self._bodies.get(name, (None, b"", ""))
        if kept is not document:  # made once for each change, however many scrapers ask
            body = dump(document, Path(name))
            etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            self._bodies[name] = document, body, etag
        headers = {"ETag": etag, "Cache-Control": "no-cache", "Vary": "Accept"}
        if etag in (tag.strip() for tag in request.headers.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type=kind)

    async def state(self, _: Request) -> Response:
        return http.json_response(await run_in_threadpool(report, self.controller))

    async def metrics(self, _: Request) -> Response:
        body = generate_latest(self.registry)
        return Response(body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def health(self, _: Request) -> Response:
        """503 unless state and config are on disk as decided, and rounds come; all problems."""
        problems, failed = self.controller.problems(), bool(self.controller.failures())
        status = "failed" if failed else "warning" if problems else "ok"
        content = {"status": status} | ({"problems": problems} if problems else {})
        return http.json_response(content, 503 if failed else 200)

    async def history(self, request: Request) -> Response:
        limit = request.query_params.get("limit", "50")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_HISTORY):
            raise http.HttpError(400, f"limit must be a number from 1 to {MAX_HISTORY}")
        changes = await run_in_threadpool(self.announcer.audit.last, int(limit[:9]))
        return http.json_response({"changes": changes})

    async def override(self, request: Request) -> Response:
        if self.admin_token is None:
            raise http.HttpError(403, "no admin token is set (LLM_BUDGET_ADMIN_TOKEN_FILE)")
        http.require_token(request, self.admin_token)
        asked = await http.read_json(request, OverrideRequest, MAX_BODY_BYTES)
        try:
            await run_in_threadpool(self.controller.override, asked)
        except UserError as error:
            raise http.HttpError(400, str(error)) from error
        return await self.state(request)


def _notification(body: bytes) -> Notification:
    return http.decoded(body, Notification, "not an Alertmanager webhook of version 4: ")
