"""degrade, pin, release, optimize and history, through a real HTTP server."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn

from command.degrade import moment
from command.main import main
from common.clock import SystemClock
from common.errors import UserError
from tests.support.receivers import ADMIN, Receiver, alert
from tests.support.waiting import until

Say = Callable[..., int]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    built = Receiver(tmp_path, now=SystemClock().now())
    yield built
    built.close()


@pytest.fixture
def url(receiver: Receiver) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(receiver.http.app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
    thread.start()
    until(lambda: server.started, what="the server")
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def say(url: str, monkeypatch: pytest.MonkeyPatch) -> Say:
    monkeypatch.setenv("LLM_BUDGET_ADMIN_TOKEN", ADMIN)
    return lambda *words: main([*words, "--receiver", url])


WHY = ("--reason", "a launch", "--author", "ann")


def test_a_floor_a_pin_and_a_release(
    say: Say, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    assert say("degrade", "emergency", *WHY) == 0
    assert capsys.readouterr().out.strip() == (
        "In force: emergency. The alerts ask for: none. ann says degrade emergency, until released."
    )
    receiver.webhook(alert("fallback"))
    assert receiver.level() == "fallback"  # a floor, no ceiling
    assert say("pin", "control", "--until", "+2h", *WHY) == 0
    assert (
        "In force: control. The alerts ask for: fallback. ann says pin" in capsys.readouterr().out
    )
    assert receiver.effective()["batch_size"] == 5
    receiver.clock.advance(2 * 3600 + 1)
    receiver.controller.reconcile()
    assert receiver.level() == "fallback"
    assert say("degrade", "control", *WHY) == 0
    assert say("release", *WHY, "--json") == 0
    assert json.loads(capsys.readouterr().out.partition("\n")[2])["override"] is None


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


def test_history_tells_a_word_that_changes_nothing_yet(
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


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("pin", "none", "--until", "tomorrow", *WHY), "neither like +2h nor ISO 8601"),
        (("pin", "none", "--until", "2026-11-24T18:00", *WHY), "no time zone"),
        (("pin", "none", "--until", "2001-01-01T00:00Z", *WHY), "not in the future"),
        (("degrade", "meltdown", *WHY), "no level 'meltdown'"),
        (("optimize", "--apply", "batch_up"), "--reason"),
        (("optimize", "--apply", "field_threshold/nose", *WHY), "nothing for field_threshold/nose"),
        (("history", "--limit", "0"), "from 1 to 1000"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    say: Say, words: tuple[str, ...], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert say(*words) == 2
    printed = capsys.readouterr().err.strip()
    assert error in printed
    assert "\n" not in printed


def test_a_wrong_token_and_a_receiver_that_is_away_are_named(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLM_BUDGET_ADMIN_TOKEN", "another-token-0123456789")
    assert main(["release", *WHY, "--receiver", url]) == 2
    assert "401" in capsys.readouterr().err
    assert main(["release", *WHY, "--receiver", "http://127.0.0.1:1"]) == 2
    assert "cannot reach the receiver" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("+90s", 1090.0), ("+2h", 8200.0), ("+1d", 87400.0), ("1970-01-01T05:30+05:30", 0.0)],
)
def test_moments(text: str, seconds: float) -> None:
    assert moment(text, 1000.0) == seconds


@pytest.mark.parametrize(
    "text", ["+", "+2w", "+-1h", "2h", "", "+9999999d", "24:00", "0001-01-01T00:00+14:00"]
)
def test_no_moments(text: str) -> None:
    with pytest.raises(UserError):
        moment(text, 1000.0)
