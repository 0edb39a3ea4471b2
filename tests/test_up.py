"""`llm-budget up`: the bundle as local processes; what dies comes back, the data stays."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
import requests
from waiting import until

from exporter.core.http import port_holder
from exporter.stack.bundle import REPOSITORY, Ports

pytestmark = pytest.mark.slow


@contextmanager
def up(data: Path, ports: Ports) -> Iterator[subprocess.Popen[bytes]]:
    """The command at work, ended as Ctrl-C ends it."""
    flags = [
        word for service, port in asdict(ports).items() for word in (f"--{service}-port", str(port))
    ]
    argv = [sys.executable, "-m", "exporter.cli.main", "up", "--data", str(data), *flags]
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
    with up(tmp_path, ports):
        token = (tmp_path / "secrets" / "ingest_token").read_text().strip()
        answer = requests.post(
            f"http://127.0.0.1:{ports.exporter}/v1/usage",
            json={"roaster": "naivo", "field": "tags", "outcome": "cached"},
            headers={"Authorization": f"Bearer {token}"},
            timeout=5,
        )
        assert answer.json()["accepted"] == 1
        killed = pid_of(ports)
        os.kill(killed, signal.SIGKILL)
        until(lambda: requests_booked(ports) == 1 and pid_of(ports) != killed, what="the revival")
        for port, path in ((ports.prometheus, "/-/ready"), (ports.alertmanager, "/-/ready")):
            assert requests.get(f"http://127.0.0.1:{port}{path}", timeout=5).status_code == 200
    for port in asdict(ports).values():
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{port}/", timeout=5)
    with up(tmp_path, ports):
        assert requests_booked(ports) == 1


def test_a_taken_port_is_named_and_nothing_stays_behind(tmp_path: Path) -> None:
    ports = Ports.free()
    with up(tmp_path, ports):
        other = tmp_path / "other"
        flags = ["--exporter-port", str(ports.exporter), "--data", str(other)]
        free = asdict(Ports.free())
        for service in ("receiver", "prometheus", "alertmanager"):
            flags += [f"--{service}-port", str(free[service])]
        done = subprocess.run(
            [sys.executable, "-m", "exporter.cli.main", "up", *flags],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 2
        assert f"cannot listen on 127.0.0.1:{ports.exporter}" in done.stderr
        assert "Traceback" not in done.stderr
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{free['receiver']}/", timeout=5)
