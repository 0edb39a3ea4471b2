"""docs/runbook.md's steps, as printed and in their order, on a running loop.

Only the ports are the loop's. A command that says it needs no token runs where no token is; one
that names a token fails there first.
"""

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
import yaml

from command.commands import parser
from command.main import main
from command.stack.configs import Ports
from command.stack.processes import Child, free_port
from tests.support.exporters import Exporter, event
from tests.support.loop import LIMIT, Loop
from tests.support.paths import ROOT
from tests.support.waiting import until

STEPS = (ROOT / "docs" / "runbook.md").read_text().partition("## When the budget runs out")[2]
STEPS = re.split(r"^## ", STEPS, flags=re.MULTILINE)[0]
UNITS = {"llm-budget-exporter.service", "llm-budget-receiver.service"}
PROVIDER = "https://api.deepseek.com"
# What ends with another status than 0 here: spend is critical, no parser to verify, no mail server.
STATUSES = {"llm-budget status": 2, "llm-budget verify": 2, "check --send-test": 1}
# What a loop of a minute's age cannot tell: no end of the day foreseen, no week, no batches.
QUIET = (
    *("exhaustion", "cost_trend", "mean1h", "ratio1h"),
    *("kill ", "sudo ", "docker compose restart"),  # and what says nothing when it works
)
# llm-budget with the loop's ports and this folder's files in place of its defaults.
COMMAND = """#!{python}
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from command import paths
paths.BUDGET, paths.DATA = Path("budget.yml"), Path("data")
from command.stack import bundle
bundle.Ports.__init__.__defaults__ = {ports!r}
from command.main import entry
sys.exit(entry())
"""
# docker, sudo, systemctl and journalctl: note what they are asked; a service's log is the loop's.
STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*" >> "$ASKED"
case "$*" in *exporter*) case "$*" in *" logs "*|*-u*) cat data/logs/exporter.log;; esac;; esac
"""


class Step(NamedTuple):
    command: str
    token: str


def steps() -> Iterator[Step]:
    """Each command with the token that is written above it, in the same block."""
    for block in re.findall(r"(?:^    \S.*\n(?:      .*\n)?)+", STEPS, re.MULTILINE):
        token = ""
        for line in re.sub(r"\\\n +", "", block).splitlines():
            if line.startswith("    # token: "):
                token = line.partition(": ")[2]
            elif not line.startswith("    export "):
                yield Step(line.strip(), token)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    folder = tmp_path / "with" / "data"
    folder.mkdir(parents=True)
    with Loop(folder, hold="600", caps={"roasters": {"blue-tokai": Decimal("0.8")}}) as running:
        yield running


def prepare(folder: Path, loop: Loop, *, tokens: bool) -> None:
    """A checkout's folder of the loop: its data, its command, and tools that are not here."""
    for name in ("data", ".venv/bin", "tools"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for file in loop.bundle.folder.iterdir():
        if not tokens and file.name != "secrets":
            (folder / "data" / file.name).symlink_to(file)
    (folder / "budget.yml").symlink_to(loop.bundle.budget)
    ports = tuple(asdict(loop.bundle.ports).values())
    written = {
        ".venv/bin/llm-budget": COMMAND.format(python=sys.executable, root=str(ROOT), ports=ports)
    }
    written |= {f"tools/{tool}": STAND_IN for tool in ("docker", "sudo", "systemctl", "journalctl")}
    for name, text in written.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


class Host:
    """Who follows the runbook, with the tokens' folder or without."""

    def __init__(self, loop: Loop, folder: Path, provider: str) -> None:
        self.loop, self.folder = loop, folder
        ports = zip(asdict(Ports()).values(), asdict(loop.bundle.ports).values(), strict=True)
        self._addresses = {f"127.0.0.1:{ours}": f"127.0.0.1:{its}" for ours, its in ports}
        self._addresses[PROVIDER] = provider
        path = f"{folder}/tools:{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "ASKED": str(folder / "asked")}
        self.environment["DEEPSEEK_API_KEY"] = "simulated"

    def run(self, command: str) -> tuple[int, str]:
        """Exit status and output; what follows a log is ended when it shows the spend."""
        for printed, its in self._addresses.items():
            command = command.replace(printed, its)
        options = {"cwd": self.folder, "env": self.environment, "stdin": subprocess.DEVNULL}
        if command.startswith("tail -f"):
            return 0, self._followed(command)
        argv = ["bash", "-c", f"set -o pipefail; {command}"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, **options)
        return done.returncode, done.stdout + done.stderr

    def is_refused(self, command: str) -> bool:
        """Whether it fails here. llm-budget is called in this process, which is faster."""
        argv = shlex.split(command)
        if "llm-budget" not in argv[0]:
            return self.run(command)[0] != 0
        return main([*argv[1:], "--data", str(self.folder / "data")]) != 0

    def _followed(self, command: str) -> str:
        """What a terminal shows; grep holds back what it writes into a pipe."""
        ours, its = pty.openpty()
        with subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.folder, env=self.environment, stdout=its, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                said = ""
                while "cost_usd=" not in said:
                    assert select.select([ours], [], [], 30)[0], f"only this is shown: {said}"
                    said += os.read(ours, 1 << 16).decode()
                return said
            finally:
                os.killpg(process.pid, 15)
                os.close(ours)
                os.close(its)


def test_each_step_works_as_printed_with_the_token_that_it_names(
    loop: Loop, tmp_path: Path
) -> None:
    yesterday(loop)
    loop.spend_to(LIMIT * 92 // 100)
    loop.wait_level("emergency")
    address = f"127.0.0.1:{free_port()}"
    argv = [sys.executable, "-m", "demo.provider", "--listen", address]
    provider = Child("provider", argv, tmp_path / "provider.log", f"http://{address}/health")
    provider.start()
    loop.children.append(provider)
    provider.wait_ready()
    hosts = [Host(loop, tmp_path / name, f"http://{address}") for name in ("with", "without")]
    for host in hosts:
        prepare(host.folder, loop, tokens=host is hosts[0])
    for command, token in steps():
        follow(command, token, *hosts)
    asked = (hosts[1].folder / "asked").read_text().splitlines()
    services = set(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])
    for words in map(str.split, asked):
        assert words[-1] in (services if words[0] == "docker" else UNITS), words
    assert len(asked) == 9


def yesterday(loop: Loop) -> None:
    """One call of the day before, of which there is something to plan by."""
    answer = requests.post(
        f"{loop.bundle.url('exporter')}/v1/usage",
        json=event(at=time.time() - 86_400),
        headers={"Authorization": f"Bearer {loop.bundle.token('ingest')}"},
        timeout=10,
    )
    assert answer.json()["accepted"] == 1


def follow(command: str, token: str, holder: Host, bare: Host) -> None:
    needs = token in ("admin", "ingest", "receiver")
    if needs:
        assert bare.is_refused(command), f"{command} works without its token"
    status, said = (holder if needs else bare).run(command)
    wanted = next((code for part, code in STATUSES.items() if part in command), 0)
    assert status == wanted, f"{command} ended with {status}: {said}"
    assert said.strip() or any(part in command for part in QUIET), f"{command} prints nothing"
    if 'grep -E "(cost|' in command:
        assert re.search(r"cost_usd=\d\S* budget_utilization=\d\S* tokens=\d", said), command
    if "problems" in command:
        assert re.search(r'^"problems":\{.*\}$', said, re.MULTILINE), said
        assert re.search(r'^"holds":\[.*\]$', said, re.MULTILINE), said
    if command.startswith("kill "):
        signalled(command, holder.loop)


def signalled(command: str, loop: Loop) -> None:
    """What a signal does, and `up` after it: test_up.py shows that it starts again what ends."""
    (child,) = (one for one in loop.bundle.children if f"/{one.name}.pid" in command)
    if "-HUP" in command:  # the second load: the exporter's first reload was asked for over HTTP
        loaded = {"exporter": "config was reloaded", "prometheus": "Completed loading of conf"}
        until(lambda: child.log.read_text().count(loaded[child.name]) == 2, what="the reload")
        return
    until(lambda: not child.running, what="its end")
    child.start()
    child.wait_ready()


def test_every_command_of_the_steps_names_its_token() -> None:
    known = {"none", "metrics", "admin", "ingest", "receiver", "the provider's API key"}
    assert {step.token for step in steps()} == known
    lines = re.findall(r"^    [^ #].*$", STEPS, re.MULTILINE)
    assert len([line for line in lines if "export " not in line]) == len([*steps()])


def test_metrics_is_named_where_a_metrics_token_is_asked_for(tmp_path: Path) -> None:
    with Exporter(tmp_path, tokens=True) as exporter:
        asked = replace(exporter.tokens, metrics="metrics-token-0123456789")
        exporter.parts.settings = replace(exporter.parts.settings, tokens=asked)
        for command, token in (one for one in steps() if one.token in ("none", "metrics")):
            if command.startswith(".venv/bin/llm-budget "):
                asks = "exporter" in parser().parse_args(shlex.split(command)[1:])
                asks &= "history" not in command  # which has only the zone of its times from it
                assert asks == (token == "metrics"), command
            for path in re.findall(r"http://127\.0\.0\.1:8000(/\S+)", command):
                assert (exporter.http.get(path).status_code == 401) == (token == "metrics")
