"""`llm-budget check`: every config file of the bundle together, and whether its ports are free."""

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from rich.text import Text

from alertmanager.receiver.ladder.baseline import parse_baseline
from alertmanager.receiver.ladder.ladder import parse_ladder
from command.flags import PORTS, command, file_flag, flag, json_flag, ports, print_json, print_table
from command.paths import BASELINE, BUDGET, CONTACTS, LADDER, LEDGER, REPOSITORY, RULES
from command.remote import address, call, running
from command.send_test import send_test
from command.stack.binaries import find
from command.stack.configs import Ports
from command.stack.contacts import Contacts
from command.stack.reach import reach
from command.swaps import judge_swaps
from command.thresholds import thresholds
from common.errors import UserError
from common.fetch import FetchError, fetch
from common.http import bind
from common.listener import port_holder
from common.names import JOB_EXPORTER
from common.yamlfile import read_as, read_raw
from exporter.config import load_config

COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}
# What each part answers when it is this bundle's: a path, and words of which one is in the answer.
IDENTITY = {
    "exporter": ("/health", ('"logs":', "the ledger is being read")),
    "receiver": ("/state", ('"override":',)),
    "prometheus": ("/api/v1/status/config", (f"job_name: {JOB_EXPORTER}",)),
    "alertmanager": ("/api/v2/status", ("name: degradation",)),
}


class Finding(NamedTuple):
    """The outcome of one check: ok, warning or error."""

    part: str
    status: str
    detail: str


@command(
    "check every config file, and whether the ports are free or the bundle's",
    file_flag("--config", BUDGET),
    file_flag("--ladder", LADDER),
    file_flag("--baseline", BASELINE),
    file_flag("--rules", RULES / "prometheus.yml"),
    file_flag("--alertmanager", LADDER.with_name("alertmanager.yml")),
    file_flag("--contacts", CONTACTS),
    file_flag("--ledger", LEDGER, help="what a ladder's cheaper model would save is told by it"),
    flag("--send-test", action="store_true", help="send an alert by each receiver that runs"),
    *(*PORTS, json_flag()),
)
def check(arguments: argparse.Namespace) -> int:
    """Exit status 0 when all is well, 1 when something is wrong."""
    receiver = ("-m", "alertmanager.receiver", "--check")  # it knows its own files
    files = ("--config", str(arguments.ladder), "--baseline", str(arguments.baseline))
    findings = [  # one broken part does not hide the others
        _python("budget", _budget, arguments.config, arguments.baseline, arguments.ladder),
        _python("contacts", _contacts, arguments.contacts),
        _python("thresholds", _thresholds, arguments.rules.parent),
        _run("degradation", sys.executable, *receiver, *files),
        *(Finding("models", *found) for found in judge_swaps(arguments)),
        _run("rules", "promtool", "check", "config", str(arguments.rules)),
        _run("alertmanager", "amtool", "check-config", str(arguments.alertmanager)),
        *_people(arguments),
        *_receiver(_url("receiver", arguments)),
        *(
            _python(f"port of {service}", port_state, service, port)
            for service, port in asdict(_ports(arguments)).items()
        ),
    ]
    if arguments.json:
        print_json([finding._asdict() for finding in findings])
    else:
        rows = ((part, Text(word, COLOURS[word]), detail) for part, word, detail in findings)
        print_table(("part", "", "detail"), rows)
    return int(any(finding.status == "error" for finding in findings))


def _url(service: str, arguments: argparse.Namespace) -> str:
    """Of the port that a flag names, else as other commands find the service."""
    port = getattr(arguments, f"{service}_port")
    return f"http://127.0.0.1:{port}" if port else address(service, arguments.data)


def _ports(arguments: argparse.Namespace) -> Ports:
    """Those of the flags, else of what `up` ran in this data folder, else the usual."""
    known = {name: urlsplit(url).port for name, url in running(arguments.data).items()}
    return ports(arguments, Ports(**{name: port for name, port in known.items() if port}))


def _python(part: str, say: Callable[..., str], *values: Any) -> Finding:
    try:
        return Finding(part, "ok", say(*values))
    except UserError as error:
        return Finding(part, "error", str(error))


def _budget(path: Path, baseline: Path, ladder: Path) -> str:
    budget = load_config(path).budget
    for key, caps, tuning in (
        ("roasters", budget.roasters, "roaster_stop"),
        ("fields", budget.fields, "field_stop"),
    ):
        if caps and tuning not in parse_ladder(read_raw(ladder), ladder).automatic:
            raise UserError(
                f"{path}: budget.{key} has caps, and {ladder} has no automatic tuning {tuning} to "
                "keep them; copy it from the shipped degradation.yml"
            )
    reserved = {
        "the roasters' caps and the reserve": sum(budget.roasters.values()) + budget.reserve_usd,
        "the fields' caps": sum(budget.fields.values()),
    }
    for what, usd in reserved.items():
        if usd > budget.daily_limit_usd:
            raise UserError(f"{path}: {what} exceed daily_limit_usd; lower one of them")
    document = parse_baseline(read_raw(baseline), baseline) if budget.fields else {}
    if unknown := sorted(budget.fields.keys() - (document.get("field_configs") or {})):
        raise UserError(
            f"{path}: budget.fields caps {unknown[0]}, which has no field_configs.{unknown[0]} in "
            f"{baseline}: a field can only be stopped there; add it, or correct the name"
        )
    return f"${budget.daily_limit_usd} a day, {budget.timezone}, from {budget.day_starts_at}"


def _contacts(path: Path) -> str:
    contacts = read_as(path, Contacts)
    named = sum(bool(person.name) for person in contacts.people)
    return f"mail to {', '.join(contacts.mail.to)}; {named} people named"


def _people(arguments: argparse.Namespace) -> list[Finding]:
    """Who hears of what, and whether they can follow a link; nothing where a file is wrong."""
    found = []
    with contextlib.suppress(UserError):  # which its own check says
        if problem := read_as(arguments.contacts, Contacts).links.problem:
            found.append(Finding("links", "warning", problem))
        for severity, reached, said in reach(
            arguments.alertmanager, arguments.contacts, arguments.data
        ):
            found.append(Finding(f"{severity} alerts", "ok" if reached else "warning", said))
    if arguments.send_test:
        try:
            for name, done, said in send_test(_url("alertmanager", arguments)):
                found.append(Finding(f"test of {name}", "ok" if done else "error", said))
        except (UserError, LookupError, TypeError) as error:
            found.append(Finding("test", "error", f"no answer of an alertmanager: {error}"))
    return found


def _thresholds(folder: Path) -> str:
    return ", ".join(f"{name} {ratio:.0%}" for name, ratio in thresholds(folder).items())


def _receiver(url: str) -> list[Finding]:
    """What a receiver that runs here says of its hold and of its sources; nothing without one."""
    try:
        state = call("receiver", url, "/state")
        problems = list(state["problems"].values())
        sources = [f"{one} {answer}" for one, answer in state["sources"].items()]
    except (UserError, LookupError, TypeError, AttributeError):
        return []
    return [Finding("receiver", "error" if problems else "ok", "; ".join([*problems, *sources]))]


def _run(part: str, name: str, *arguments: str) -> Finding:
    if (binary := find(name)) is None:
        return Finding(part, "warning", f"not checked: {name} is not installed")
    done = subprocess.run([binary, *arguments], cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode == 0:  # what it says all the same is a question, or a warning
        said = " ".join(done.stderr.split())
        return Finding(part, "warning" if said else "ok", said or "valid")
    lines = [*filter(None, map(str.strip, (done.stdout + done.stderr).splitlines()))]
    return Finding(part, "error", " ".join(lines[-3:]))


def port_state(service: str, port: int) -> str:
    """Free, or held by the bundle's own. Raises UserError when `up` could not have it."""
    try:
        bind("127.0.0.1", port).close()
        return f"{port} is free"
    except UserError as error:
        path, words = IDENTITY[service]
        with contextlib.suppress(FetchError):
            answer = fetch(f"http://127.0.0.1:{port}{path}", timeout=2.0, max_bytes=1 << 20)
            text = answer.body.decode(errors="replace")
            if any(word in text for word in words):
                holder = port_holder(port) or "a process"
                return f"{port} is held by {holder}, which answers as this bundle's {service}"
        raise UserError(f"{error}: llm-budget up --{service}-port PORT") from error
