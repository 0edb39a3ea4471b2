"""/metrics shows what is in force now, and forgets what is not any more."""

from prometheus_client.parser import text_string_to_metric_families

from tests.support.receivers import ADMIN, NOW, Receiver, alert


def active(receiver: Receiver) -> dict[str, float]:
    families = text_string_to_metric_families(receiver.http.get("/metrics").text)
    family = next(one for one in families if one.name == "llm_degradation_active")
    return {sample.labels["entry"]: sample.value for sample in family.samples}


def test_the_levels_up_to_the_one_in_force_are_active(receiver: Receiver) -> None:
    receiver.webhook(alert("control"))
    assert active(receiver) == {"conserve": 1, "control": 1, "emergency": 0, "fallback": 0}
    assert receiver.metric("llm_degradation_level") == 2
    assert receiver.metric("llm_degradation_rank", entry="emergency") == 3


def test_a_tuning_that_is_released_leaves_the_page(receiver: Receiver) -> None:
    for mode, there in (("tune", True), ("untune", False)):
        request = {"mode": mode, "tuning": "batch_up", "reason": "r", "author": "ann"}
        receiver.post("/api/v1/override", request, ADMIN)
        assert ("batch_up" in active(receiver)) is there


def test_every_counter_and_label_is_there_from_the_start(receiver: Receiver) -> None:
    assert receiver.metric("llm_degradation_holds_total", reason="source_unknown") == 0
    assert receiver.metric("llm_degradation_notifications_total", result="failed") == 0
    assert receiver.metric("llm_degradation_apply_failed", step="verify") == 0
    assert receiver.metric("llm_degradation_override", mode="pin") == 0
    assert receiver.metric("llm_degradation_hook_failures_total") == 0


def test_times_are_those_of_the_clock(receiver: Receiver) -> None:
    receiver.clock.advance(5)
    receiver.webhook(alert("control"))
    assert receiver.metric("llm_degradation_last_apply_timestamp_seconds") == NOW + 5
    notification = {"version": "4", "status": "firing", "alerts": []}
    receiver.clock.advance(5)
    assert receiver.post("/watchdog", notification).status_code == 200
    assert receiver.metric("llm_degradation_watchdog_timestamp_seconds") == NOW + 10


def test_it_tells_what_the_level_changed(receiver: Receiver) -> None:
    assert receiver.http.get("/state").json()["changes"] == []
    receiver.webhook(alert("emergency"))
    changes = {key: (old, new) for key, old, new in receiver.http.get("/state").json()["changes"]}
    assert changes["batch_size"] == (10, 5)
    assert changes["field_configs.notes.enabled"] == (True, False)
    assert changes["enable_smart_batching"][1] is True
