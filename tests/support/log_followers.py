"""A log source in a test, polled by hand: what it booked, line by line."""

import json
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from common.budget_status import LogStatus
from exporter.config import Config, Log
from exporter.event import UsageEvent
from exporter.intake.counters import IntakeMetrics
from exporter.intake.logs.source import LogSource
from exporter.ledger.booking import SubmissionResult
from exporter.ledger.ledger import Ledger
from exporter.ledger.progress import LogProgress
from exporter.ledger.writer import LedgerUnavailableError
from tests.support.clock import ManualClock
from tests.support.exporters import NOON

MAX_POLLS = 10_000  # a round books up to 256 KiB


def line(name: str, **more: Any) -> str:
    """A usage event without an id, told apart by its roaster: counted twice, it shows."""
    return json.dumps({"roaster": name, "outcome": "cached", **more}) + "\n"


def append(path: Path, text: str | bytes) -> None:
    with open(path, "ab") as file:
        file.write(text.encode() if isinstance(text, str) else text)


class DiedError(Exception):
    """The exporter was killed at this point."""


class Frail(Ledger):
    """A ledger that fails when told to."""

    def __init__(self, path: Path, config: Config, clock: ManualClock) -> None:
        super().__init__(path, config, clock)
        self.writer.db.execute("PRAGMA synchronous = OFF")  # nobody cuts the power of a test

    mood = ""  # "", "full" (cannot be written), "die before" or "die after" the commit

    def submit(
        self, events: list[UsageEvent], progress: LogProgress | None = None
    ) -> "Future[SubmissionResult]":
        if self.mood == "full":
            future: Future[SubmissionResult] = Future()
            future.set_exception(LedgerUnavailableError("the disk is full"))
            return future
        if self.mood == "die before":
            raise DiedError
        future = super().submit(events, progress)
        if self.mood == "die after":
            future.result()
            raise DiedError
        return future


class Follower:
    """A ledger and a source that follows some logs; restart() keeps the ledger's file."""

    def __init__(self, folder: Path, *logs: Log, ledger: Path | None = None) -> None:
        self.logs = logs
        self.clock = ManualClock(NOON)
        self.path = ledger or folder / "ledger.sqlite"
        self.rejected: Counter[str] = Counter()
        self.open()

    def open(self) -> None:
        self.ledger = Frail(self.path, Config(), self.clock)
        self.registry = CollectorRegistry()
        self.metrics = IntakeMetrics(self.registry, 10)
        self.source = LogSource(self.logs, self.ledger, self.metrics, self.clock)

    def close(self) -> None:
        self.source.stop()
        self.ledger.close()

    def restart(self) -> None:
        self.close()
        self.open()

    def poll(self) -> "Follower":
        """Until nothing is left to read; truncations take a second look."""
        idle = 0
        for _ in range(MAX_POLLS):
            idle = 0 if self.source.poll() else idle + 1
            if idle == 3:
                return self
        raise AssertionError(f"still reading after {MAX_POLLS} rounds")

    def poll_while(self, mood: str) -> None:
        """Poll while the ledger is in a mood, then restart unless it was only full."""
        self.ledger.mood = mood
        try:
            self.poll()
        except LedgerUnavailableError:
            self.ledger.mood = ""
        except DiedError:
            self.restart()
        self.ledger.mood = ""

    def booked(self) -> dict[str, int]:
        """Calls by roaster."""
        return {key.roaster: total.requests for key, total in self.ledger.books.totals.items()}

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, {"source": "log", **labels})

    def refused(self, reason: str) -> float | None:
        return self.value("llm_ingest_rejected_total", reason=reason)

    def state(self, path: Path) -> LogStatus:
        return {log.path: log for log in self.source.report()}[str(path)]
