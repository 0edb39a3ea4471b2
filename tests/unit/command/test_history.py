"""llm-budget history, through a real receiver."""

import json
from collections.abc import Callable

import pytest

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
    assert receiver.audit()[1]["time"][:19] in printed
    assert "release:" in printed
