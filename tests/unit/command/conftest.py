"""A receiver behind a real HTTP server, and the command line that talks to it."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn

from command.main import main
from common.clock import SystemClock
from tests.support.receivers import ADMIN, Receiver
from tests.support.waiting import until

Say = Callable[..., int]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    built = Receiver(tmp_path, now=SystemClock().now())
    yield built
    built.close()


@pytest.fixture
def url(receiver: Receiver) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(receiver.http.app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    until(lambda: server.started, what="the server")
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def say(url: str, monkeypatch: pytest.MonkeyPatch) -> Say:
    monkeypatch.setenv("LLM_BUDGET_ADMIN_TOKEN", ADMIN)
    return lambda *words: main([*words, "--receiver", url])
