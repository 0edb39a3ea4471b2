"""The receiver as a process: flags, files, the reconciling loop, HTTP, signals."""

import argparse
import asyncio
import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from alertmanager.receiver.app import Tokens, Web
from alertmanager.receiver.audit import Audit
from alertmanager.receiver.configs import Configs
from alertmanager.receiver.controller import Controller
from alertmanager.receiver.evidence.sources import Sources
from alertmanager.receiver.hooks import Hooks
from alertmanager.receiver.ladder.check import check
from alertmanager.receiver.metrics import Metrics
from alertmanager.receiver.store import Store
from common.auth import read_token
from common.clock import SystemClock
from common.errors import UserError
from common.files import FileLock, remove_leftovers
from common.http import bind, is_loopback, parse_listen
from common.server import ignore_hangup, serve
from common.startup import settle

log = logging.getLogger("receiver")
RECONCILE_SECONDS = 2.0


def parser() -> argparse.ArgumentParser:
    """The receiver's flags; tokens are never among them."""
    flags = argparse.ArgumentParser(
        prog="python -m alertmanager.receiver",
        description="Turns Alertmanager's webhooks into the scraper's effective LLM config.",
        epilog="Tokens: LLM_BUDGET_WEBHOOK_TOKEN_FILE, LLM_BUDGET_ADMIN_TOKEN_FILE, or the same "
        "without _FILE.",
    )
    here = Path("alertmanager")
    flags.add_argument("--config", type=Path, default=here / "degradation.yml", metavar="FILE")
    flags.add_argument("--baseline", type=Path, default=here / "llm_config.yml", metavar="FILE")
    flags.add_argument("--effective", type=Path, default=Path("data/effective.yml"), metavar="FILE")
    flags.add_argument(
        "--state", type=Path, default=Path("data/receiver-state.json"), metavar="FILE"
    )
    flags.add_argument("--listen", default="127.0.0.1:8001", metavar="HOST:PORT")
    for source in ("alertmanager", "prometheus", "exporter"):
        flags.add_argument(
            f"--{source}", action="append", default=[], metavar="URL", help="repeat for several"
        )
    flags.add_argument(
        "--hold",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="evidence must be clear for so long before a level falls; default 600",
    )
    flags.add_argument(
        "--shadow", action="store_true", help="decide, log and export; change nothing"
    )
    flags.add_argument(
        "--check", action="store_true", help="only check that the ladder fits the baseline"
    )
    flags.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a Host name to answer to, besides localhost and IP addresses",
    )
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
        if arguments.check:
            return _check(arguments.config, arguments.baseline)
        return asyncio.run(run(arguments))
    except UserError as error:
        print(f"receiver: {error}", file=sys.stderr)  # noqa: T201
        return 2


def _check(ladder: Path, baseline: Path) -> int:
    problems = check(ladder, baseline)
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201
    return 1 if problems else 0


async def run(arguments: argparse.Namespace) -> int:
    """Open everything, serve, close everything. Raises UserError."""
    host, port = parse_listen(arguments.listen)
    tokens = Tokens(webhook=read_token("webhook"), admin=read_token("admin"))
    if not is_loopback(host) and tokens.webhook is None:
        raise UserError(
            f"listening on {host} needs a webhook token (LLM_BUDGET_WEBHOOK_TOKEN_FILE)"
        )
    if not arguments.hold >= 0:  # nor no number at all
        raise UserError("--hold must be 0 or more seconds")
    # The port first: a receiver that cannot have it must not touch the files of the one that has.
    with bind(host, port) as listener, _controller(arguments) as controller:
        log.info("listening on http://%s:%d", host, listener.getsockname()[1])
        loop = asyncio.create_task(_reconcile_forever(controller))
        try:
            await serve(Web(controller, tokens, arguments.allow_host).app(), listener)
        finally:
            loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await loop
    return 0


@contextlib.contextmanager
def _controller(arguments: argparse.Namespace) -> Iterator[Controller]:
    """Everything behind the routes, closed at the end. Raises UserError."""
    configs = Configs(arguments.config, arguments.baseline, arguments.effective)
    for path in (arguments.effective, arguments.state):
        _need_folder(path)
    metrics, clock = Metrics(), SystemClock()

    def failed(step: str, sentence: str) -> None:
        log.error("%s failed: %s", step, sentence)
        metrics.hook_failures.inc()
        metrics.apply_failed.labels(step).set(1)

    hooks = Hooks(failed, lambda step: metrics.apply_failed.labels(step).set(0))
    sources = Sources(
        lambda: configs.ladder,
        clock,
        *([url.rstrip("/") for url in getattr(arguments, name)] for name in _SOURCES),
    )
    audit = Audit(arguments.state.with_name(f"{arguments.state.stem}.audit.jsonl"))
    lock = FileLock(arguments.state.with_name(f"{arguments.state.name}.lock"), "a receiver")
    with lock:
        for path in (arguments.state, configs.effective_path):
            remove_leftovers(path)
        store = Store(
            configs, arguments.state, audit, hooks, metrics, clock, shadow=arguments.shadow
        )
        try:
            yield Controller(store, sources, clock, metrics, arguments.hold)
        finally:
            sources.close()
            hooks.close()


_SOURCES = ("alertmanager", "prometheus", "exporter")


def _need_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {path.parent}: {error.strerror}") from error


async def _reconcile_forever(controller: Controller) -> None:
    """A round every few seconds; a round that fails is logged, and the next one comes."""
    while True:
        try:
            await asyncio.to_thread(controller.reconcile)
        except Exception:  # the loop is what protects: it must outlive any one round
            log.exception("a round of reconciling failed")
        await asyncio.sleep(RECONCILE_SECONDS)
