"""The writer's queue: what waits is bounded, and who leaves gives back the place."""

import threading
from pathlib import Path

import pytest

from exporter.event import UsageEvent, parse_event
from exporter.ledger import writer
from exporter.ledger.writer import LedgerUnavailableError
from tests.support.exporters import NOON, Exporter, event


def events(count: int) -> list[UsageEvent]:
    return [parse_event(event(), NOON) for _ in range(count)]


def test_waiting_events_are_bounded_and_a_caller_that_left_gives_its_place_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_WAITING_EVENTS", 2)
    with Exporter(tmp_path) as exporter:
        busy = threading.Event()
        working = exporter.ledger.writer.run(lambda *_: busy.wait(30))
        left = exporter.ledger.submit(events(2))
        with pytest.raises(LedgerUnavailableError, match="too many events are waiting"):
            exporter.ledger.submit(events(1))
        assert left.cancel()
        stays = exporter.ledger.submit(events(2))
        busy.set()
        assert working.result(30)
        assert len(stays.result(30).accepted) == 2
        assert exporter.status()["requests"] == 2
        assert len(exporter.ledger.submit(events(2)).result(30).accepted) == 2


def test_what_was_handed_in_is_finished_before_the_end(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        busy = threading.Event()
        exporter.ledger.writer.run(lambda *_: busy.wait(30))
        last = exporter.ledger.submit(events(3))
        busy.set()
    assert len(last.result(0).accepted) == 3
