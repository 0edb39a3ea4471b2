"""The receiver as a process: flags, files, the reconciling loop, HTTP, signals."""

import argparse
import asyncio
import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alertmanager.receiver.app import ReceiverApp
from alertmanager.receiver.configs import Configs
from alertmanager.receiver.controller import Controller
from alertmanager.receiver.evidence.sources import Sources
from alertmanager.receiver.ladder.sides import check
from common import gateway
from common.auth import read_token
from common.clock import SystemClock
from common.errors import UserError
from common.files import FileLock, remove_leftovers
from common.http import bind, is_loopback, parse_listen
from common.server import ignore_hangup, serve
from common.startup import settle

log = logging.getLogger("receiver")
RECONCILE_SECONDS = 2.0
END_SECONDS = 9.5  # after SIGTERM, whatever hangs: up and Docker send SIGKILL after ten
MAX_RULER_DELAY = 300
FILES = {
    "config": "alertmanager/degradation.yml",
    "baseline": "alertmanager/llm_config.yml",
    "effective": "data/effective.yml",
    "state": "data/receiver-state.json",
}
SOURCES = ("alertmanager", "prometheus", "exporter")


def parser() -> argparse.ArgumentParser:
    """The receiver's flags; tokens are never among them."""
    flags = argparse.ArgumentParser(
        prog="python -m alertmanager.receiver",
        description="Turns Alertmanager's webhooks into the scraper's effective LLM config.",
        epilog="Tokens: LLM_BUDGET_WEBHOOK_TOKEN_FILE, LLM_BUDGET_ADMIN_TOKEN_FILE, or the same "
        "without _FILE.",
    )
    several: dict[str, Any] = {"action": "append", "default": []}
    seconds: dict[str, Any] = {"type": float, "metavar": "SECONDS"}
    switch: dict[str, Any] = {"action": "store_true"}
    for name, default in FILES.items():
        flags.add_argument(f"--{name}", type=Path, default=Path(default), metavar="FILE")
    flags.add_argument("--listen", default="127.0.0.1:8001", metavar="HOST:PORT")
    for source in SOURCES:
        flags.add_argument(f"--{source}", metavar="URL", help="repeat for several", **several)
    gateway.add_flags(flags)
    hold = "evidence must be clear for so long before a level falls; default 600"
    flags.add_argument("--hold", default=600.0, help=hold, **seconds)
    delay = "how late the rules' records are: rule_query_offset, vmalert's delays; default 0"
    flags.add_argument("--ruler-delay", default=0.0, help=delay, **seconds)
    flags.add_argument("--shadow", help="decide, log and export; change nothing", **switch)
    flags.add_argument("--check", help="only check that the ladder fits the baseline", **switch)
    host = "a Host name to answer to, besides localhost and IP addresses"
    flags.add_argument("--allow-host", metavar="NAME", help=host, **several)
    return flags


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM. 0 after a clean end, 2 when something keeps it from starting."""
    settle()
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    arguments = parser().parse_args(argv)
    ignore_hangup()  # baseline and ladder are read again on change
    try:
        if not arguments.check:
            return asyncio.run(run(arguments, END_SECONDS))
        problems, question = check(arguments.config, arguments.baseline)
        for line in filter(None, [*problems, question]):
            print(line, file=sys.stderr)  # noqa: T201
        return 1 if problems else 0
    except UserError as error:
        print(f"receiver: {error}", file=sys.stderr)  # noqa: T201
        return 2


async def run(arguments: argparse.Namespace, end_seconds: float | None = None) -> int:
    """Open everything, serve, close everything. end_seconds: as in serve. Raises UserError."""
    host, port = parse_listen(arguments.listen)
    webhook_token, admin_token = read_token("webhook"), read_token("admin")
    if not is_loopback(host) and webhook_token is None:
        raise UserError(
            f"listening on {host} needs a webhook token (LLM_BUDGET_WEBHOOK_TOKEN_FILE)"
        )
    delay = arguments.ruler_delay
    if not 0 <= delay <= MAX_RULER_DELAY:  # nan is not either
        raise UserError(f"--ruler-delay must be 0 to {MAX_RULER_DELAY} seconds")
    if not arguments.hold >= delay:  # the rules' interval is not known yet
        least = f"{delay:g} or more seconds, --ruler-delay and three evaluation intervals"
        raise UserError(f"--hold must be {least}")
    # The port first: a receiver that cannot have it must not touch the files of the one that has.
    with bind(host, port) as listener, _opened(arguments) as controller:
        log.info("listening on http://%s:%d", host, listener.getsockname()[1])
        rounds = asyncio.create_task(_reconcile_forever(controller))
        try:
            app = ReceiverApp(controller, webhook_token, admin_token).asgi(arguments.allow_host)
            await serve(app, listener, end_seconds=end_seconds)
        finally:
            rounds.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await rounds
    return 0


@contextlib.contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[Controller]:
    """The receiver on its files, which are locked meanwhile. Raises UserError."""
    configs = Configs(arguments.config, arguments.baseline, arguments.effective)
    state, clock = arguments.state, SystemClock()
    for folder in (arguments.effective.parent, state.parent):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder {folder}: {error.strerror}") from error
    urls = ([url.rstrip("/") for url in getattr(arguments, name)] for name in SOURCES)
    way, delay = gateway.Gateway.from_flags(arguments), arguments.ruler_delay
    sources = Sources(lambda: configs.ladder, clock, *urls, gateway=way, ruler_delay=delay)
    # In shadow mode the effective file is another's, who may have it locked.
    with contextlib.ExitStack() as locks:
        for path in (state,) if arguments.shadow else (state, configs.effective_path):
            locks.enter_context(FileLock(path.with_name(f"{path.name}.lock"), "a receiver"))
        for path in (state, configs.effective_path):
            remove_leftovers(path)
        controller = Controller(
            configs, state, sources, clock, hold_seconds=arguments.hold, shadow=arguments.shadow
        )
        with contextlib.closing(controller):
            yield controller


async def _reconcile_forever(controller: Controller) -> None:
    while True:
        try:
            await asyncio.to_thread(controller.reconcile)
        except Exception:  # the loop is what protects: it must outlive any one round
            log.exception("a round of reconciling failed")
        await asyncio.sleep(RECONCILE_SECONDS)
