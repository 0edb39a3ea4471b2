"""From record() to the books: the client's spool followed by a real exporter that is killed."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from command.stack.processes import Child, free_port
from tests.support.exporters import write_config
from tests.support.paths import ROOT
from tests.support.waiting import until
from tests.unit.sdk.test_client_spool import WRITER


class Host:
    """An exporter that follows a spool, and scrapers that write to it."""

    def __init__(self, folder: Path) -> None:
        self.spool = folder / "spool"
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        argv = [sys.executable, "-m", "exporter", "--config", str(write_config(folder))]
        argv += ["--listen", f"127.0.0.1:{port}", "--ledger", str(folder / "ledger.sqlite")]
        argv += ["--log", str(self.spool)]
        self.exporter = Child("exporter", argv, folder / "log", f"{self.url}/health")
        self.writers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self.exporter.start()
        self.exporter.wait_ready()

    def write(self, name: str, calls: int, max_bytes: int) -> None:
        self.writers.append(
            subprocess.Popen(
                [sys.executable, "-c", WRITER, self.spool, str(calls), name, str(max_bytes), "0"],
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        )

    def calls(self) -> int:
        return int(requests.get(f"{self.url}/api/v1/status", timeout=10).json()["requests"])

    def tokens(self) -> dict[str, float]:
        lines = requests.get(f"{self.url}/metrics", timeout=10).text.splitlines()
        found: Counter[str] = Counter()
        for line in lines:
            if line.startswith("llm_tokens_total{"):
                found[line.split('type="')[1].split('"')[0]] += float(line.split()[-1])  # type: ignore[assignment]
        return dict(found)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    host.start()
    yield host
    host.exporter.stop()
    for writer in host.writers:
        writer.kill()
        writer.wait()
        assert writer.stdout
        writer.stdout.close()


@pytest.mark.parametrize(
    ("kills", "calls"),
    [
        pytest.param(3, 4000, marks=pytest.mark.slow),
        pytest.param(30, 60_000, marks=pytest.mark.faults),
    ],
)
def test_every_recorded_call_is_booked_once_though_the_exporter_is_killed(
    host: Host, kills: int, calls: int
) -> None:
    for number in range(3):  # one of them finds the spool full now and then
        host.write(f"w{number}", calls, 200_000 if number == 0 else 1 << 30)
    for _ in range(kills):
        before = host.calls()
        until(lambda n=before: host.calls() > n or n == 3 * calls, every=0.005)  # type: ignore[misc]
        host.exporter.kill()
        host.start()
    said = sum(len(writer.stdout.read()) for writer in host.writers if writer.stdout)
    assert said == 3 * calls
    until(lambda: host.calls() == said, timeout=60)
    assert host.tokens() == {"input": 300 * said, "cached_input": 512 * said, "output": 143 * said}
