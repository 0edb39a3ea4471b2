"""The server loop of both services: no client keeps it waiting, and the next one always gets in.

uvicorn alone waits without end for headers and for slow readers, bounds no header's size, and
answers 503 to everyone, scrapes included, once enough clients hang.
"""

import asyncio
import contextlib
import os
import resource
import signal
import threading
from collections.abc import Callable, Collection
from functools import partial

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from common.listener import Listener

MAX_CONNECTIONS = 512
MAX_OVERHEAD_BYTES = 64 << 10  # of headers, or between two pieces of a body
HEADER_TIMEOUT_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 15
STALL_SECONDS = 30.0  # a reader that takes nothing for so long is gone


class GuardedProtocol(HttpToolsProtocol):
    """One connection of uvicorn's, with the bounds that uvicorn leaves out."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._overhead = 0
        self._dropped = False
        self._since = self.loop.time()
        self._await("headers", HEADER_TIMEOUT_SECONDS)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Half of the process's descriptors are for other files.
        most = min(MAX_CONNECTIONS, soft // 2) if soft > 0 else MAX_CONNECTIONS
        if len(self.connections) > most:
            make_room(self.connections)

    def connection_lost(self, exc: Exception | None) -> None:
        for awaited in list(self._timers):
            self._came(awaited)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > MAX_OVERHEAD_BYTES:
            self._drop()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._since = self.loop.time()
        self._await("headers", HEADER_TIMEOUT_SECONDS)

    def on_headers_complete(self) -> None:
        self._came("headers")
        self._overhead = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        self._since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await("reader", STALL_SECONDS)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._came("reader")

    def _waits(self) -> bool:
        """Whether the next move is the client's."""
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body or self.flow.write_paused

    def _drop(self) -> None:
        self._dropped = True
        self.transport.abort()

    def _await(self, what: str, seconds: float) -> None:
        """Drop the connection unless _came is told in time that it came."""
        self._came(what)
        self._timers[what] = self.loop.call_later(seconds, self._drop)

    def _came(self, what: str) -> None:
        if timer := self._timers.pop(what, None):
            timer.cancel()


def make_room(connections: Collection[object]) -> bool:
    """Drop whoever has kept us waiting longest; false when all are at work.

    A newcomer has not said anything yet: while it counts, there is always one.
    """
    ours = (one for one in connections if isinstance(one, GuardedProtocol))
    if waiting := [one for one in ours if one._waits() and not one._dropped]:
        min(waiting, key=lambda one: one._since)._drop()
    return bool(waiting)


def ignore_hangup() -> None:
    """SIGHUP, which by default ends a process, does nothing from here on."""
    with contextlib.suppress(ValueError):  # only the main thread has signals
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


async def serve(
    app: ASGIApp,
    listener: Listener,
    grace_seconds: int = 5,
    on_hangup: Callable[[], None] = lambda: None,
    end_seconds: float | None = None,
) -> None:
    """Serve app on listener until SIGTERM or SIGINT, finishing the requests under way.

    on_hangup: called in the event loop at each SIGHUP. end_seconds: after a signal the process is
    gone at the latest then, with status 1: a thread that hangs on a disk cannot be ended.
    """
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        proxy_headers=False,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        backlog=256,  # how many are accepted at one go, on top of MAX_CONNECTIONS
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=grace_seconds,
    )
    server = uvicorn.Server(config)
    # Our signals: its own raise them again after shutdown, and so exit non-zero.
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment,method-assign]
    listener.make_room = partial(make_room, server.server_state.connections)

    def stop() -> None:
        server.should_exit = True
        if end_seconds is not None:
            timer = threading.Timer(end_seconds, os._exit, [1])
            timer.daemon = True
            timer.start()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    await server.serve([listener])
