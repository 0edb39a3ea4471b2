"""The demo's watcher: what it calls news, and when it says that the loop closed."""

import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from command.stack.bundle import Bundle, BundleSettings
from demo.view import View
from demo.watch import Watcher

LEVELS = ("none", "control", "fallback")
LIMIT = Decimal("0.40")


class Told(Watcher):
    """A watcher of services that say what the test wants."""

    def __init__(self, folder: Path) -> None:
        self.screen = io.StringIO()
        view = View(Console(file=self.screen), {}, LEVELS)
        super().__init__(Bundle(BundleSettings(folder)), view)

    def see(self, day: str, spend: str, level: str, *alerts: str) -> list[str]:
        """The news of a picture; the config is the level's."""
        status = {"spend_usd": spend, "limit_usd": "0.40", "day": {"date": day}, "by_roaster": {}}
        self.answers: dict[str, Any] = {
            "/api/v1/status": status,
            "/state": {"level": level},
            "/config": {"batch_size": 10 - 5 * LEVELS.index(level)},
            "/api/v2/alerts": [{"labels": {"alertname": name}} for name in ("Watchdog", *alerts)],
        }
        return self.picture().news

    def get(self, service: str, path: str) -> Any:
        return self.answers[path]


@pytest.fixture
def watcher(tmp_path: Path) -> Told:
    return Told(tmp_path)


def test_news_is_what_differs_from_the_picture_before(watcher: Told) -> None:
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
