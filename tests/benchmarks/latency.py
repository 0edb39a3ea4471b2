"""What one kept connection waits for each answer, beside its floor: `make bench`.

A floor is a bare server on this machine that answers as many bytes; where the answer promises that
something is on disk, it first appends the request to a file of the same folder and syncs it.
Status 1 when a figure is ten times off its floor.
"""

import asyncio
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from command.stack.bundle import Bundle
from command.stack.configs import Ports
from tests.support.exporters import event
from tests.support.receivers import alert

REQUESTS = 400
WARM_UP = 20
OFF = 10.0


@dataclass
class Question:
    """A request; body makes a new one each time, and is None for a GET."""

    service: str
    path: str
    token: str = ""
    body: Callable[[int], Any] | None = None

    def __str__(self) -> str:
        return f"{self.service} {'POST' if self.body else 'GET'} {self.path}"


QUESTIONS = (
    Question("exporter", "/health"),
    Question("exporter", "/v1/usage", "ingest", lambda n: event(id=f"call-{n}")),
    Question("receiver", "/config"),
    Question(
        "receiver", "/alerts", "webhook",
        lambda _: {"version": "4", "status": "firing", "alerts": [alert(start=time.time())]},
    ),
)  # fmt: skip


class Bare(asyncio.Protocol):
    """Answers a request with so many bytes, after syncing it to a file if there is one."""

    def __init__(self, size: int, file: int | None) -> None:
        self._answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
        self._file = file
        self._asked = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._asked += data
        head, end, body = self._asked.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if not end or len(body) < int(length or 0):
            return
        if self._file is not None:
            os.write(self._file, self._asked)
            os.fdatasync(self._file)
        self._asked = b""
        self._transport.write(self._answer)


def serve_bare(size: int, path: Path | None, ports: Any) -> None:
    """The process of a floor."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    file = os.open(path, flags) if path else None

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(
            lambda: Bare(size, file), "127.0.0.1", 0
        )
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


@contextmanager
def bare(size: int, path: Path | None) -> Iterator[int]:
    """A floor's port."""
    ports: Any = multiprocessing.Queue()
    process = multiprocessing.Process(target=serve_bare, args=(size, path, ports))
    process.start()
    try:
        yield ports.get(timeout=30)
    finally:
        process.terminate()
        process.join()


class Client:
    """One kept connection."""

    def __init__(self, port: int, question: Question, token: str) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self._question = question
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}

    def ask(self, number: int) -> tuple[float, int]:
        """Seconds until the whole answer was there, and its size."""
        asked = self._question
        body = json.dumps(asked.body(number)) if asked.body else None
        begin = time.perf_counter()
        self._connection.request("POST" if body else "GET", asked.path, body, self._headers)
        answer = self._connection.getresponse()
        size = len(answer.read())
        taken = time.perf_counter() - begin
        assert answer.status == 200, f"{asked}: {answer.status}"
        return taken, size


def measure(bundle: Bundle, question: Question) -> tuple[list[float], list[float]]:
    """Seconds of each answer, and of its floor: by turns, so that both see the same machine."""
    token = bundle.token(question.token) if question.token else ""
    ours = Client(getattr(bundle.ports, question.service), question, token)
    size = [ours.ask(number)[1] for number in range(WARM_UP)][-1]
    with bare(size, bundle.folder / "floor" if question.body else None) as port:
        floor = Client(port, question, token)
        numbers = range(WARM_UP, WARM_UP + REQUESTS)
        pairs = [(ours.ask(number)[0], floor.ask(number)[0]) for number in numbers]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def show(question: Question, taken: list[float], floor: list[float]) -> bool:
    """Print a figure and its floor; whether it is near enough."""
    middle, least = statistics.median(taken), statistics.median(floor)
    late = statistics.quantiles(taken, n=100)[98]
    near = middle < OFF * least
    print(
        f"  {question!s:<26}{1 / statistics.mean(taken):>7,.0f}/s, "
        f"{middle * 1000:.2f} ms (median), {late * 1000:.2f} ms (p99); "
        f"floor {least * 1000:.2f} ms{', synced' if question.body else ''}: "
        f"{middle / least:.1f} times"
        f"{'' if near else f': MORE THAN {OFF:.0f} TIMES OFF ITS FLOOR'}",
        flush=True,
    )
    return near


def main() -> int:
    """Measure and print; 1 when a figure is far off its floor."""
    with tempfile.TemporaryDirectory(prefix="llm-budget-bench-") as name:
        bundle = Bundle(Path(name), ports=Ports.free())
        bundle.prepare()
        services = (bundle.exporter, bundle.receiver)
        try:
            for service in services:
                service.start()
            for service in services:
                service.wait_ready()
            print(f"one kept connection, {REQUESTS} requests each")
            near = [show(one, *measure(bundle, one)) for one in QUESTIONS]
        finally:
            bundle.stop()
    return 0 if all(near) else 1


if __name__ == "__main__":
    sys.exit(main())
