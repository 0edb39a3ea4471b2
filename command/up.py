"""`llm-budget up`: the whole bundle as local processes, until Ctrl-C."""

import argparse
import contextlib
import os
from pathlib import Path

from command.flags import PORTS, command, file_flag, flag, ports
from command.paths import BASELINE, BUDGET, CONTACTS, DATA, LADDER, REPOSITORY
from command.stack.binaries import ensure
from command.stack.bundle import Bundle
from command.stack.configs import LOOPBACK, Ports, prepare_compose
from command.stack.reach import reach
from command.stack.way import choose, note
from common import signals
from common.errors import UserError
from common.files import FileLock

CHECK_EVERY_SECONDS = 1.0
# Prometheus, Alertmanager and Grafana read a changed config only when they start.
COMPOSE = ["docker", "compose", "up", "--build", "--force-recreate"]
PAGES = {
    "exporter": "status page, /metrics",
    "receiver": "/config, /state",
    "prometheus": "",
    "alertmanager": "",
}


def _ipv4(text: str) -> str:
    if ":" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no IPv4 address such as 0.0.0.0")
    return text


@command(
    "run exporter, receiver, Prometheus and Alertmanager here, until Ctrl-C",
    file_flag("--config", BUDGET),
    file_flag("--baseline", BASELINE, help="the scraper's normal LLM config"),
    file_flag("--contacts", CONTACTS),
    file_flag("--ladder", LADDER, help="what each level changes"),
    file_flag("--effective", help="what the scraper reads; default: in the data folder"),
    flag(
        "--hold",
        type=float,
        metavar="SECONDS",
        help="clear evidence before a level falls; default 600",
    ),
    flag(
        "--listen",
        type=_ipv4,
        default=LOOPBACK,
        metavar="ADDRESS",
        help="of exporter and receiver; 0.0.0.0",
    ),
    *PORTS,
    flag(
        "--way",
        choices=("processes", "compose", "auto"),
        default="processes",
        help="auto: compose where a Docker engine answers; default: processes",
    ),
    flag(
        "--prepare-only",
        action="store_true",
        help="only write what docker-compose.yml mounts, under data/compose",
    ),
)
def up(arguments: argparse.Namespace) -> int:
    """Runs the bundle as local processes, where what dies is started again, or with docker compose.
    Data, logs and tokens stay in the data folder, which knows in which way it is used.
    """
    folder = arguments.data.resolve()
    try:
        if arguments.prepare_only:
            return _prepare(arguments, folder)
        if choose(arguments.way, folder, _special(arguments)) == "compose":
            _prepare(arguments, folder)
            note("compose", folder)
            os.chdir(REPOSITORY)
            group = (folder / "spool").stat().st_gid
            environment = {"LLM_BUDGET_SPOOL_GROUP": f"{group}", **os.environ}
            os.execvpe("docker", COMPOSE, environment)  # noqa: S606
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "up.lock", "llm-budget up"), signals.noted():
            _run_here(arguments, folder)  # locked, because two would share configs
        return 0
    except OSError as error:
        root = isinstance(error, PermissionError)  # ran it before, or Docker did
        mend = "it must belong to you" if root else "free it"
        raise UserError(
            f"cannot use {error.filename or folder}: {error.strerror}; {mend}, or choose another "
            "folder with --data"
        ) from error


def _special(arguments: argparse.Namespace) -> bool:
    """Whether a flag asks for what docker-compose.yml does not know."""
    known = (arguments.ladder, arguments.listen, arguments.data.resolve(), ports(arguments))
    usual = (LADDER, LOOPBACK, DATA, Ports())
    return known != usual or arguments.hold is not None or arguments.effective is not None


def _prepare(arguments: argparse.Namespace, folder: Path) -> int:
    files = (arguments.contacts, arguments.config, arguments.baseline)
    prepare_compose(folder / "compose", *files)
    try:
        config = folder / "compose" / "alertmanager" / "alertmanager.yml"
        _say_who_is_told(config, folder, arguments.contacts, contained=True)
    except UserError as error:  # in containers it runs without amtool
        print(f"alerts:           who is told cannot be said here: {error}", flush=True)
    return 0


def _say_who_is_told(config: Path, folder: Path, contacts: Path, contained: bool = False) -> None:
    """folder: where people put their secrets."""
    for severity, _, said in reach(config, contacts, folder, contained):
        print(f"{severity + ' alerts:':17} {said}", flush=True)  # before it becomes docker


def _run_here(arguments: argparse.Namespace, folder: Path) -> None:
    ensure()
    files = (arguments.config, arguments.baseline, arguments.contacts, arguments.ladder)
    budget, baseline, contacts, ladder = (file.resolve() for file in files)
    effective = arguments.effective and arguments.effective.resolve()
    hold = ("--hold", f"{arguments.hold}") if arguments.hold is not None else ()
    bundle = Bundle(
        *(folder, budget, baseline, contacts, ports(arguments), ladder, effective),
        listen=arguments.listen, receiver_flags=hold,
    )  # fmt: skip
    try:
        bundle.start()
        note("processes", folder)
        for service, pages in PAGES.items():
            print(f"{service:13} {bundle.url(service)}   {pages}".rstrip())
        print(f"effective config: {bundle.effective}")
        print(f"tokens and logs:  {bundle.folder}")
        _say_who_is_told(folder / "alertmanager.yml", folder, contacts)
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
