"""`llm-budget up`: the whole bundle as local processes, until Ctrl-C."""

import argparse
import contextlib
from pathlib import Path
from typing import Any

from command import ports
from command.paths import REPOSITORY
from command.stack.binaries import ensure
from command.stack.bundle import Bundle, BundleSettings
from command.stack.compose import prepare
from command.stack.processes import Child
from common import signals
from common.errors import UserError
from common.files import FileLock

CHECK_EVERY_SECONDS = 1.0


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add the up command."""
    command = subparsers.add_parser(
        "up",
        help="run exporter, receiver, Prometheus and Alertmanager here, until Ctrl-C",
        description="Runs the bundle as local processes; what dies is started again. "
        "Data, logs and tokens stay in the data folder.",
    )
    command.add_argument(
        "--data", type=Path, default=REPOSITORY / "data", metavar="DIR", help="default: ./data"
    )
    command.add_argument("--config", type=Path, default=REPOSITORY / "budget.yml", metavar="FILE")
    command.add_argument(
        "--baseline",
        type=Path,
        default=REPOSITORY / "alertmanager" / "llm_config.yml",
        metavar="FILE",
        help="the scraper's normal LLM config",
    )
    command.add_argument(
        "--contacts", type=Path, default=REPOSITORY / "contacts.yml", metavar="FILE"
    )
    ports.add_flags(command)
    command.add_argument(
        "--prepare-only",
        action="store_true",
        help="only write what docker-compose.yml mounts, under data/compose",
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prepare for compose, or run here. Raises UserError, also for a folder of no use."""
    folder = arguments.data.resolve()
    try:
        if arguments.prepare_only:
            prepare(folder / "compose", arguments.contacts)
            return 0
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "up.lock", "llm-budget up"), signals.noted():
            _run_here(arguments, folder)  # locked, because two would share configs
            return 0
    except OSError as error:
        raise UserError(
            f"cannot use {error.filename or folder}: {error.strerror}; "
            "free it, or choose another folder with --data"
        ) from error


def _run_here(arguments: argparse.Namespace, folder: Path) -> None:
    """Start everything, restart what dies, stop all on SIGINT or SIGTERM."""
    ensure()
    settings = BundleSettings(
        folder=folder,
        budget=arguments.config.resolve(),
        baseline=arguments.baseline.resolve(),
        contacts=arguments.contacts.resolve(),
        ports=ports.from_flags(arguments),
    )
    bundle = Bundle(settings)
    try:
        bundle.start()
        _announce(bundle)
        _watch(bundle)
    finally:
        bundle.stop()


def _watch(bundle: Bundle) -> None:
    """Start again what dies, until SIGINT or SIGTERM: the way in which it ends well."""
    with contextlib.suppress(signals.Interrupted):
        while True:
            signals.sleep(CHECK_EVERY_SECONDS)
            for child in bundle.children:
                _revive(child)
    print("stopping …", flush=True)


def _revive(child: Child) -> None:
    if not child.running:
        print(f"{child.name} ended (see {child.log}); starting it again", flush=True)
        child.start()


def _announce(bundle: Bundle) -> None:
    print(f"exporter      {bundle.url('exporter')}   status page, /metrics")
    print(f"receiver      {bundle.url('receiver')}   /config, /state")
    print(f"prometheus    {bundle.url('prometheus')}")
    print(f"alertmanager  {bundle.url('alertmanager')}")
    print(f"effective config: {bundle.effective}")
    print(f"tokens and logs:  {bundle.folder}")
    print("Ctrl-C stops everything; the data stays.", flush=True)
