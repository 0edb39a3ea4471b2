"""The receiver's routes."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from prometheus_client import disable_created_metrics, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from alertmanager.receiver.controller import ApplyError, Controller
from alertmanager.receiver.ladder.operations import Document
from alertmanager.receiver.report import report
from alertmanager.receiver.state import Override
from alertmanager.receiver.webhook import parse_notification, unix
from common.bodies import BodyBounds
from common.errors import UserError
from common.http import HostCheck, HttpError, http_error, json_response, read_body, require_token
from common.yamlfile import dump

disable_created_metrics()  # type: ignore[no-untyped-call]
LAST_MOMENT = unix(datetime(9999, 12, 31, tzinfo=UTC))
MAX_HISTORY = 1000  # changes an answer
MAX_BODY_BYTES = 4 << 20  # a notification of 10,000 alerts is smaller
MAX_NOTIFICATIONS, MAX_BYTES = 64, 32 << 20  # at once; beyond it Alertmanager tries again
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sentence = Annotated[str, Meta(min_length=1, max_length=500)]


@dataclass
class Tokens:
    """Bearer tokens; None: not asked for (webhook), nobody may (admin)."""

    webhook: str | None
    admin: str | None


class OverrideRequest(Struct, forbid_unknown_fields=True):
    """What a person asks for."""

    mode: Literal["degrade", "pin", "release", "tune", "untune"]
    reason: Sentence
    author: Sentence
    level: str | None = None
    tuning: str | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        # They go to logs and terminals, where control characters could hide or forge lines.
        if not f"{self.reason}{self.author}{self.tuning or ''}".isprintable():
            raise ValueError("reason, author and tuning must be printable text in one line")


class Web:
    """Everything the receiver answers."""

    def __init__(self, controller: Controller, tokens: Tokens, hosts: list[str]) -> None:
        self.controller = controller
        self.tokens = tokens
        self.hosts = hosts
        self._body_bounds = BodyBounds(MAX_NOTIFICATIONS, MAX_BYTES)
        self._bodies: dict[str, tuple[Document, bytes, str]] = {}

    def app(self) -> Starlette:
        """The ASGI application."""
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
            middleware=[Middleware(HostCheck, allowed=self.hosts)],
            exception_handlers={HttpError: http_error},
        )

    async def alerts(self, request: Request) -> Response:
        """Alertmanager's webhook: 2xx only when it is durably in place."""
        results = self.controller.metrics.notifications
        try:
            require_token(request, self.tokens.webhook)
            async with self._body_bounds.read(request, MAX_BODY_BYTES) as body:
                await run_in_threadpool(self.controller.notify, parse_notification(body))
        except HttpError:
            results.labels("refused").inc()
            raise
        except ApplyError as error:
            results.labels("failed").inc()
            raise HttpError(503, str(error)) from error
        results.labels("applied").inc()
        return json_response({"level": self.controller.store.shown.level})

    async def watchdog(self, request: Request) -> Response:
        """The dead man's switch arrived: alerts do find their way."""
        require_token(request, self.tokens.webhook)
        async with self._body_bounds.read(request, MAX_BODY_BYTES) as body:
            parse_notification(body)
        self.controller.metrics.watchdog.set(self.controller.clock.now())
        return json_response({})

    async def config(self, request: Request) -> Response:
        """The effective config, as JSON or (by Accept) YAML, with an ETag."""
        as_yaml = "yaml" in request.headers.get("accept", "")
        body, etag = self._rendered("config.yml" if as_yaml else "config.json")
        headers = {"ETag": etag, "Cache-Control": "no-cache", "Vary": "Accept"}
        if etag in (tag.strip() for tag in request.headers.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers=headers)
        kind = "application/yaml" if as_yaml else "application/json"
        return Response(body, headers=headers, media_type=kind)

    def _rendered(self, name: str) -> tuple[bytes, str]:
        """The config's bytes and ETag; made once for each change, however many scrapers ask."""
        document = self.controller.store.document
        kept, body, etag = self._bodies.get(name, (None, b"", ""))
        if kept is not document:
            body = dump(document, Path(name))
            etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            self._bodies[name] = (document, body, etag)
        return body, etag

    async def state(self, _: Request) -> Response:
        """What is in force and why."""
        return json_response(await run_in_threadpool(report, self.controller))

    async def metrics(self, _: Request) -> Response:
        """The Prometheus page."""
        body = generate_latest(self.controller.metrics.registry)
        return Response(body, headers={"Content-Type": CONTENT_TYPE})

    async def health(self, _: Request) -> Response:
        """200 only when state and config are on disk as decided, and rounds come."""
        problems = self.controller.problems()
        content = {"status": "failed", "problems": problems} if problems else {"status": "ok"}
        return json_response(content, 503 if problems else 200)

    async def history(self, request: Request) -> Response:
        """The newest changes of the audit trail, oldest first."""
        asked = request.query_params.get("limit", "50")
        if not (asked.isascii() and asked.isdigit() and 1 <= int(asked[:9]) <= MAX_HISTORY):
            raise HttpError(400, f"limit must be a number from 1 to {MAX_HISTORY}")
        changes = await run_in_threadpool(self.controller.store.audit.last, int(asked[:9]))
        return json_response({"changes": changes})

    async def override(self, request: Request) -> Response:
        """A person's word: degrade, pin, release, tune, untune."""
        if self.tokens.admin is None:
            raise HttpError(403, "no admin token is set (LLM_BUDGET_ADMIN_TOKEN_FILE)")
        require_token(request, self.tokens.admin)
        body = await read_body(request, MAX_BODY_BYTES)
        try:
            asked = msgspec.json.decode(body, type=OverrideRequest)
            await run_in_threadpool(self._override, asked)
        except (msgspec.DecodeError, UnicodeDecodeError, UserError) as error:
            raise HttpError(400, str(error)) from error
        except ApplyError as error:
            raise HttpError(503, str(error)) from error
        return await self.state(request)

    def _override(self, asked: OverrideRequest) -> None:
        controller = self.controller
        if asked.mode in ("tune", "untune"):
            if asked.tuning is None:
                raise UserError("which tuning? the key tuning is missing")
            apply = asked.mode == "tune"
            controller.tune(asked.tuning, apply=apply, who=asked.author, why=asked.reason)
        elif asked.mode == "release":
            controller.override(None, asked.author, asked.reason)
        else:
            controller.override(self._word(asked), asked.author, asked.reason)

    def _word(self, asked: OverrideRequest) -> Override:
        now = self.controller.clock.now()
        if asked.level is None:
            raise UserError("which level? the key level is missing")
        if asked.mode == "pin" and asked.until is None:
            raise UserError("a pin needs an end: the key until is missing")
        until = unix(asked.until) if asked.until else None
        if until is not None and not now < until < LAST_MOMENT:
            raise UserError("until is not in the future, or beyond the calendar")
        mode: Literal["degrade", "pin"] = "pin" if asked.mode == "pin" else "degrade"
        return Override(mode, asked.level, asked.reason, asked.author, now, until)
