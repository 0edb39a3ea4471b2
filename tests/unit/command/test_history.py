"""llm-budget history, through a real receiver."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.support.exporters import Exporter
from tests.support.pages import serving
from tests.support.receivers import Receiver, alert

Say = Callable[..., int]
WHY = ("--reason", "a launch", "--author", "ann")


def test_history_tells_when_from_to_why_and_who(
    say: Say, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.webhook(alert(degradation="control", alertname="LLMUnpricedModel"))
    say("degrade", "emergency", "--reason", "[bold]now", "--author", "ann")
    capsys.readouterr()
    assert say("history", "--json", "--limit", "2") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["from"], first["level"]) == ("none", "control")
    assert first["alerts"] == second["alerts"] == ["LLMUnpricedModel"]
    assert (second["who"], second["why"]) == ("ann", "[bold]now")
    assert say("history") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "control -> emergency ann degrade emergency: [bold]now (LLMUnpricedModel)" in printed


def test_history_tells_an_override_that_changes_nothing_yet(
    say: Say, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who switched protection off before it was needed, for how long, and who let it be."""
    say("pin", "none", "--until", "2999-01-01T00:00Z", *WHY)
    say("pin", "none", "--until", "2999-01-02T00:00Z", *WHY)
    say("release", *WHY)
    say("optimize", "--apply", "batch_up", *WHY)
    said = [line["said"] for line in receiver.audit()]
    assert said[1:] == [
        "pin none until 2999-01-01T00:00:00.000Z",
        "pin none until 2999-01-02T00:00:00.000Z",
        "release",
        "apply batch_up",
    ]
    assert {line["who"] for line in receiver.audit()[1:]} == {"ann"}
    capsys.readouterr()
    say("history")
    printed = " ".join(capsys.readouterr().out.split())
    assert receiver.audit()[1]["time"][:19].replace("T", " ") in printed
    assert "release:" in printed


def test_a_change_is_a_line_on_a_terminal_and_in_the_budgets_zone(
    say: Say,
    receiver: Receiver,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file has all of it; a terminal of 80 columns has what fits."""
    why = "a reason of some length " * 9
    say("degrade", "control", "--reason", why, "--author", "a" * 30)
    zone = "budget: {timezone: Asia/Kolkata}"
    with Exporter(tmp_path / "exporter", zone) as exporter, serving(exporter.http.app) as site:
        capsys.readouterr()
        say("history", "--exporter", site.url)
        assert why.strip() in capsys.readouterr().out
        monkeypatch.setenv("COLUMNS", "80")
        say("history", "--exporter", site.url)
    lines = capsys.readouterr().out.rstrip("\n").split("\n")
    assert len(lines) == 1 + len(receiver.audit())
    assert max(map(len, lines)) <= 80
    at = datetime.fromisoformat(receiver.audit()[-1]["time"]).astimezone(ZoneInfo("Asia/Kolkata"))
    assert f"  {'a' * 23}…  degrade control" in lines[-1], "what is cut shows it"
    assert lines[0].split()[:2] == ["when", "(Asia/Kolkata)"]
    assert lines[-1].split()[:2] == [f"{at:%Y-%m-%d}", f"{at:%H:%M:%S}"]
