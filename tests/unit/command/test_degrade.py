"""llm-budget degrade, pin and release, through a real receiver."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from alertmanager.receiver.evidence.observations import (
    ExporterAnswer,
    Observations,
    PrometheusAnswer,
    Ruler,
)
from command.degrade import parse_time
from command.main import main
from command.remote import exporter_status
from common.clock import iso8601
from common.errors import UserError
from tests.support.budget_statuses import figures
from tests.support.exporters import exporter_process
from tests.support.exporters import url as url_of
from tests.support.receivers import NOW, Receiver, alert

Say = Callable[..., int]
NONE: frozenset[str] = frozenset()
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


def test_a_release_tells_what_is_held_from_what_the_alerts_ask_for(
    say: Say, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    now = receiver.clock.now()
    clear = frozenset(receiver.configs.ladder.names[1:])
    rules = PrometheusAnswer("p", NONE, now + 2, {}, clear, NONE, Ruler(5, day_start=now))
    receiver.webhook(alert("fallback", start=now))
    receiver.webhook(alert("fallback", "resolved", start=now, end=now + 1))
    receiver.clock.advance(2)
    receiver.observe(Observations((), (rules,), ()))
    assert say("release", *WHY, "--json") == 0
    state = json.loads(capsys.readouterr().out)
    assert (state["level"], state["alerts_ask_for"]) == ("fallback", "none")
    assert state["evidence_keeps"] == "fallback"
    (hold,) = state["holds"]
    assert hold == {
        "entry": "fallback", "reason": "hold", "detail": "clear; the hold ends in 600 s",
        "until": iso8601(now + 602),
    }  # fmt: skip
    assert say("release", *WHY) == 0
    assert capsys.readouterr().out.startswith(
        "In force: fallback. The alerts ask for: none. fallback is held until "
        f"{iso8601(now + 602)[:19]}Z: clear; the hold ends in 600 s."
    )


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
        (("retire", "aa", *WHY), "'aa' is no ledger that was seen today or this month; seen: none"),
        (("retire", "aa", "--reason", ""), "reason"),
        (("retire", "aa\n", *WHY), "printable"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(
    say: Say, words: tuple[str, ...], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert say(*words) == 2
    printed = capsys.readouterr().err.strip()
    assert error in printed
    assert "\n" not in printed


def test_a_ledger_that_is_gone_is_retired_once_for_the_day(
    say: Say, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    both, gone = seen("a1"), seen()
    receiver.observe(both)
    assert say("retire", "a1", *WHY) == 2
    assert "ledger a1 lives" in capsys.readouterr().err
    receiver.observe(gone)
    assert say("retire", "a", *WHY) == 0
    assert capsys.readouterr().out.strip() == (
        "In force: none. The alerts ask for: none. Ledger a1 is retired."
    )
    assert receiver.metric("llm_ledger_retired", ledger="a1") == 1
    last = receiver.audit()[-1]
    assert (last["said"], last["why"], last["who"]) == ("retire a1", "a launch", "ann")
    again = Receiver(receiver.folder, now=receiver.clock.now())
    again.observe(gone)
    assert again.http.get("/state").json()["ledgers"] == {"a1": "retired"}
    again.observe(both)
    assert again.http.get("/state").json()["ledgers"] == {"a1": "live"}
    assert again.metric("llm_ledger_retired", ledger="a1") is None
    again.close()


def test_a_retired_ledger_s_month_is_handed_to_a_living_one(
    say: Say, receiver: Receiver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "e").mkdir()
    with exporter_process(tmp_path / "e", "budget: {monthly_limit_usd: 300}") as child:
        exporter = url_of(child, "")
        name = exporter_status(exporter).month.month
        receiver.observe(seen("a1", months={f"{name}/a1": 41.3, f"{name}/b2": 1.0}))
        receiver.observe(seen())
        # What it had spent is kept until an exporter takes it: after a restart as well.
        again = ("retire", "a", *WHY, "--exporter")
        assert say(*again, "http://127.0.0.1:1") == 2
        assert "cannot reach the exporter" in capsys.readouterr().err
        for _ in range(2):
            assert say(*again, exporter) == 0
            said = f"{exporter} now counts $41.30 of {name} for a1."
            assert said in capsys.readouterr().err
        found = exporter_status(exporter).month
        assert (found.carried_usd, found.before) == ({"a1": Decimal("41.3")}, Decimal("41.3"))


def seen(*ledgers: str, months: dict[str, float] | None = None) -> Observations:
    """A round in which a Prometheus and these ledgers' exporters answer."""
    ruler = Ruler(5, day_start=NOW, months=months or {})
    rules = PrometheusAnswer("p", NONE, NOW, {}, NONE, NONE, ruler)
    return Observations(
        (), (rules,), tuple(ExporterAnswer(one, NOW, figures("1"), ledger=one) for one in ledgers)
    )


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
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_time(text, 1000.0) == seconds


@pytest.mark.parametrize(
    "text", ["+", "+2w", "+-1h", "2h", "", "+9999999d", "24:00", "0001-01-01T00:00+14:00"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_time(text, 1000.0)
