"""llm-budget optimize, through a real receiver."""

from collections.abc import Callable

import pytest

from tests.support.receivers import Receiver

Say = Callable[..., int]
WHY = ("--reason", "a launch", "--author", "ann")


def test_tunings_are_listed_applied_and_released(
    say: Say, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    assert say("optimize", "--apply", "field_threshold/notes", *WHY) == 0
    assert say("optimize", "--apply", "batch_up", *WHY) == 0
    capsys.readouterr()
    assert say("optimize") == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert lines["field_threshold/FIELD"] == ["people", "field_threshold/notes"]
    assert lines["batch_up"] == ["people", "batch_up"]
    assert lines["roaster/ROASTER"] == ["its", "alert"]
    assert receiver.effective()["batch_size"] == 20
    assert say("optimize", "--release", "batch_up", *WHY) == 0
    assert receiver.effective()["batch_size"] == 10
