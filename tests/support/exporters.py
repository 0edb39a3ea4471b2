"""An exporter in a test: in process on a manual clock, or as a real process."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from command.stack.processes import Child, free_port
from common.clock import iso8601
from common.names import DAY, LEDGER
from exporter import composition
from exporter.access import AccessTokens, ExporterSettings
from exporter.config import load_config
from exporter.web.app import application
from tests.support.clock import ManualClock

NOON = 1_800_014_400.0  # 2027-01-15T12:00:00Z
INGEST, ADMIN = "ingest-token-0123456789", "admin-token-0123456789"


def write_config(folder: Path, text: str = "") -> Path:
    path = folder / "budget.yml"
    path.write_text(text)
    return path


class Exporter:
    """The exporter's application on a manual clock, over HTTP without a socket."""

    def __init__(
        self, folder: Path, config: str = "", now: float = NOON, *, tokens: bool = False
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        write_config(folder, config)
        self.clock = ManualClock(now)
        self.tokens = AccessTokens(*((INGEST, ADMIN) if tokens else (None, None)), None)
        settings, path = self.load(), folder / "ledger.sqlite"
        self.parts = composition.Exporter(settings, self.load, path, self.clock)
        self.ledger = self.parts.ledger
        self.http = TestClient(application(self.parts), base_url="http://127.0.0.1")

    def load(self) -> ExporterSettings:
        """What a reload reads: the folder's budget.yml again, and the same tokens."""
        return ExporterSettings(load_config(self.folder / "budget.yml"), self.tokens)

    def __enter__(self) -> "Exporter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.parts.close()

    def post(self, body: Any, content_type: str = "application/json", **headers: str) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": content_type, **headers}
        return self.http.post("/v1/usage", content=content, headers=headers)

    def book(self, *events: dict[str, Any]) -> dict[str, Any]:
        answer = self.post(list(events))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def status(self) -> dict[str, Any]:
        return dict(self.http.get("/api/v1/status").json())

    def spend(self) -> Decimal:
        return Decimal(self.status()["spend_usd"])

    def page(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """/metrics as {(name, labels): value}."""
        from prometheus_client.parser import text_string_to_metric_families

        text = self.http.get("/metrics").text
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, metric: str, **labels: str) -> float | None:
        """A sample's value by its labels; the ledger and its day go without saying."""
        for (name, found), value in self.page().items():
            if name == metric and labels.items() == {
                pair for pair in found if pair[0] not in (LEDGER, DAY)
            }:
                return value
        return None


@contextmanager
def exporter_process(folder: Path, config: str = "", *flags: str) -> Iterator[Child]:
    """A ready exporter as a process on a free port, its ledger in the folder; ended at the end."""
    port = free_port()
    argv = [sys.executable, "-m", "exporter", "--config", str(write_config(folder, config))]
    argv += ["--listen", f"127.0.0.1:{port}", "--ledger", str(folder / "ledger.sqlite"), *flags]
    child = Child("exporter", argv, folder / "log", f"http://127.0.0.1:{port}/health")
    child.start()
    try:
        child.wait_ready()
        yield child
    finally:
        child.stop()


def url(child: Child, path: str) -> str:
    """Where a child answers a path."""
    return child.ready_url.removesuffix("/health") + path


def event(
    prompt: int = 1000, completion: int = 100, cached: int = 0, at: float | None = None, **more: Any
) -> dict[str, Any]:
    """One successful call."""
    return {
        "roaster": "blue-tokai",
        "field": "notes",
        "model": "deepseek-chat",
        "outcome": "success",
        **({"time": iso8601(at)} if at is not None else {}),
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "prompt_cache_hit_tokens": cached,
        },
        **more,
    }
