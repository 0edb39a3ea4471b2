"""What the status page asks of others: within bounds, once for all viewers."""

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from common import names
from exporter.web import peers as module
from exporter.web.peers import Peers, Said
from tests.support.pages import Prometheus, Site, serving

THRESHOLD = {"__name__": names.THRESHOLD, "threshold": "half"}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving() as running:
        yield running


def ask(peers: Peers) -> tuple[Said, dict[str, float]]:
    return asyncio.run(peers.ask())


def state(answer: Any, asked: list[str]) -> Starlette:
    async def tell(request: Request) -> Response:
        asked.append(request.url.path)
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    return Starlette(routes=[Route("/state", tell)])


def test_many_viewers_at_once_are_one_request(site: Site) -> None:
    asked: list[str] = []
    site.app = state({"level": "control"}, asked)
    peers = Peers(site.url)

    async def viewers() -> list[tuple[Said, dict[str, float]]]:
        return await asyncio.gather(*(peers.ask() for _ in range(50)))

    levels = {said.receiver and said.receiver.level for said, _ in asyncio.run(viewers())}
    assert levels == {"control"}
    assert asked == ["/state"]


def test_an_old_answer_is_asked_for_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    site.app = state({"level": "control"}, asked)
    monkeypatch.setattr(module, "KEEP_SECONDS", 0)
    peers = Peers(site.url)
    ask(peers)
    site.app = state({"level": "none"}, asked)
    said, _ = ask(peers)
    assert said.receiver is not None
    assert said.receiver.level == "none"


def test_nothing_is_asked_of_who_is_not_named() -> None:
    said, thresholds = ask(Peers())
    assert (said.receiver, said.samples, said.problems, thresholds) == (None, [], {}, {})


def test_one_that_hangs_keeps_nobody_waiting_and_the_other_counts(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.BOUNDS, "timeout", 0.3)
    site.app = Prometheus((THRESHOLD, 0.5)).app
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        said, thresholds = ask(Peers(f"http://127.0.0.1:{silent.getsockname()[1]}", site.url))
    assert time.monotonic() - started < 3
    assert "no answer in time" in said.problems["receiver"]
    assert thresholds == {"half": 0.5}


@pytest.mark.parametrize(
    "answer",
    [
        {}, [], {"level": 3}, {"level": "a", "holds": [1]}, Response("<html>"),
        Response(b"[" * 100_000), Response(status_code=404), Response(b"x" * (2 << 20)),
        Response(status_code=302, headers={"Location": "http://127.0.0.1:1/"}),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_named(site: Site, answer: Any) -> None:
    site.app = state(answer, [])
    said, _ = ask(Peers(site.url))
    assert said.receiver is None
    assert f"{site.url}/state gives a wrong answer" in said.problems["receiver"]


def test_thresholds_stay_known_when_prometheus_goes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEP_SECONDS", 0)
    site.app = Prometheus((THRESHOLD, 0.5)).app
    peers = Peers("", site.url)
    assert ask(peers)[1] == {"half": 0.5}
    site.app = Response(status_code=503)
    said, thresholds = ask(peers)
    assert "Prometheus" in said.problems
    assert thresholds == {"half": 0.5}


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "1e300"])
def test_what_is_no_amount_is_left_out(site: Site, value: str) -> None:
    site.app = Prometheus(({"__name__": names.FORECAST}, value), (THRESHOLD, value)).app
    said, thresholds = ask(Peers("", site.url))
    assert said.value(names.FORECAST) is None
    assert thresholds == {}
