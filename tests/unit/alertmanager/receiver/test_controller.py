"""Webhooks raise at once, rounds lower; what is in force goes on after a restart."""

import json
from pathlib import Path

from alertmanager.receiver.evidence.observations import Observations
from tests.support.receivers import NOW, Receiver, alert


def test_a_firing_alert_is_in_the_file_when_the_answer_comes(receiver: Receiver) -> None:
    assert receiver.webhook(alert("fallback")) == 200
    assert receiver.effective()["enabled"] is False
    assert json.loads((receiver.folder / "state.json").read_text())["level"] == "fallback"
    assert "level fallback" in (receiver.folder / "effective.yml").read_text().splitlines()[0]


def test_repeats_change_nothing_and_a_higher_level_wins_in_any_order(receiver: Receiver) -> None:
    for level in ("emergency", "control", "emergency", "control"):
        assert receiver.webhook(alert(level)) == 200
        assert receiver.level() == "emergency"
    assert receiver.metric("llm_degradation_applies_total") == 2  # the baseline, then emergency


def test_a_resolve_alone_lifts_nothing(receiver: Receiver) -> None:
    receiver.webhook(alert("control"))
    receiver.webhook(alert("control", "resolved", end=NOW + 5), status="resolved")
    receiver.controller.reconcile()
    assert receiver.level() == "control"


def test_without_peers_a_resolve_lifts_after_the_hold_and_the_state_says_so(
    receiver: Receiver,
) -> None:
    receiver.webhook(alert("conserve"))
    receiver.webhook(alert("conserve", "resolved", end=NOW + 5))
    for _ in range(70):
        receiver.controller.reconcile()
        receiver.clock.advance(10)
    assert receiver.level() == "none"
    assert receiver.http.get("/state").json()["confirmed"] is False


def test_mixed_alerts_of_one_webhook_are_all_heard(receiver: Receiver) -> None:
    receiver.webhook(
        alert("control", "resolved", end=NOW + 1),
        alert("emergency"),
        alert(tuning="roaster", roaster="naivo"),
        alert(alertname="LLMExporterDown"),
    )
    assert receiver.level() == "emergency"
    state = receiver.http.get("/state").json()
    assert state["tunings"] == ["roaster/naivo"]
    assert set(receiver.effective()["roasters"]) <= {"naivo"}


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    first = Receiver(tmp_path)
    first.webhook(alert("emergency"))
    again = Receiver(tmp_path)
    assert again.level() == "emergency"
    assert again.effective()["rate_limit_per_minute"] == 30


def test_without_sources_a_round_observes_nothing(receiver: Receiver) -> None:
    assert receiver.controller.sources.ask() == Observations()
