"""The demo's watcher: what it calls news, shows, and when it says that the loop closed."""

import io
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from command.stack.bundle import Bundle
from demo.watch import Watcher, changes

LEVELS = ("none", "control", "fallback")
LIMIT = Decimal("0.40")


class Told(Watcher):
    """A watcher of services that say what the test wants."""

    def __init__(self, folder: Path, **console: Any) -> None:
        self.screen = io.StringIO()
        super().__init__(Bundle(folder), Console(file=self.screen, **console))

    def see(self, day: str, spend: str, level: str, *alerts: str) -> list[str]:
        """The news of a look; the config is the level's."""
        status = {"spend_usd": spend, "limit_usd": "0.40", "day": {"date": day}, "by_roaster": {}}
        self.answers: dict[str, Any] = {
            "/api/v1/status": status,
            "/state": {"level": level},
            "/config": {"batch_size": 10 - 5 * LEVELS.index(level)},
            "/api/v2/alerts": [{"labels": {"alertname": name}} for name in ("Watchdog", *alerts)],
        }
        return self.look()

    def get(self, service: str, path: str) -> Any:
        return self.answers[path]


@pytest.fixture
def watcher(tmp_path: Path) -> Told:
    return Told(tmp_path)


def test_news_is_what_differs_from_the_look_before(watcher: Told) -> None:
    assert watcher.see("d1", "0", "none") == []
    assert watcher.see("d1", "0.3", "control", "LLMBudgetWarning") == [
        "ALERT LLMBudgetWarning",
        "LEVEL none -> control",
        "    batch_size: 10 -> 5",
    ]
    assert watcher.see("d1", "0.3", "control", "LLMBudgetWarning") == []
    assert watcher.see("d2", "0", "none") == [
        "budget day d2 begins",
        "resolved LLMBudgetWarning",
        "LEVEL control -> none",
        "    batch_size: 5 -> 10",
    ]


@pytest.mark.parametrize(
    ("seen", "closed"),
    [
        ((("d1", "0.4", "fallback"), ("d2", "0.1", "none")), True),
        ((("d1", "0.4", "fallback"), ("d2", "0.1", "fallback")), False),
        ((("d1", "0.4", "fallback"), ("d1", "0.4", "none")), False),
        ((("d1", "0.3", "control"), ("d2", "0.1", "none")), False),
    ],
)
def test_the_loop_closed_when_the_last_level_was_left_on_a_later_day(
    seen: tuple[tuple[str, str, str], ...], closed: bool, watcher: Told
) -> None:
    for picture in seen:
        watcher.see(*picture)
    assert watcher.summary(LIMIT, most="fallback") is closed
    assert ("the loop closed" in watcher.screen.getvalue()) is closed


def test_a_whole_section_is_told_by_its_size() -> None:
    before = {"batch_size": 10, "fields": {"notes": {"enabled": True}}}
    after = {
        "batch_size": 5,
        "fields": {"notes": {"enabled": False}},
        "roasters": {"naivo": {"batch_size": 5}},
    }
    assert changes(before, after) == [
        "batch_size: 10 -> 5",
        "fields.notes.enabled: True -> False",
        "roasters: None -> 1 keys",
    ]


def test_a_dumb_terminal_gets_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    watcher = Told(tmp_path, force_terminal=True)
    watcher.see("d1", "0.37", "none")
    watcher.watch(until=time.time() + 0.1)
    assert watcher.screen.getvalue() == "  0.0 s   92.5%  $0.3700  level none\n"


def test_the_news_stay_on_a_terminal_of_24_rows_and_the_bar_is_below(tmp_path: Path) -> None:
    watcher = Told(tmp_path, force_terminal=True, width=80, height=24)
    watcher.see("d1", "0", "none")
    watcher.see("d1", "0.37", "none", *(f"Alert{number}" for number in range(40)))
    watcher.alerts = []
    watcher.watch(until=time.time() + 0.1)
    shown = watcher.screen.getvalue()
    assert all(f"ALERT Alert{number}\n" in shown for number in range(40))
    assert "━" in shown.rpartition("ALERT")[2]
    assert "92.5%" in shown.rpartition("ALERT")[2]
