"""`llm-budget up`: the bundle as local processes; what dies comes back, the data stays."""

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import requests

from command.main import main
from command.paths import LADDER, REPOSITORY
from command.stack.configs import Ports
from common.listener import port_holder
from tests.support.waiting import until


@contextmanager
def up(data: Path, ports: Ports, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command at work, ended as Ctrl-C ends it."""
    flags = ["--data", str(data), *port_flags(ports), *more]
    argv = [sys.executable, "-m", "command.main", "up", *flags]
    with (
        open(data / "up.log", "ab") as log,
        subprocess.Popen(argv, cwd=REPOSITORY, stdout=log, stderr=log) as process,
    ):
        try:
            until(lambda: b"Ctrl-C stops" in (data / "up.log").read_bytes(), what="its last line")
            yield process
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, (data / "up.log").read_text()
    (data / "up.log").unlink()


def requests_booked(ports: Ports) -> int:
    answer = requests.get(f"http://127.0.0.1:{ports.exporter}/api/v1/status", timeout=5)
    answer.raise_for_status()  # 503 while it reads its ledger
    return int(answer.json()["requests"])


def pid_of(ports: Ports) -> int:
    """The exporter's process id, by its port."""
    return int((port_holder(ports.exporter) or "").partition("pid ")[2].rstrip(")") or -1)


def test_up_books_revives_what_dies_stops_at_ctrl_c_and_keeps_the_data(tmp_path: Path) -> None:
    ports = Ports.free()
    ladder, effective = tmp_path / "ladder.yml", tmp_path / "scraper" / "llm.yml"
    effective.parent.mkdir()
    ladder.write_bytes(LADDER.read_bytes().replace(b"emergency", b"alarm"))
    more = ("--ladder", str(ladder), "--effective", str(effective), "--hold", "7")
    with up(tmp_path, ports, *more):
        said = (tmp_path / "up.log").read_text()
        state = requests.get(f"http://127.0.0.1:{ports.receiver}/state", timeout=5).json()
        assert ("alarm" in state["levels"], state["hold_seconds"]) == (True, 7)
        assert effective.exists()
        status = ["-m", "command.main", "status", "--json", "--data", str(tmp_path)]
        done = subprocess.run([sys.executable, *status], capture_output=True, cwd=REPOSITORY)
        assert done.returncode == 0, "it finds the services by the data folder"
        assert f"nobody is told: page by pagerduty does not work: {tmp_path}/secrets/" in said
        token = (tmp_path / "secrets" / "ingest_token").read_text().strip()
        answer = requests.post(
            f"http://127.0.0.1:{ports.exporter}/v1/usage",
            json={"roaster": "naivo", "field": "tags", "outcome": "cached"},
            headers={"Authorization": f"Bearer {token}"},
            timeout=5,
        )
        assert answer.json()["accepted"] == 1
        killed = pid_of(ports)
        pid_file = tmp_path / "logs" / "exporter.pid"
        assert int(pid_file.read_text()) == killed
        os.kill(killed, signal.SIGKILL)
        until(lambda: requests_booked(ports) == 1 and pid_of(ports) != killed, what="the revival")
        assert int(pid_file.read_text()) == pid_of(ports)
        for port, path in ((ports.prometheus, "/-/ready"), (ports.alertmanager, "/-/ready")):
            assert requests.get(f"http://127.0.0.1:{port}{path}", timeout=5).status_code == 200
    assert not pid_file.exists()
    for port in asdict(ports).values():
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{port}/", timeout=5)
    with up(tmp_path, ports):
        assert requests_booked(ports) == 1


@pytest.mark.parametrize("by", ["environment", "budget.yml"])
def test_spend_is_guarded_as_the_page_says_and_still_scraped(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (REPOSITORY / "docs" / "security.md").read_text()
    made, told, _ = re.findall(r"^      (.*metrics_token.*|make up .*)$", page, re.MULTILINE)
    subprocess.run(["sh", "-ec", made], cwd=tmp_path, check=True)
    variable, _, file = told.removeprefix("export ").replace("$PWD", str(tmp_path)).partition("=")
    budget = tmp_path / "budget.yml"
    access = f"{{metrics_token_file: {file}}}" if by == "budget.yml" else "{}"
    budget.write_text(f"budget: {{daily_limit_usd: 1}}\naccess: {access}\n")
    if by == "environment":
        monkeypatch.setenv(variable, file)
    ports = Ports.free()
    query = {"query": 'up{job="llm-exporter"} == 1'}
    with up(tmp_path / "data", ports, f"--config={budget}"):
        asked = f"http://127.0.0.1:{ports.prometheus}/api/v1/query"
        until(
            lambda: requests.get(asked, query, timeout=5).json()["data"]["result"], what="a scrape"
        )
        open_page = requests.get(f"http://127.0.0.1:{ports.exporter}/metrics", timeout=5)
        assert open_page.status_code == 401
        state = f"http://127.0.0.1:{ports.receiver}/state"
        until(lambda: requests.get(state, timeout=5).json()["epochs"], what="a ledger's answer")
        assert "401" not in requests.get(state, timeout=5).text


def refused(*flags: str) -> str:
    """The one sentence of an up that does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "command.main", "up", *flags],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


def port_flags(ports: Ports) -> list[str]:
    return [
        word for service, port in asdict(ports).items() for word in (f"--{service}-port", str(port))
    ]


def test_a_taken_port_is_named_and_nothing_stays_behind(tmp_path: Path) -> None:
    ports = Ports.free()
    with up(tmp_path, ports):
        free = replace(Ports.free(), exporter=ports.exporter)
        words = refused(*port_flags(free), "--data", str(tmp_path / "other"))
        assert f"cannot listen on 127.0.0.1:{ports.exporter}" in words
        assert "free it or choose another with --exporter-port" in words
        assert (tmp_path / "way").read_text() == "processes\n"
        assert not (tmp_path / "other" / "way").exists(), "compose may still begin there"
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{free.receiver}/", timeout=5)


def test_a_second_up_on_a_folder_leaves_the_first_ones_configs_alone(tmp_path: Path) -> None:
    ports = Ports.free()
    with up(tmp_path, ports):
        before = (tmp_path / "prometheus.yml").read_bytes()
        words = refused(*port_flags(Ports.free()), "--data", str(tmp_path))
        assert "up.lock is locked: llm-budget up already uses it" in words
        assert (tmp_path / "prometheus.yml").read_bytes() == before


def test_one_port_for_two_services_is_refused(tmp_path: Path) -> None:
    ports = Ports.free()
    twins = replace(ports, receiver=ports.exporter)
    words = refused(*port_flags(twins), "--data", str(tmp_path))
    assert f"cannot listen on 127.0.0.1:{ports.exporter}" in words


def test_an_address_that_is_not_this_hosts_is_no_matter_of_the_port(tmp_path: Path) -> None:
    words = refused("--listen=192.0.2.1", *port_flags(Ports.free()), "--data", str(tmp_path))
    assert "Cannot assign requested address; free it or choose another with --listen\n" in words
    assert "'::' is no IPv4 address such as 0.0.0.0" in refused("--listen=::")


@pytest.mark.parametrize("port", ["0", "70000", "-1", "x"])
def test_what_is_no_port_is_named(port: str) -> None:
    assert f"'{port}' is not a port" in refused(f"--exporter-port={port}")


def test_what_belongs_to_root_is_said_to_be_not_yours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", f"{tmp_path}/compose")

    monkeypatch.setattr("command.up.prepare_compose", refuse)
    assert main(["up", "--prepare-only", "--data", str(tmp_path)]) == 2
    said = f"cannot use {tmp_path}/compose: Permission denied; it must belong to you, or choose"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--prepare-only"]])
def test_a_data_folder_that_cannot_be_made_is_named(flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = refused(*flags, "--data", str(tmp_path / "file" / "data"))
    assert f"cannot use {tmp_path}/file" in words
    assert "--data" in words
