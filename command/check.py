"""`llm-budget check`: every config file of the bundle together, and whether its ports are free."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from command import ports
from command.paths import ALERTMANAGER, REPOSITORY, RULES
from command.remote import call
from command.stack.binaries import find
from command.stack.bundle import Ports
from command.stack.contacts import load_contacts
from command.thresholds import thresholds
from common.errors import UserError
from exporter.config import load_config


@dataclass
class Finding:
    """The outcome of one check: ok, warning or error."""

    part: str
    status: str
    detail: str


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add the check command."""
    command = subparsers.add_parser(
        "check",
        help="check every config file, and whether the ports are free or the bundle's",
        description="Exit status 0 when all is well, 1 when something is wrong.",
    )
    files = {
        "config": REPOSITORY / "budget.yml",
        "ladder": ALERTMANAGER / "degradation.yml",
        "baseline": ALERTMANAGER / "llm_config.yml",
        "rules": RULES / "prometheus.yml",
        "alertmanager": ALERTMANAGER / "alertmanager.yml",
        "contacts": REPOSITORY / "contacts.yml",
    }
    for name, path in files.items():
        command.add_argument(f"--{name}", type=Path, default=path, metavar="FILE")
    ports.add_flags(command)
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check everything; one broken part does not hide the others."""
    findings = [
        _python("budget", lambda: _budget(arguments.config)),
        _python("contacts", lambda: _contacts(arguments.contacts)),
        _python("thresholds", lambda: _thresholds(arguments.rules.parent)),
        _ladder(arguments.ladder, arguments.baseline),
        _tool("rules", "promtool", "check", "config", str(arguments.rules)),
        _tool("alertmanager", "amtool", "check-config", str(arguments.alertmanager)),
        *_receiver(f"http://127.0.0.1:{arguments.receiver_port}"),
        *_ports(ports.from_flags(arguments)),
    ]
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _table(findings)
    return int(any(finding.status == "error" for finding in findings))


def _python(part: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(part, "ok", check())
    except UserError as error:
        return Finding(part, "error", str(error))


def _budget(path: Path) -> str:
    config = load_config(path)
    budget = config.budget
    if sum(budget.roasters.values()) + budget.reserve_usd > budget.daily_limit_usd:
        raise UserError(
            f"{path}: the roasters' caps and the reserve exceed daily_limit_usd; lower one of them"
        )
    return f"${budget.daily_limit_usd} a day, {budget.timezone}, from {budget.day_starts_at}"


def _contacts(path: Path) -> str:
    contacts = load_contacts(path)
    named = sum(bool(person.name) for person in contacts.people)
    return f"mail to {', '.join(contacts.mail.to)}; {named} people named"


def _thresholds(folder: Path) -> str:
    return ", ".join(f"{name} {ratio:.0%}" for name, ratio in thresholds(folder).items())


def _ladder(ladder: Path, baseline: Path) -> Finding:
    """The receiver checks its own files: the exporter knows nothing of them."""
    argv = [sys.executable, "-m", "alertmanager.receiver", "--check"]
    return _run("degradation", [*argv, "--config", str(ladder), "--baseline", str(baseline)])


def _receiver(url: str) -> list[Finding]:
    """What a receiver that runs here says of its hold and of its sources; nothing without one."""
    try:
        state = call("the receiver", f"{url}/state")
        problems = list(state["problems"].values())
        sources = [f"{one} {answer}" for one, answer in state["sources"].items()]
    except (UserError, LookupError, TypeError, AttributeError):
        return []
    return [Finding("receiver", "error" if problems else "ok", "; ".join([*problems, *sources]))]


def _tool(part: str, name: str, *arguments: str) -> Finding:
    binary = find(name)
    if binary is None:
        return Finding(part, "warning", f"not checked: {name} is not installed")
    return _run(part, [str(binary), *arguments])


def _run(part: str, argv: Sequence[str]) -> Finding:
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True)
    words = (done.stdout + done.stderr).strip()
    if done.returncode == 0:
        return Finding(part, "ok", "valid")
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return Finding(part, "error", " ".join(lines[-3:]))


def _ports(wanted: Ports) -> list[Finding]:
    return [
        _python(f"port of {service}", partial(ports.state, service, port))
        for service, port in asdict(wanted).items()
    ]


def _table(findings: list[Finding]) -> None:
    table = Table("part", "", "detail", box=None)
    colours = {"ok": "green", "warning": "yellow", "error": "red"}
    for finding in findings:
        word = f"[{colours[finding.status]}]{finding.status}[/]"
        table.add_row(finding.part, word, finding.detail.replace("[", r"\["))
    Console().print(table)
