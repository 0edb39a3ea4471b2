"""The receiver as a process: what keeps it from starting."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from alertmanager.receiver.service import main
from common.http import bind
from tests.support.ladders import BASELINE_FILE, LADDER_FILE
from tests.support.odd_files import fifo, put
from tests.support.paths import ROOT
from tests.support.waiting import until


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--baseline", "/nowhere/llm.yml"], "cannot read /nowhere/llm.yml"),
        (["--config", "/nowhere/ladder.yml"], "cannot read /nowhere/ladder.yml"),
        (["--listen", "8001"], "not HOST:PORT"),
        (["--listen", "0.0.0.0:0"], "needs a webhook token"),
        (["--hold", "-1"], "0 or more seconds"),
        (["--hold", "nan"], "0 or more seconds"),
        (["--header", "X-Scope-OrgID=/nowhere/tenant"], "cannot read /nowhere/tenant of --header"),
        (["--ca-file", "/dev/null"], "cannot read the CA file /dev/null: it is not a regular file"),
        (["--ruler-delay", "-1"], "must be 0 to 300 seconds"),
        (["--ruler-delay", "301"], "must be 0 to 300 seconds"),
        (["--ruler-delay", "nan"], "must be 0 to 300 seconds"),
        (
            ["--hold", "59", "--ruler-delay", "60"],
            "--hold must be 60 or more seconds, --ruler-delay and three evaluation intervals",
        ),
    ],
)
def test_what_keeps_it_from_starting_is_one_sentence_and_status_2(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--effective", str(tmp_path / "e.yml"), "--state", str(tmp_path / "s.json")]
    assert main([*files, "--listen", "127.0.0.1:0", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("receiver: ")
    assert words in error


def test_a_taken_port_leaves_the_files_of_its_holder_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    effective = tmp_path / "effective.yml"
    effective.write_text("enabled: false\n")
    with bind("127.0.0.1", 0) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        files = ["--effective", str(effective), "--state", str(tmp_path / "state.json")]
        assert main([*files, "--listen", listen]) == 2
    assert f"cannot listen on {listen}" in capsys.readouterr().err
    assert effective.read_text() == "enabled: false\n"
    assert list(tmp_path.iterdir()) == [effective]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts a receiver with its own state; those that still run are killed at the end."""
    started = []

    def begin(state: str, *flags: str, code: str = "") -> "subprocess.Popen[str]":
        main = [sys.executable, "-c", f"{code}\nfrom alertmanager.receiver.service import main\n"
                "import sys; sys.exit(main())"]  # fmt: skip
        files = [f"--effective={tmp_path / 'effective.yml'}", f"--state={tmp_path / state}"]
        argv = [*main, *files, "--listen=127.0.0.1:0", *flags]
        process = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def listening(process: "subprocess.Popen[str]") -> str:
    """Its URL, once it says so."""
    assert process.stderr
    for line in process.stderr:
        if "listening on " in line:
            return line.split("listening on ")[1].strip()
    raise AssertionError("it ended")


Start = Callable[..., "subprocess.Popen[str]"]


def test_a_second_receiver_on_an_effective_file_is_refused_until_the_first_is_gone(
    tmp_path: Path, start: Start
) -> None:
    first = start("a.json")
    listening(first)
    (tmp_path / "link.yml").symlink_to(tmp_path / "effective.yml")
    second = start("b.json", f"--effective={tmp_path / 'link.yml'}")
    _, words = second.communicate(timeout=30)
    assert second.returncode == 2
    assert words.splitlines()[-1] == (
        f"receiver: {tmp_path / 'effective.yml.lock'} is locked: a receiver already uses it; "
        "stop that one first"
    )
    listening(start("c.json", "--shadow"))  # it writes nothing
    first.kill()
    first.wait()
    listening(start("d.json"))


HANG = """
import threading
from alertmanager.receiver import service
from alertmanager.receiver.controller import Controller
service.END_SECONDS = 1.0
Controller.reconcile = lambda self: threading.Event().wait()
"""


def test_sigterm_ends_it_in_time_also_when_a_round_hangs(start: Start) -> None:
    process = start("a.json", code=HANG)
    url = listening(process)
    until(lambda: requests.get(f"{url}/health", timeout=5).ok)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 1


def test_sigterm_ends_it_cleanly_with_odd_things_in_all_its_files_places(
    tmp_path: Path, start: Start
) -> None:
    baseline, ladder = tmp_path / "llm.yml", tmp_path / "degradation.yml"
    baseline.write_bytes(BASELINE_FILE.read_bytes())
    ladder.write_bytes(LADDER_FILE.read_bytes())
    process = start("a.json", f"--baseline={baseline}", f"--config={ladder}")
    url = listening(process)
    for name in ("effective.yml", "a.json", "a.audit.jsonl", "llm.yml", "degradation.yml"):
        put(fifo, tmp_path / name)
    until(lambda: "config" in requests.get(f"{url}/health", timeout=5).json().get("problems", {}))
    until((tmp_path / "effective.yml").is_file)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
