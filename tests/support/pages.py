"""The status page in Chromium: a server whose application may be replaced, and the browser."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from selenium import webdriver
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from command.stack.binaries import find
from common.http import bind
from tests.support.waiting import until

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


class Site:
    """An ASGI application at a loopback address, which may be replaced between two requests."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.app: ASGIApp = Response(status_code=503)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@contextmanager
def serving(app: ASGIApp | None = None) -> Iterator[Site]:
    """A site on a free port, ended at the end."""
    with bind("127.0.0.1", 0) as listener:
        site = Site(f"http://127.0.0.1:{listener.getsockname()[1]}")
        site.app = app or site.app
        server = uvicorn.Server(uvicorn.Config(site, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            until(lambda: server.started, what="the site to start")
            yield site
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """A headless Chromium that keeps what pages write on the console."""
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser, driver_file = find("chromium"), find("chromium-driver")
    assert None not in (browser, driver_file), (
        "install chromium and chromium-driver, as make test does"
    )
    options.binary_location = str(browser)
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(driver_file)))
    try:
        yield driver
    finally:
        driver.quit()


class Prometheus:
    """Answers every query with the same samples."""

    def __init__(self, *samples: tuple[dict[str, str], float | str]) -> None:
        self.samples = samples
        self.queries: list[str] = []

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/api/v1/query", self.query)])

    async def query(self, request: Request) -> JSONResponse:
        self.queries.append(request.query_params["query"])
        found: list[dict[str, Any]] = [
            {"metric": labels, "value": [0, str(value)]} for labels, value in self.samples
        ]
        return JSONResponse({"data": {"resultType": "vector", "result": found}})
