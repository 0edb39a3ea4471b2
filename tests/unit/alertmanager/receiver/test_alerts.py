"""What webhooks say of alerts, late, repeated, from the future and in floods."""

from pathlib import Path
from typing import Any

import pytest

from alertmanager.receiver.alerts import entry_of
from tests.support.ladders import shipped_ladder
from tests.support.receivers import NOW, Receiver, alert


def test_a_late_repeat_of_a_resolved_alert_is_ignored_a_new_one_is_not(receiver: Receiver) -> None:
    receiver.webhook(alert("control", "resolved", start=NOW, end=NOW + 5))
    receiver.webhook(alert("control", start=NOW + 4))
    assert receiver.level() == "none"
    receiver.webhook(alert("control", start=NOW + 6))
    assert receiver.level() == "control"


def test_a_late_repeat_of_an_older_resolve_takes_no_newer_claim_back(receiver: Receiver) -> None:
    receiver.webhook(alert("control", start=NOW))
    over = alert("control", "resolved", start=NOW, end=NOW + 5)
    receiver.webhook(over)
    receiver.webhook(alert("control", start=NOW + 6))
    receiver.webhook(over)  # the pair's other half, late
    for _ in range(70):
        receiver.controller.reconcile()
        receiver.clock.advance(10)
    assert receiver.level() == "control"


def test_a_resolve_from_the_future_does_not_silence_what_fires_after_it(receiver: Receiver) -> None:
    receiver.webhook(alert("control", "resolved", start=NOW, end=NOW + 86_400))
    receiver.controller.reconcile()
    receiver.clock.advance(5)
    receiver.webhook(alert("control", start=NOW + 4))
    assert receiver.level() == "control"


def test_with_no_api_to_ask_an_alert_that_is_told_again_counts(tmp_path: Path) -> None:
    """Prometheus was away, so Alertmanager ended the alert; back, it tells the same startsAt."""
    alone = Receiver(tmp_path, alone=True)
    alone.webhook(alert("control", start=NOW))
    alone.webhook(alert("control", "resolved", start=NOW, end=NOW + 20))
    alone.clock.advance(60)
    alone.webhook(alert("control", start=NOW))
    for _ in range(70):
        alone.controller.reconcile()
        alone.clock.advance(10)
    assert alone.level() == "control"
    alone.close()


@pytest.mark.parametrize(
    "labels",
    [{"degradation": "meltdown"}, {"tuning": "batch_up"}, {"tuning": "roaster"},
     {"tuning": "roaster", "roaster": "x" * 300}, {"tuning": "roaster_stop", "scope": "x" * 300},
     {"tuning": "field_stop", "roaster": "naivo"}],
)  # fmt: skip
def test_what_the_ladder_does_not_know_is_accepted_and_ignored(
    receiver: Receiver, labels: dict[str, str]
) -> None:
    assert receiver.webhook(alert(**labels)) == 200
    assert receiver.level() == "none"


def test_a_flood_of_alerts_is_bounded_and_never_keeps_a_level_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alertmanager.receiver.alerts.MAX_CLAIMS", 5)
    monkeypatch.setattr("alertmanager.receiver.decide.MAX_TUNINGS", 5)
    receiver = Receiver(tmp_path)
    flood = [alert(tuning="roaster", roaster=f"r{number}") for number in range(50)]
    assert receiver.webhook(*flood, alert("fallback")) == 200
    assert receiver.level() == "fallback"
    state: Any = receiver.store.state
    assert len(state.claims) <= 7
    assert len(state.tunings) <= 5
    receiver.close()


def test_an_older_resolve_that_comes_late_does_not_let_a_repeat_in(receiver: Receiver) -> None:
    receiver.webhook(alert("control", "resolved", start=NOW, end=NOW + 5))
    receiver.webhook(alert("control", "resolved", start=NOW - 9, end=NOW - 5))
    receiver.webhook(alert("control", start=NOW + 4))
    assert receiver.level() == "none"


def test_resolves_are_forgotten_when_they_are_old_or_too_many(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alertmanager.receiver.alerts.MAX_CLAIMS", 2)
    for number in range(3):
        over = alert("control", "resolved", end=NOW + number, fingerprint=f"f{number}")
        receiver.webhook(over)
    receiver.clock.advance(3)
    receiver.controller.reconcile()
    assert set(receiver.store.state.resolved) == {"f1", "f2"}
    receiver.clock.set(NOW + 1.5 + 26 * 3600)
    receiver.controller.reconcile()
    assert set(receiver.store.state.resolved) == {"f2"}


@pytest.mark.parametrize(
    ("labels", "entry"),
    [
        ({"tuning": "roaster_stop", "scope": "naivo", "roaster": "naivo"}, "roaster_stop/naivo"),
        ({"tuning": "field_stop", "scope": "notes", "field": "notes"}, "field_stop/notes"),
        ({"tuning": "roaster", "roaster": "naivo"}, "roaster/naivo"),  # of earlier rules
        ({"degradation": "control", "scope": "all"}, "control"),
    ],
)
def test_a_tunings_scope_is_a_label_of_its_own(labels: dict[str, str], entry: str) -> None:
    assert entry_of(labels, shipped_ladder()) == entry
