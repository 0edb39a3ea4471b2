"""The simulated scraper reports through sdk/client.py: the books say what was served."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from command.stack.processes import Child, free_port
from common.yamlfile import dump
from tests.support.exporters import write_config
from tests.support.ladders import shipped_baseline
from tests.support.spools import Reader
from tests.support.waiting import until


class Stage:
    """Provider, exporter and a scraper that replays the trace fast."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        config = folder / "config"
        config.write_bytes(dump(shipped_baseline(), Path("config.json")))
        listen = [f"127.0.0.1:{free_port()}" for _ in range(3)]
        self.provider, self.exporter, files = (f"http://{address}" for address in listen)
        serve = ["http.server", "--bind", "127.0.0.1", "--directory", str(folder)]
        modules = {
            self.provider: ["demo.provider", "--listen", listen[0]],
            self.exporter: [
                *["exporter", "--config", str(write_config(folder)), "--listen", listen[1]],
                *["--ledger", str(folder / "ledger.sqlite")],
            ],
            files: [*serve, listen[2].partition(":")[2]],
        }
        self.children = [
            Child(argv[0], [sys.executable, "-m", *argv], folder / argv[0], f"{url}{path}")
            for (url, argv), path in zip(
                modules.items(), ("/health", "/health", "/config"), strict=True
            )
        ]
        self.flags = ["--provider", self.provider, "--config-url", f"{files}/config"]

    def scrape(self, *flags: str) -> None:
        """Run the scraper until the provider has served 100 calls more."""
        argv = [sys.executable, "-m", "demo.scraper", *self.flags, "--speed", "600"]
        scraper = Child("scraper", [*argv, *flags], self.folder / "scraper", "")
        before = self.served()["requests"]
        scraper.start()
        until(lambda: self.served()["requests"] > before + 100)
        assert scraper.stop() == 0

    def served(self) -> dict[str, int]:
        return dict(requests.get(f"{self.provider}/sim/usage", timeout=5).json())

    def metric(self, name: str) -> float:
        lines = requests.get(f"{self.exporter}/metrics", timeout=5).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{"))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    for child in stage.children:
        child.start()
    try:
        for child in stage.children:
            child.wait_ready()
        yield stage
    finally:
        for child in stage.children:
            child.stop()


def test_by_http_and_by_spool_every_token_that_was_served_is_in_the_books(
    stage: Stage, tmp_path: Path
) -> None:
    stage.scrape("--exporter", stage.exporter)
    served = stage.served()
    tokens = served["prompt_tokens"] + served["completion_tokens"]
    assert stage.metric("llm_tokens_total") == tokens > 0
    stage.scrape("--spool", str(tmp_path / "spool"))
    total = Reader(tmp_path / "spool").read(retire=False).totals()
    assert total["prompt_tokens"] == stage.served()["prompt_tokens"] - served["prompt_tokens"]
    assert json.loads((tmp_path / "spool").read_text().splitlines()[0])["spool"] == "llm-budget/1"
