"""Whatever the shell that starts a process of ours has closed, forgotten or loosened."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from command.stack.processes import Child, free_port
from tests.support.exporters import url, write_config

CLOSED = ("<&-", ">&-", "2>&-", "<&- >&- 2>&-")


def by_shell(words: str, argv: list[str]) -> list[str]:
    """argv, started by a shell that says words around it."""
    before, _, after = words.rpartition(";")
    return ["sh", "-c", f'{before}\nexec "$@" {after}', "sh", *argv]


@pytest.fixture(params=["exporter", "alertmanager.receiver"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Child]:
    """A service that is yet to start, its files in a folder of their own."""
    port = free_port()
    (tmp_path / "made").mkdir()
    argv = [sys.executable, "-m", request.param, "--listen", f"127.0.0.1:{port}"]
    if request.param == "exporter":
        argv += ["--config", str(write_config(tmp_path)), "--ledger", str(tmp_path / "made/ledger")]
    else:
        argv += ["--effective", str(tmp_path / "made/effective.yml")]
        argv += ["--state", str(tmp_path / "made/state.json")]
    child = Child("service", argv, tmp_path / "log", f"http://127.0.0.1:{port}/health")
    yield child
    child.stop()


@pytest.mark.parametrize("closed", CLOSED)
def test_a_service_runs_with_closed_inputs_and_outputs(service: Child, closed: str) -> None:
    service.argv = by_shell(closed, service.argv)
    service.start()
    service.wait_ready()
    assert requests.get(url(service, "/metrics"), timeout=10).status_code == 200
    assert service.stop() == 0


def test_a_loose_umask_lets_no_stranger_write(service: Child, tmp_path: Path) -> None:
    service.argv = by_shell("umask 0;", service.argv)
    service.start()
    service.wait_ready()
    made = list((tmp_path / "made").iterdir())
    assert made
    assert [path.name for path in made if path.stat().st_mode & 0o002] == []


def test_a_prepared_data_folder_is_nobody_elses_to_write(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "command.main", "up", "--prepare-only"]
    subprocess.run(by_shell("umask 0;", [*argv, "--data", str(tmp_path / "data")]), check=True)
    made = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
    assert [path.name for path in made if path.stat().st_mode & 0o002] == []


@pytest.mark.parametrize("closed", CLOSED)
def test_the_command_says_by_its_status_what_it_cannot_print(closed: str) -> None:
    nobody = ["--exporter", "http://127.0.0.1:1", "--receiver", "http://127.0.0.1:1"]
    argv = [sys.executable, "-m", "command.main", "status", *nobody]
    done = subprocess.run(by_shell(closed, argv), capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr


def test_a_character_that_the_locale_lacks_ends_nothing() -> None:
    code = "from common.startup import settle; settle(); print('Kaffeeröster 珈琲 …')"
    argv = [sys.executable, "-c", code.encode()]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(argv, env=environment, capture_output=True)
    assert (done.returncode, done.stdout.decode("latin-1")) == (0, "Kaffeeröster ?? ?\n")
