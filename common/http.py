"""HTTP shared by both services: bounded bodies, Host check, bearer guard, the listener."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.auth import bearer_matches
from common.errors import UserError
from common.listener import Listener, port_holder

BODY_TIMEOUT_SECONDS = 10.0  # a client that dribbles its body must not hold a slot
SAFE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
T = TypeVar("T")


class HttpError(Exception):
    """A refusal with its status and a sentence for the client."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def json_response(
    content: Any, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """A JSON response (msgspec: Decimal as string, dates as ISO 8601)."""
    body = msgspec.json.encode(content)
    return Response(body, status, headers, media_type="application/json")


async def http_error(_: Request, error: Exception) -> Response:
    """Starlette exception handler for HttpError."""
    assert isinstance(error, HttpError)
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}.get(error.status)
    return json_response({"error": error.reason}, error.status, headers)


async def read_body(
    request: Request, max_bytes: int, hold: Callable[[int], None] = lambda _: None
) -> bytes:
    """The request's body. Raises HttpError 413 beyond max_bytes, 408 when it comes too slowly.

    hold: told of each piece's size before the piece is kept; what it raises ends the reading.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise HttpError(413, f"the body is larger than {max_bytes} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            async for chunk in request.stream():
                if len(body) + len(chunk) > max_bytes:
                    raise HttpError(413, f"the body is larger than {max_bytes} bytes")
                hold(len(chunk))
                body += chunk
    except TimeoutError as error:
        raise HttpError(408, "the body did not arrive in time") from error
    except ClientDisconnect as error:
        raise HttpError(400, "the body ended early") from error
    return bytes(body)


def decoded(body: bytes, kind: type[T], wrong: str = "") -> T:
    """A JSON body. Raises HttpError 400 that begins with wrong and says what is."""
    try:
        return msgspec.json.decode(body, type=kind)
    except NOT_JSON as error:
        raise HttpError(400, f"{wrong}{error}") from error


async def read_json(request: Request, kind: type[T], max_bytes: int) -> T:
    """The request's JSON body. Raises HttpError 400, 408, 413 or 415."""
    require_content(request, "application/json")
    return decoded(await read_body(request, max_bytes), kind)


class BodyBounds:
    """Requests at work, and bytes of bodies held, at once: no client uses the others' memory."""

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self._max_requests, self._max_bytes = max_requests, max_bytes
        self._requests = self._bytes = 0

    @asynccontextmanager
    async def read(self, request: Request, max_bytes: int) -> AsyncIterator[bytes]:
        """read_body's, held until the block's end. Raises HttpError 503, too: no room now."""
        held = 0

        def hold(count: int) -> None:
            nonlocal held
            # One body alone always fits.
            if self._bytes + count > self._max_bytes and self._bytes > held:
                raise HttpError(503, "too many bytes on their way at once; try again")
            held += count
            self._bytes += count

        try:
            body = await read_body(request, max_bytes, hold)
            # A body on its way does not count: the server drops the slowest connection.
            if self._requests >= self._max_requests:
                raise HttpError(503, "too many requests at once; try again")
            self._requests += 1
            try:
                yield body
            finally:
                self._requests -= 1
        finally:
            self._bytes -= held


def require_content(request: Request, *types: str) -> str:
    """The body's media type. Raises HttpError 415 unless it is plainly one of types, uncompressed.

    A web page cannot send these types to another origin without asking first.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in types:
        raise HttpError(415, f"Content-Type must be {' or '.join(types[:2])}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise HttpError(415, "a compressed body is not accepted; send it without Content-Encoding")
    return content_type


def require_token(request: Request, token: str | None) -> None:
    """Raises HttpError 401 unless token is None or the request carries it."""
    if token is not None and not bearer_matches(request.headers.get("authorization"), token):
        raise HttpError(401, "a valid bearer token is required")


class SafeHeaders:
    """ASGI middleware: browsers guess no type, and run, load and frame nothing that is not allowed.

    A page that needs more says so in a Content-Security-Policy of its own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                for name, value in SAFE_HEADERS.items():
                    MutableHeaders(scope=message).setdefault(name, value)
            await send(message)

        await self.app(scope, receive, safely)


class HostCheck:
    """ASGI middleware: answers 403 to a foreign Host (DNS rebinding) and to other sites' pages."""

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        """allowed: host names without port; loopback names and any IP literal are always allowed.

        An IP literal cannot be rebound, so it is no risk; a foreign *name* is. The collection is
        asked at each request, so that its owner may change it.
        """
        self.app, self.allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (refusal := self._refusal(scope)):
            await json_response({"error": refusal}, 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        host = host_name(headers.get("host", ""))
        known = is_ip(host) or host in {"localhost", *map(str.lower, self.allowed)}
        if not known or len(headers.getlist("host")) != 1:
            return "this Host is not served here; --allow-host NAME adds it (docs/configuration.md)"
        if scope["method"] not in ("GET", "HEAD") and not _same_site(headers):
            return "a page of another site may not write here"
        return None


def _same_site(headers: Headers) -> bool:
    """Whether no browser says that another site's page asks; programs send neither header."""
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != headers["host"].lower():
        return False
    return headers.get("sec-fetch-site", "none") in ("none", "same-origin")


def host_name(netloc: str) -> str:
    """The lower-case host of "host:port" or "[v6]:port"."""
    if netloc.startswith("["):
        return netloc[1:].partition("]")[0].lower()
    return netloc.partition(":")[0].lower()


def is_ip(host: str) -> bool:
    """Whether host is an IP literal."""
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return True
    return False


def is_loopback(host: str) -> bool:
    """Whether a listen host is reachable from this machine only."""
    return host == "localhost" or (is_ip(host) and ipaddress.ip_address(host).is_loopback)


def parse_listen(listen: str) -> tuple[str, int]:
    """ "127.0.0.1:8000" or "[::1]:8000" as (host, port). Raises UserError."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UserError(f"--listen {listen!r} is not HOST:PORT, for example 127.0.0.1:8000")
    return host, int(port)


def bind(host: str, port: int) -> Listener:
    """A listening socket (port 0 picks a free one). Raises UserError: who holds the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: only then asyncio sets TCP_NODELAY on what is accepted, and without
    # that every answer waits 40 ms for the client's delayed acknowledgement.
    listener = Listener(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        holder = port_holder(port)
        held = f" (held by {holder})" if holder else ""
        raise UserError(
            f"cannot listen on {host}:{port}: {error.strerror}{held}; free it or choose another"
        ) from error
    return listener
