"""The exporter as a process: configuration, ledger, HTTP, signals."""

import argparse
import asyncio
import contextlib
import logging
import os
import re
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from common.clock import SystemClock
from common.errors import UserError
from common.http import bind, json_response, parse_listen
from common.server import ignore_hangup, serve
from common.startup import settle
from exporter.access import load_settings
from exporter.composition import Exporter
from exporter.config import Log
from exporter.web.app import application
from exporter.web.peers import Peers


def parser() -> argparse.ArgumentParser:
    """The exporter's flags; tokens are never among them."""
    flags = argparse.ArgumentParser(
        prog="python -m exporter",
        description="Keeps the books of LLM tokens and cost, and publishes them to Prometheus.",
        epilog="Tokens: LLM_BUDGET_INGEST_TOKEN_FILE, LLM_BUDGET_ADMIN_TOKEN_FILE, "
        "LLM_BUDGET_METRICS_TOKEN_FILE, the same without _FILE, or `access:` in the config.",
    )
    file: dict[str, Any] = {"type": Path, "metavar": "FILE"}
    several: dict[str, Any] = {"action": "append", "default": []}
    flags.add_argument("--config", default=Path("budget.yml"), **file)
    flags.add_argument("--listen", default="127.0.0.1:8000", metavar="HOST:PORT")
    flags.add_argument("--ledger", default=Path("data/ledger/ledger.sqlite"), **file)
    text = "a Host name to answer to, besides localhost, IP addresses and `access.hosts`"
    flags.add_argument("--allow-host", metavar="NAME", help=text, **several)
    text = "where the status page asks for this; empty: nowhere (default: %(default)s)"
    for peer, url in (
        ("receiver", "http://127.0.0.1:8001"),
        ("prometheus", "http://127.0.0.1:9090"),
    ):
        flags.add_argument(f"--{peer}", default=url, metavar="URL", help=text)
    text = "a link on the status page, as browsers reach it, e.g. Grafana=http://host:3000"
    flags.add_argument("--link", type=named_link, metavar="NAME=URL", help=text, **several)
    text = (
        "follow this log or spool of usage events, or these (a quoted glob); repeatable; "
        "`log:` in the config also maps other logs"
    )
    flags.add_argument("--log", type=os.path.abspath, metavar="FILE", help=text, **several)
    return flags


def named_link(text: str) -> tuple[str, str]:
    """ "Grafana=http://host:3000" as a name and an http(s) URL. Raises ArgumentTypeError."""
    name, _, url = text.partition("=")
    if not name or not re.match("https?://[^/]", url):
        raise argparse.ArgumentTypeError(f"{text!r} is not like Grafana=http://127.0.0.1:3000")
    return name, url


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM. 0 after a clean end, 2 when something keeps it from starting."""
    settle()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    arguments = parser().parse_args(argv)
    ignore_hangup()  # until it means: reload
    try:
        return asyncio.run(run(arguments))
    except (UserError, OSError) as error:
        print(f"exporter: {error}", file=sys.stderr)  # noqa: T201
        return 2


async def run(arguments: argparse.Namespace) -> int:
    """Open everything, serve, close everything. Raises UserError."""
    host, port = parse_listen(arguments.listen)
    load = partial(load_settings, arguments.config, host)
    settings = load()
    hangups = asyncio.Event()
    # A large ledger takes seconds to read; until then every answer is 503.
    app: ASGIApp = json_response({"error": "the ledger is being read; try again"}, 503)

    async def current(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    with bind(host, port) as listener:
        serving = asyncio.create_task(serve(current, listener, on_hangup=hangups.set))
        logs = [Log(path) for path in arguments.log]
        parts = (settings, load, arguments.ledger, SystemClock(), arguments.allow_host, logs)
        try:
            exporter = await asyncio.to_thread(Exporter, *parts)
            try:
                await asyncio.to_thread(exporter.start)
                peers = Peers(arguments.receiver, arguments.prometheus)
                app = application(exporter, peers, dict(arguments.link))
                reloading = asyncio.create_task(reload_at(hangups, exporter.reload))
                address = f"http://{host}:{listener.getsockname()[1]}"
                with contextlib.suppress(OSError):  # a full disk keeps nobody from booking
                    print(f"exporter: listening on {address}", flush=True)  # noqa: T201
                await serving
                reloading.cancel()
            finally:
                await asyncio.to_thread(exporter.close)
        finally:
            serving.cancel()  # when the ledger cannot be opened, or a log has another reader
    return 0


async def reload_at(hangups: asyncio.Event, reload: Callable[[], Awaitable[None]]) -> None:
    """Reload after each SIGHUP, also after one that came while the ledger was read."""
    while True:
        await hangups.wait()
        hangups.clear()
        with contextlib.suppress(Exception):  # it is logged, measured and in the status
            await reload()
