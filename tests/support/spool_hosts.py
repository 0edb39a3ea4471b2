"""One host: scrapers that write to a spool, and a real exporter that follows it and is killed."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from command.stack.processes import Child, free_port
from tests.support.exporters import write_config
from tests.support.spool_writers import end, spool_writer
from tests.support.waiting import until


class SpoolHost:
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
        self.writers.append(spool_writer(self.spool, calls, name, max_bytes))

    def calls(self) -> int:
        return int(requests.get(f"{self.url}/api/v1/status", timeout=10).json()["requests"])

    def tokens(self) -> dict[str, float]:
        lines = requests.get(f"{self.url}/metrics", timeout=10).text.splitlines()
        found: Counter[str] = Counter()
        for line in lines:
            if line.startswith("llm_tokens_total{"):
                found[line.split('type="')[1].split('"')[0]] += float(line.split()[-1])  # type: ignore[assignment]
        return dict(found)


@contextmanager
def spool_host(folder: Path) -> Iterator[SpoolHost]:
    """A host with a ready exporter; everything on it ends at the end."""
    host = SpoolHost(folder)
    host.start()
    try:
        yield host
    finally:
        host.exporter.stop()
        for writer in host.writers:
            end(writer)


def kill_the_exporter(folder: Path, kills: int, calls: int) -> None:
    """Every call that record() acknowledged is booked once, though the exporter is killed."""
    with spool_host(folder) as host:
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
        tokens = {"input": 300 * said, "cached_input": 512 * said, "output": 143 * said}
        assert host.tokens() == tokens
