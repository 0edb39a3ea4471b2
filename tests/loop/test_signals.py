"""SIGINT and SIGTERM end each program at any moment, its first included, without a traceback."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from command.paths import REPOSITORY
from command.stack.binaries import TOOLS_VARIABLE
from command.stack.configs import Ports
from command.stack.processes import free_port
from common import signals
from tests.support.exporters import write_config
from tests.support.waiting import until

# Sends the signal just before a module is imported, from within what swallows exceptions.
AT_IMPORT = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["AT_IMPORT_OF"]:
            try:
                os.kill(os.getpid(), int(os.environ["SIGNAL"]))
            except BaseException:
                pass

sys.meta_path.insert(0, Finder())
"""
NEVER_READY = f"""#!/bin/sh
exec '{sys.executable}' -c 'import signal; signal.pause()' "$0"
"""


def up(folder: Path) -> list[str]:
    ports = asdict(Ports.free()).items()
    flags = [word for name, port in ports for word in (f"--{name}-port", str(port))]
    return [*LLM_BUDGET, "up", "--data", str(folder), *flags]


def backtest(folder: Path) -> list[str]:
    return [*LLM_BUDGET, "backtest", "--limit", "1", "--csv", str(folder / "none.csv")]


def demo(_: Path) -> list[str]:
    return [sys.executable, "-m", "demo", "--plain"]


def exporter(folder: Path) -> list[str]:
    argv = [sys.executable, "-m", "exporter", "--listen", f"127.0.0.1:{free_port()}"]
    files = ["--config", str(write_config(folder)), "--ledger", str(folder / "ledger.sqlite")]
    return [*argv, *files]


def receiver(folder: Path) -> list[str]:
    argv = [sys.executable, "-m", "alertmanager.receiver", "--listen", f"127.0.0.1:{free_port()}"]
    return [*argv, "--effective", str(folder / "e.yml"), "--state", str(folder / "state.json")]


LLM_BUDGET = [str(Path(sys.executable).with_name("llm-budget"))]
MOMENTS = [
    *((program, module) for program in (up, backtest) for module in ("requests", "rich.table")),
    (demo, "requests"),
    (demo, "demo.watch"),
    (exporter, "asyncio"),
    (exporter, "exporter.ledger.ledger"),
    (receiver, "asyncio"),
    (receiver, "alertmanager.receiver.controller"),
]


@pytest.mark.parametrize("number", signals.ENDING)
@pytest.mark.parametrize(("program", "module"), MOMENTS)
def test_a_signal_in_the_middle_of_the_imports_ends_it_at_once(
    program: Callable[[Path], list[str]], module: str, number: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(AT_IMPORT)
    more = {"PYTHONPATH": str(tmp_path), "AT_IMPORT_OF": module, "SIGNAL": str(int(number))}
    done = subprocess.run(
        program(tmp_path),
        cwd=REPOSITORY,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=ignore_sigint,  # as in the background of a script
    )
    clean = 0 if program in (exporter, receiver) else 128 + number
    assert (done.returncode, done.stdout, done.stderr) == (clean, "", "")


def ignore_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize("number", signals.ENDING)
@pytest.mark.parametrize("program", [up, demo])
def test_a_signal_while_the_services_start_stops_what_has_started(
    program: Callable[[Path], list[str]], number: signal.Signals, tmp_path: Path
) -> None:
    tools, scratch = tmp_path / "tools", tmp_path / "scratch"
    for folder in (tools, scratch):
        folder.mkdir()
    (tools / "prometheus").write_text(NEVER_READY)
    (tools / "prometheus").chmod(0o755)
    more = {TOOLS_VARIABLE: str(tools), "TMPDIR": str(scratch)}
    with subprocess.Popen(
        program(tmp_path / "data"),
        cwd=REPOSITORY,
        env={**os.environ, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        until(lambda: list(tmp_path.glob("**/logs/prometheus.log")), what="the last service")
        process.send_signal(number)
        words, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, words
    assert "Traceback" not in words
    assert list(scratch.iterdir()) == []
    assert [line for line in Path("/proc").glob("[0-9]*/cmdline") if mentions(line, tmp_path)] == []


def mentions(path: Path, folder: Path) -> bool:
    try:
        return str(folder) in path.read_text(errors="replace")
    except OSError:
        return False


@pytest.mark.parametrize(
    "then",
    ["signals.check()", "signals.sleep(60)", "with signals.noted(): pass"],
    ids=["check", "sleep", "noted"],
)
def test_a_signal_that_was_swallowed_still_ends_the_program(then: str) -> None:
    code = (
        "import os, signal, sys\n"
        "from common import signals\n"
        "def main():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    except KeyboardInterrupt:\n"
        "        pass\n"
        f"    {then}\n"
        "    return 0\n"
        "sys.exit(signals.run(main))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True)
    assert (done.returncode, done.stderr) == (130, b"")


def test_a_noted_signal_cuts_nothing_and_the_old_handlers_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signals, "_came", [])
    before = [signal.getsignal(number) for number in signals.ENDING]
    finished = []

    def work() -> None:
        with signals.noted():
            os.kill(os.getpid(), signal.SIGTERM)
            finished.append(True)

    with pytest.raises(signals.Interrupted):
        work()
    assert finished
    assert [signal.getsignal(number) for number in signals.ENDING] == before
