"""Webhooks raise at once, rounds lower; what is in force goes on after a restart."""

import json
from pathlib import Path

from alertmanager.receiver.evidence.observations import (
    ExporterAnswer,
    Observations,
    PrometheusAnswer,
    Ruler,
)
from alertmanager.receiver.state import SeenLedger
from tests.support.budget_statuses import figures
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


def ruled(ruler: Ruler, at: float = NOW) -> Observations:
    none: frozenset[str] = frozenset()
    return Observations((), (PrometheusAnswer("p", none, at, {}, none, none, ruler),))


def test_a_hold_below_three_intervals_and_the_delay_is_a_problem_with_the_numbers(
    receiver: Receiver,
) -> None:
    receiver.observe(ruled(Ruler(180, 60)))
    assert receiver.http.get("/health").status_code == 200
    receiver.observe(ruled(Ruler(181, 60)))
    health = receiver.http.get("/health")
    assert health.status_code == 503
    assert health.json()["problems"]["hold"] == (
        "--hold 600 is below three intervals (of evaluation 543 s, of scrapes 0 s) and the ruler's "
        "delay, 60 s: lowering waits for 603 s"
    )
    assert "hold" in receiver.http.get("/state").json()["problems"]


def test_rules_that_wait_for_their_first_evaluation_have_no_time(receiver: Receiver) -> None:
    receiver.observe(ruled(Ruler(5), at=0.0))
    state = receiver.http.get("/state").json()
    assert state["sources"]["p"] == "ok, rules not evaluated yet, every 5 s"


def test_the_lag_and_a_ledger_that_is_away_are_shown_in_the_state_alone(
    receiver: Receiver,
) -> None:
    receiver.observe(ruled(Ruler(5, lag=4.2, spent=frozenset({"a1"}), day_start=NOW - 60)))
    state = receiver.http.get("/state").json()
    assert state["sources"]["p"].endswith("Z, every 5 s, records 4.2 s behind")
    assert state["ruler_delay_seconds"] == 0
    assert (state["ledgers"], set(state["problems"])) == ({"a1": "away"}, {"ledgers"})
    receiver.observe(ruled(Ruler(5, lag=34, day_start=NOW - 60)))
    assert "--ruler-delay 0" in receiver.http.get("/state").json()["problems"]["ruler of p"]
    assert receiver.http.get("/health").status_code == 200


def test_the_ledgers_of_today_survive_a_restart_and_a_wiped_prometheus(tmp_path: Path) -> None:
    first = Receiver(tmp_path)
    first.observe(ruled(Ruler(5, spent=frozenset({"a1"}), day_start=NOW - 60)))
    first.close()
    again = Receiver(tmp_path)
    again.observe(ruled(Ruler(5, day_start=NOW - 60)))
    assert again.store.state.ledgers == {"a1": SeenLedger(NOW - 60)}
    again.close()


def test_exporters_with_different_budgets_are_a_problem_in_the_state(receiver: Receiver) -> None:
    limits = {"e": "9", "f": "10"}
    exporters = [ExporterAnswer(url, NOW, figures("1", limit=usd)) for url, usd in limits.items()]
    receiver.observe(Observations((), (), exporters))
    said = receiver.http.get("/state").json()["problems"]["exporters"]
    assert "e has $9 a day" in said
    assert receiver.http.get("/health").status_code == 200
