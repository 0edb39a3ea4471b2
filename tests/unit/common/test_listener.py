"""A listening socket whose process has no file descriptor left."""

import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from common import listener
from common.http import bind
from tests.support.exporters import event, exporter_process, url
from tests.support.waiting import until


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Every descriptor of this process below a low limit is taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(int(fd) for fd in os.listdir("/proc/self/fd")) + 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_who_cannot_be_taken_in_is_turned_away_and_that_is_said_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with bind("127.0.0.1", 0) as listening:
        clients = [socket.create_connection(listening.getsockname()) for _ in range(3)]
        with no_descriptors():
            for client in clients:
                with pytest.raises(BlockingIOError):
                    listening.accept()
                assert client.recv(1) == b""
        assert len(caplog.records) == 1
        assert "Too many open files; raise `ulimit -n`" in caplog.text
        clients += [socket.create_connection(listening.getsockname()) for _ in range(2)]
        listening.accept()[0].close()
        later = time.monotonic() + listener.SAY_SECONDS
        monkeypatch.setattr(time, "monotonic", lambda: later)
        with no_descriptors(), pytest.raises(BlockingIOError):
            listening.accept()
        assert len(caplog.records) == 2
    for client in clients:
        client.close()


def test_room_that_can_be_made_is_made(caplog: pytest.LogCaptureFixture) -> None:
    with bind("127.0.0.1", 0) as listening:
        listening.make_room = lambda: True
        client = socket.create_connection(listening.getsockname())
        with no_descriptors(), pytest.raises(BlockingIOError):
            listening.accept()
        listening.accept()[0].close()  # it waited
        assert client.recv(1) == b""
        client.close()
    assert len(caplog.records) == 1


def test_an_exporter_without_descriptors_is_scraped_and_books(tmp_path: Path) -> None:
    with exporter_process(tmp_path) as child:
        limit = max(int(fd) for fd in os.listdir(f"/proc/{child.pid}/fd")) + 4
        resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (limit, limit))
        host, port = url(child, "").removeprefix("http://").split(":")
        flood = [socket.create_connection((host, int(port))) for _ in range(200)]
        for number in range(5):
            assert requests.get(url(child, "/metrics"), timeout=10).status_code == 200
            answer = requests.post(url(child, "/v1/usage"), json=event(id=str(number)), timeout=10)
            assert answer.json()["accepted"] == 1
            flood += [socket.create_connection((host, int(port))) for _ in range(20)]
        said = (tmp_path / "log").read_text()
        assert (said.count("had to wait"), said.count("Traceback")) == (1, 0)
        for client in flood:
            client.close()
        until(lambda: requests.get(url(child, "/health"), timeout=10).status_code == 200)
