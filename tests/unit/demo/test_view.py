"""The demo's picture: what changed is told, and it fits a small terminal."""

import io
from decimal import Decimal

import pytest
from rich.console import Console

from command.thresholds import thresholds
from demo.view import Picture, View, changes
from tests.support.ladders import shipped_ladder
from tests.support.waiting import until


def picture() -> Picture:
    return Picture(
        seconds=40,
        day="2026-11-23",
        spend_usd=Decimal("0.37"),
        limit_usd=Decimal("0.40"),
        level="emergency",
        by_roaster={"a": "0.1", "b": "0.1", "c": "0.1", "d": "0.07"},
        alerts=["LLMBudgetCritical", "LLMBudgetHalfSpent", "LLMBudgetWarning", "LLMRateLimitNear"],
        news=[f"line {number}" for number in range(40)],
    )


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


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True)
    with View(console, thresholds(), shipped_ladder().names) as view:
        view.tick(picture())
    assert screen.getvalue() == " 40.0 s   92.5%  $0.3700  level emergency\n"


def test_the_newest_lines_are_seen_on_a_terminal_of_24_rows() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, height=24)
    with View(console, thresholds(), shipped_ladder().names) as view:
        view.show(picture())
        until(lambda: "92.5%" in screen.getvalue(), what="a picture")
        shown = screen.getvalue()  # before its end, which prints the whole picture
    assert "line 39" in shown
