"""Bounds on all bodies together, and large ones beside the event loop."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from common.http import BodyBounds, HttpError
from tests.support.exporters import Exporter, event
from tests.support.receivers import WEBHOOK, Receiver


class Client:
    """A request whose body comes piece by piece, when told."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

    def request(self) -> Request:
        async def receive() -> Any:
            piece = await self.pieces.get()
            return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

        return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def read(
    bounds: BodyBounds, client: Client, done: asyncio.Event, max_bytes: int = 100
) -> str:
    try:
        async with bounds.read(client.request(), max_bytes) as body:
            await done.wait()
            return f"{len(body)} bytes"
    except HttpError as error:
        return f"{error.status}: {error.reason}"


def test_bodies_share_a_bound_of_bytes_and_give_back_what_they_held() -> None:
    async def scenario() -> None:
        bounds, done, first, second = BodyBounds(9, 100), asyncio.Event(), Client(), Client()
        holds = asyncio.create_task(read(bounds, first, done))
        first.pieces.put_nowait(b"x" * 70)
        first.pieces.put_nowait(None)
        await asyncio.sleep(0)
        second.pieces.put_nowait(b"x" * 31)
        assert (await read(bounds, second, done)).startswith("503: too many bytes")
        done.set()
        assert await holds == "70 bytes"
        third = Client()
        third.pieces.put_nowait(b"x" * 100)
        third.pieces.put_nowait(None)
        assert await read(bounds, third, done) == "100 bytes"

    asyncio.run(scenario())


def test_one_body_alone_fits_whatever_the_bound_and_has_its_own() -> None:
    async def scenario() -> None:
        done = asyncio.Event()
        done.set()
        for size, answer in ((100, "100 bytes"), (101, "413: the body is larger than 100 bytes")):
            client = Client()
            for piece in (b"x" * 60, b"x" * (size - 60), None):
                client.pieces.put_nowait(piece)
            assert await read(BodyBounds(9, 50), client, done) == answer

    asyncio.run(scenario())


def complete() -> Client:
    """A client whose body, an empty one, is there."""
    client = Client()
    client.pieces.put_nowait(None)
    return client


def test_requests_at_work_are_counted_and_bodies_on_their_way_are_not() -> None:
    async def scenario() -> None:
        bounds, done = BodyBounds(1, 100), asyncio.Event()
        slow = asyncio.create_task(read(bounds, Client(), done))
        await asyncio.sleep(0)
        works = asyncio.create_task(read(bounds, complete(), done))
        await asyncio.sleep(0)
        assert (await read(bounds, complete(), done)).startswith("503: too many requests")
        done.set()
        assert await works == "0 bytes"
        assert await read(bounds, complete(), done) == "0 bytes"
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)

    asyncio.run(scenario())


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    with Exporter(tmp_path) as running:
        yield running


def test_a_large_body_is_booked_as_a_small_one_is(exporter: Exporter) -> None:
    events = [event(id=str(index)) for index in range(2000)]
    assert len(json.dumps(events)) > 64 << 10
    assert exporter.book(*events)["accepted"] == 2000
    lines = "\n".join(json.dumps(one) for one in events).encode()
    assert exporter.post(lines, "application/X-NDJSON").json()["duplicate"] == 2000
    assert exporter.post(b"[" * 100_000).status_code == 400
    assert exporter.post(b"[" + b"{}," * 30_000 + b"{}]").status_code == 413


def test_a_busy_exporter_says_when_to_come_again(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter.parts.usage, "_body_bounds", BodyBounds(0, 0))
    answer = exporter.post(event())
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"


def test_the_receiver_bounds_its_notifications_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alertmanager.receiver.app.MAX_NOTIFICATIONS", 0)
    receiver = Receiver(tmp_path)
    headers = {"Authorization": f"Bearer {WEBHOOK}"}
    for path in ("/alerts", "/watchdog"):
        assert receiver.http.post(path, json={}, headers=headers).status_code == 503
    receiver.close()
