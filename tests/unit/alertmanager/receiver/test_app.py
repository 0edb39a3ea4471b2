"""The receiver over HTTP: webhooks, files that fail, people, and hostile input."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from alertmanager.receiver.configs import Configs
from alertmanager.receiver.evidence.observations import Seen
from alertmanager.receiver.service import main
from common.clock import iso8601
from common.errors import UserError
from common.http import bind
from tests.support.ladders import BASELINE_FILE, LADDER_FILE
from tests.support.receivers import ADMIN, NOW, WEBHOOK, Receiver, alert


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    built = Receiver(tmp_path)
    yield built
    built.hooks.close()


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


@pytest.mark.parametrize(
    "labels",
    [{"degradation": "meltdown"}, {"tuning": "batch_up"}, {"tuning": "roaster"},
     {"tuning": "roaster", "roaster": "x" * 300}],
)  # fmt: skip
def test_what_the_ladder_does_not_know_is_accepted_and_ignored(
    receiver: Receiver, labels: dict[str, str]
) -> None:
    assert receiver.webhook(alert(**labels)) == 200
    assert receiver.level() == "none"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"x"', b"{}", b"\xff\xfe", b'{"version": "3"}', b"[" * 100_000,
     b'{"version": "4", "status": "firing", "alerts": [{"status": "odd"}]}',
     b'{"version": "4", "status": "firing", "alerts": "none"}'],
)  # fmt: skip
def test_a_webhook_that_is_none_is_400_in_one_sentence_and_changes_nothing(
    receiver: Receiver, body: bytes
) -> None:
    before = (receiver.folder / "effective.yml").read_bytes()
    answer = receiver.post("/alerts", body)
    assert answer.status_code == 400
    assert "not an Alertmanager webhook" in answer.json()["error"]
    assert (receiver.folder / "effective.yml").read_bytes() == before


def test_tokens_methods_hosts_and_sizes(receiver: Receiver) -> None:
    http = receiver.http
    assert http.post("/alerts", content=b"{}").status_code == 401
    assert receiver.metric("llm_degradation_notifications_total", result="refused") == 1
    assert receiver.post("/alerts", b"{}", token="wrong-token-000000").status_code == 401
    assert receiver.post("/api/v1/override", b"{}", token=WEBHOOK).status_code == 401
    assert http.get("/alerts").status_code == 405
    assert receiver.post("/alerts", b" " * (5 << 20)).status_code == 413
    assert http.get("/config", headers={"Host": "evil.example"}).status_code == 403


def test_the_config_has_an_etag_and_two_formats(receiver: Receiver) -> None:
    first = receiver.http.get("/config")
    assert first.json()["batch_size"] == 10
    unchanged = receiver.http.get("/config", headers={"If-None-Match": first.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    receiver.webhook(alert("control"))
    changed = receiver.http.get("/config", headers={"If-None-Match": first.headers["etag"]})
    assert changed.json()["batch_size"] == 5
    as_yaml = receiver.http.get("/config", headers={"Accept": "application/yaml"})
    assert yaml.safe_load(as_yaml.text)["batch_size"] == 5


def no_writing(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_503_keeps_protecting_in_memory_and_recovers(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr("alertmanager.receiver.configs.replace_file", no_writing)
        full.setattr("alertmanager.receiver.state.replace_file", no_writing)
        assert receiver.webhook(alert("control")) == 503
        assert receiver.http.get("/health").status_code == 503
        assert receiver.http.get("/config").json()["batch_size"] == 5
        assert receiver.metric("llm_degradation_apply_failed", step="write") == 1
        receiver.controller.reconcile()
    receiver.controller.reconcile()
    assert receiver.effective()["batch_size"] == 5
    assert receiver.http.get("/health").status_code == 200
    assert receiver.metric("llm_degradation_apply_failed", step="write") == 0


def test_a_lift_that_cannot_be_remembered_is_not_done(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.webhook(alert("conserve"))
    receiver.webhook(alert("conserve", "resolved", end=NOW + 5))
    receiver.controller.reconcile()
    with monkeypatch.context() as full:
        full.setattr("alertmanager.receiver.state.replace_file", no_writing)
        for _ in range(70):
            receiver.clock.advance(10)
            receiver.controller.reconcile()
        assert receiver.level() == "conserve"
    for _ in range(70):  # a hold that nobody could write down starts anew
        receiver.clock.advance(10)
        receiver.controller.reconcile()
    assert receiver.level() == "none"


def test_a_hand_edited_file_is_healed_and_counted(receiver: Receiver) -> None:
    receiver.webhook(alert("control"))
    (receiver.folder / "effective.yml").write_text("enabled: true\n")
    receiver.controller.reconcile()
    assert receiver.effective()["batch_size"] == 5
    (receiver.folder / "effective.yml").unlink()
    receiver.controller.reconcile()
    assert receiver.effective()["batch_size"] == 5
    assert receiver.metric("llm_degradation_config_drift_total") == 2


def test_an_edit_of_the_baseline_takes_effect_at_once_and_survives_the_restore(
    tmp_path: Path,
) -> None:
    baseline = tmp_path / "llm.yml"
    baseline.write_text(BASELINE_FILE.read_text())
    receiver = Receiver(tmp_path, baseline)
    receiver.webhook(alert("control"))
    baseline.write_text(baseline.read_text().replace("batch_size: 10", "batch_size: 30"))
    receiver.controller.reconcile()
    assert receiver.effective()["batch_size"] == 15
    baseline.write_text("api_key: sk-123\n")  # a bad edit keeps the last good one, and says so
    receiver.controller.reconcile()
    assert receiver.effective()["batch_size"] == 15
    assert "api_key" in receiver.http.get("/state").json()["problems"]["config"]
    assert receiver.metric("llm_config_last_reload_successful") == 0
    receiver.hooks.close()


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    first = Receiver(tmp_path)
    first.webhook(alert("emergency"))
    again = Receiver(tmp_path)
    assert again.level() == "emergency"
    assert again.effective()["rate_limit_per_minute"] == 30


@pytest.mark.parametrize("state", [b"", b"{", b'{"version": 99}', b'{"level": "meltdown"}', None])
def test_a_lost_or_corrupt_state_keeps_what_the_effective_file_shows(
    tmp_path: Path, state: bytes | None
) -> None:
    Receiver(tmp_path).webhook(alert("emergency"))
    if state is None:
        (tmp_path / "state.json").unlink()
    else:
        (tmp_path / "state.json").write_bytes(state)
    assert Receiver(tmp_path).level() == "emergency"


def test_a_corrupt_state_without_a_telling_file_protects_fully(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(b"{")
    (tmp_path / "effective.yml").write_text("something: else\n")
    assert Receiver(tmp_path).level() == "fallback"


def test_people_degrade_pin_and_release_and_the_audit_tells(receiver: Receiver) -> None:
    def say(**what: Any) -> Any:
        return receiver.post("/api/v1/override", {"reason": "r", "author": "ann", **what}, ADMIN)

    assert say(mode="degrade", level="emergency").json()["level"] == "emergency"
    later = iso8601(NOW + 60)
    assert say(mode="pin", level="none", until=later).json()["level"] == "none"
    receiver.webhook(alert("control"))
    assert receiver.level() == "none"
    receiver.clock.advance(61)
    receiver.controller.reconcile()
    assert receiver.level() == "control"
    assert say(mode="tune", tuning="batch_up").json()["tunings"] == ["batch_up"]
    assert say(mode="untune", tuning="batch_up").json()["tunings"] == []
    lines = [json.loads(line) for line in (receiver.folder / "audit.jsonl").open()]
    assert [(line["from"], line["level"], line["who"]) for line in lines[:4]] == [
        ("none", "none", "receiver"),  # the first start
        ("none", "emergency", "ann"),
        ("emergency", "none", "ann"),
        ("none", "control", "receiver"),
    ]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"mode": "pin", "level": "none"}, "until"),
        ({"mode": "pin", "level": "none", "until": "2001-01-01T00:00:00Z"}, "future"),
        ({"mode": "degrade", "level": "meltdown"}, "meltdown"),
        ({"mode": "degrade"}, "level"),
        (
            {"mode": "pin", "level": "none", "until": "9999-12-31T23:59:59-14:00"},
            "beyond the calendar",
        ),
        ({"mode": "tune", "tuning": "field_threshold"}, "field_threshold/FIELD"),
        ({"mode": "degrade", "level": "control", "reason": ""}, "reason"),
        ({"mode": "explode"}, "explode"),
        ({"mode": "release", "reason": "fine\x1b[2K\rnothing"}, "printable"),
        ({"mode": "release", "author": "ann\n2026 INFO"}, "printable"),
        ({"mode": "tune", "tuning": "roaster/naivo"}, "follows its alert"),
    ],
)
def test_a_persons_mistake_is_400_and_named(
    receiver: Receiver, what: dict[str, Any], words: str
) -> None:
    answer = receiver.post("/api/v1/override", {"reason": "r", "author": "ann", **what}, ADMIN)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_shadow_decides_and_touches_nothing(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path, shadow=True)
    assert receiver.webhook(alert("fallback")) == 200
    assert receiver.level() == "fallback"
    assert receiver.http.get("/config").json()["enabled"] is True
    assert not (tmp_path / "effective.yml").exists()
    receiver.hooks.close()


def test_the_files_mode_is_kept(receiver: Receiver) -> None:
    os.chmod(receiver.folder / "effective.yml", 0o640)
    receiver.webhook(alert("control"))
    assert (receiver.folder / "effective.yml").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--baseline", "/nowhere/llm.yml"], "cannot read /nowhere/llm.yml"),
        (["--config", "/nowhere/ladder.yml"], "cannot read /nowhere/ladder.yml"),
        (["--listen", "8001"], "not HOST:PORT"),
        (["--listen", "0.0.0.0:0"], "needs a webhook token"),
        (["--hold", "-1"], "0 or more seconds"),
        (["--hold", "nan"], "0 or more seconds"),
    ],
)
def test_what_keeps_it_from_starting_is_one_sentence_and_status_2(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--effective", str(tmp_path / "e.yml"), "--state", str(tmp_path / "s.json")]
    assert main([*files, "--listen", "127.0.0.1:0", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("receiver: ")
    assert words in error


def test_a_taken_port_leaves_the_files_of_its_holder_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    effective = tmp_path / "effective.yml"
    effective.write_text("enabled: false\n")
    with bind("127.0.0.1", 0) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        files = ["--effective", str(effective), "--state", str(tmp_path / "state.json")]
        assert main([*files, "--listen", listen]) == 2
    assert f"cannot listen on {listen}" in capsys.readouterr().err
    assert effective.read_text() == "enabled: false\n"
    assert list(tmp_path.iterdir()) == [effective]


def test_baseline_and_effective_must_differ(tmp_path: Path) -> None:
    path = tmp_path / "llm.yml"
    path.write_text("a: 1\n")
    with pytest.raises(UserError, match="must differ"):
        Configs(LADDER_FILE, path, path)


def test_without_sources_a_round_sees_nothing(receiver: Receiver) -> None:
    assert receiver.controller.sources.ask() == Seen()
