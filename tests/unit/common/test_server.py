"""The server loop against clients that hang, dribble, flood and never read: over real sockets."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from alertmanager.receiver import service as receiver
from common import server
from common.errors import UserError
from common.http import bind
from exporter import service as exporter
from tests.support.exporters import event, exporter_process, url, write_config
from tests.support.ladders import BASELINE_FILE, LADDER_FILE
from tests.support.waiting import until

App = Callable[..., Awaitable[None]]
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


GET_ONCE = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


async def hello(request: Request) -> Response:
    return PlainTextResponse(f"read {len(await request.body())}")


HELLO = Starlette(routes=[Route("/", hello, methods=["GET", "POST"])])


@contextlib.asynccontextmanager
async def serving(app: App = HELLO) -> AsyncIterator[int]:
    """serve(app) on a free port, ended by SIGTERM as in real life."""
    listener = bind("127.0.0.1", 0)
    running = asyncio.create_task(server.serve(app, listener, grace_seconds=1))
    try:
        yield listener.getsockname()[1]
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await running


async def connect(port: int, text: bytes = b"") -> tuple[asyncio.StreamReader, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    return reader, writer


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What still comes until the connection ends; a reset ends it too."""
    with contextlib.suppress(ConnectionError):
        return await reader.read()
    return b""


async def answer(port: int) -> bytes:
    reader, writer = await connect(port, GET)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head


@pytest.mark.parametrize("text", [b"", b"GET / HTTP/1.1\r\nHost: loc", GET + b"GET / HT"])
def test_headers_that_never_end_are_not_waited_for(
    text: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEADER_TIMEOUT_SECONDS", 0.1)

    async def scenario() -> bytes:
        async with serving() as port:
            reader, _ = await connect(port, text)
            return await rest(reader)

    assert asyncio.run(scenario()).count(b"200 OK") == text.count(GET)


@pytest.mark.parametrize(
    "text",
    [
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200_000,
        b"GET / HTTP/1.1\r\nA: " + b"b" * 100_000,
        b"GET /" + b"x" * 100_000,
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
        + b"A: b\r\n" * 200_000,
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1;"
        + b"x" * 1_000_000,
    ],
    ids=["headers", "header", "path", "trailers", "chunk extension"],
)
def test_what_is_no_body_is_bounded(text: bytes) -> None:
    async def scenario() -> bytes:
        async with serving() as port:
            reader, _ = await connect(port, text)
            return await rest(reader)

    assert b"200 OK" not in asyncio.run(scenario())


@pytest.mark.parametrize("piece", [1, 200, 30_000])
def test_a_long_chunked_body_in_small_or_large_pieces_is_read(piece: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    count = 200_000 // piece if piece > 1 else 30_000
    chunks = (b"%x\r\n" % piece + b"x" * piece + b"\r\n") * count + b"0\r\n\r\n"

    async def scenario() -> bytes:
        async with serving() as port:
            reader, _ = await connect(port, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
            return await rest(reader)

    assert asyncio.run(scenario()).endswith(b"read %d" % (piece * count))


def test_a_reader_that_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STALL_SECONDS", 0.1)
    dropped = asyncio.Event()

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(2):  # the second waits until the first is on its way, or nobody is there
            await send({"type": "http.response.body", "body": b"x" * (50 << 20), "more_body": True})
        dropped.set()

    async def scenario() -> None:
        async with serving(flood) as port:
            client = await connect(port, GET)
            await asyncio.wait_for(dropped.wait(), 30)
            client[1].close()

    asyncio.run(scenario())


def test_the_one_that_hangs_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 4)

    async def scenario() -> None:
        async with serving() as port:
            hung = [await connect(port, b"GET / HT") for _ in range(3)]
            body = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx"
            hung.append(await connect(port, body))
            kept: list[Any] = []
            for reader, _ in hung:  # each newcomer costs the oldest its place
                assert b"200 OK" in await answer(port)
                kept.append(await connect(port, b"GET / HT"))
                assert await rest(reader) == b""

    asyncio.run(scenario())


def test_whoever_is_being_served_is_never_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)

    async def scenario() -> None:
        arrived, go = asyncio.Semaphore(0), asyncio.Event()

        async def slow(request: Request) -> Response:
            arrived.release()
            await go.wait()
            return PlainTextResponse("done")

        async with serving(Starlette(routes=[Route("/", slow)])) as port:
            served = [await connect(port, GET_ONCE) for _ in range(2)]
            for _ in served:
                await arrived.acquire()
            reader, _ = await connect(port, b"GET / HT")
            assert await rest(reader) == b""
            go.set()
            for reader, _ in served:
                assert (await rest(reader)).endswith(b"done")

    asyncio.run(scenario())


# Both services, as their commands run them.


def exporter_at(listen: str, folder: Path) -> Awaitable[int]:
    files = ["--config", str(write_config(folder)), "--ledger", str(folder / "ledger.sqlite")]
    return exporter.run(exporter.parser().parse_args([*files, "--listen", listen]))


def receiver_at(listen: str, folder: Path) -> Awaitable[int]:
    files = ["--config", str(LADDER_FILE), "--baseline", str(BASELINE_FILE)]
    files += ["--effective", str(folder / "effective.yml"), "--state", str(folder / "state.json")]
    return receiver.run(receiver.parser().parse_args([*files, "--listen", listen]))


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """TCP_NODELAY of each connection as it is accepted."""
    found: list[int] = []

    class Watched(server.GuardedProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            accepted = transport.get_extra_info("socket")
            found.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(server, "GuardedProtocol", Watched)
    return found


@pytest.mark.parametrize("service", [exporter_at, receiver_at])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_no_answer_waits_for_the_client_to_acknowledge_its_first_half(
    service: Callable[[str, Path], Awaitable[int]], host: str, tmp_path: Path, delays: list[int]
) -> None:
    try:
        with bind(host, 0) as free:
            port = free.getsockname()[1]
    except UserError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")

    def ask() -> bool:
        return requests.get(f"http://{netloc}/health", timeout=10).status_code == 200

    async def scenario() -> int:
        running = asyncio.ensure_future(service(netloc, tmp_path))
        await asyncio.to_thread(until, ask, what="an answer")
        os.kill(os.getpid(), signal.SIGTERM)
        return await running

    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    assert asyncio.run(scenario()) == 0
    assert delays
    assert all(delays)


# The whole exporter, with fewer file descriptors than the usual 1,024.

HEAD = b"POST /v1/usage HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "hang",
    [b"", b"POST /v1/us", HEAD + b"Content-Length: 99\r\n\r\n[", GET.replace(b"/ ", b"/metrics ")],
    ids=["silent", "headers", "body", "idle"],
)
def test_scrapes_health_and_events_pass_700_clients_that_hang(tmp_path: Path, hang: bytes) -> None:
    with exporter_process(tmp_path) as child, ExitStack() as stack:
        resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (900, 900))
        port = int(child.ready_url.split(":")[2].partition("/")[0])
        for _ in range(700):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            with contextlib.suppress(ConnectionError):
                client.sendall(hang)
        for _ in range(3):
            assert requests.get(url(child, "/metrics"), timeout=10).status_code == 200
            assert requests.get(url(child, "/health"), timeout=10).status_code == 200
            posted = requests.post(url(child, "/v1/usage"), json=event(), timeout=10)
            assert posted.json()["accepted"] == 1
        assert child.running
        assert "Traceback" not in child.log.read_text()
