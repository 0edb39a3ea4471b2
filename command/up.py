"""`llm-budget up`: the whole bundle as local processes, until Ctrl-C."""

import argparse
import contextlib
from pathlib import Path

from command.flags import PORTS, command, file_flag, flag, ports
from command.paths import BASELINE, BUDGET, CONTACTS, DATA
from command.stack.binaries import ensure
from command.stack.bundle import Bundle
from command.stack.configs import prepare_compose
from command.stack.reach import reach
from common import signals
from common.errors import UserError
from common.files import FileLock

CHECK_EVERY_SECONDS = 1.0
PAGES = {
    "exporter": "status page, /metrics",
    "receiver": "/config, /state",
    "prometheus": "",
    "alertmanager": "",
}


@command(
    "run exporter, receiver, Prometheus and Alertmanager here, until Ctrl-C",
    flag("--data", type=Path, default=DATA, metavar="DIR", help="default: ./data"),
    file_flag("--config", BUDGET),
    file_flag("--baseline", BASELINE, help="the scraper's normal LLM config"),
    file_flag("--contacts", CONTACTS),
    *PORTS,
    flag(
        "--prepare-only",
        action="store_true",
        help="only write what docker-compose.yml mounts, under data/compose",
    ),
)
def up(arguments: argparse.Namespace) -> int:
    """Runs the bundle as local processes; what dies is started again. Data, logs and tokens stay in
    the data folder.
    """
    folder = arguments.data.resolve()
    try:
        if arguments.prepare_only:
            prepare_compose(folder / "compose", arguments.contacts)
            _say_who_is_told(folder / "compose", arguments.contacts)
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


def _say_who_is_told(folder: Path, contacts: Path) -> None:
    for severity, _, said in reach(folder / "alertmanager.yml", contacts, folder):
        print(f"{severity + ' alerts:':17} {said}")


def _run_here(arguments: argparse.Namespace, folder: Path) -> None:
    ensure()
    files = (arguments.config, arguments.baseline, arguments.contacts)
    budget, baseline, contacts = (file.resolve() for file in files)
    bundle = Bundle(folder, budget, baseline, contacts, ports(arguments))
    try:
        bundle.start()
        for service, pages in PAGES.items():
            print(f"{service:13} {bundle.url(service)}   {pages}".rstrip())
        print(f"effective config: {bundle.effective}")
        print(f"tokens and logs:  {bundle.folder}")
        _say_who_is_told(folder, contacts)
        print("Ctrl-C stops everything; the data stays.", flush=True)
        with contextlib.suppress(signals.Interrupted):  # the way in which it ends well
            while True:
                signals.sleep(CHECK_EVERY_SECONDS)
                for child in (one for one in bundle.children if not one.running):
                    print(f"{child.name} ended (see {child.log}); starting it again", flush=True)
                    child.start()
        print("stopping …", flush=True)
    finally:
        bundle.stop()
