"""The receiver over HTTP: tokens, sizes, formats and hostile input."""

from pathlib import Path

import pytest
import yaml

from alertmanager.receiver.decide import MAX_TUNINGS
from common.clock import iso8601
from tests.support.receivers import ADMIN, NOW, WEBHOOK, Receiver, alert


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"x"', b"{}", b"\xff\xfe", b'{"version": "3"}', b"[" * 100_000,
     b'{"version": "4", "status": "firing", "alerts": [{"status": "odd"}]}',
     b'{"version": "4", "status": "firing", "alerts": "none"}'],
)  # fmt: skip
def test_a_malformed_webhook_is_400_in_one_sentence_and_changes_nothing(
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


def test_history_is_bounded_and_in_order(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path)
    for level in ("conserve", "control", "emergency"):
        receiver.webhook(alert(level))
    answer = receiver.http.get("/api/v1/history", params={"limit": 2}).json()["changes"]
    assert [(change["from"], change["level"]) for change in answer] == [
        ("conserve", "control"),
        ("control", "emergency"),
    ]
    assert answer[1]["time"] == iso8601(NOW)
    for limit in ("0", "1001", "x", "-1", "1" * 5000, "²"):
        assert receiver.http.get("/api/v1/history", params={"limit": limit}).status_code == 400
    receiver.close()


def test_health_says_when_no_round_comes(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path)
    receiver.controller.reconcile()
    assert receiver.http.get("/health").status_code == 200
    receiver.clock.advance(31)
    answer = receiver.http.get("/health")
    assert answer.status_code == 503
    assert "no round" in answer.json()["problems"]["rounds"]
    receiver.close()


def test_health_says_when_not_even_a_first_round_ends(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path)
    assert receiver.http.get("/health").status_code == 200
    receiver.clock.advance(31)
    answer = receiver.http.get("/health")
    assert answer.status_code == 503
    assert "no round" in answer.json()["problems"]["rounds"]
    assert receiver.metric("llm_degradation_last_round_timestamp_seconds") == NOW
    receiver.close()


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "text/json"]
)
def test_what_is_not_said_to_be_json_is_415_and_changes_nothing(
    receiver: Receiver, kind: str
) -> None:
    body = {"version": "4", "status": "firing", "alerts": [alert("fallback")]}
    word = {"mode": "degrade", "level": "fallback", "reason": "r", "author": "a"}
    sent = {"/alerts": (body, WEBHOOK), "/watchdog": (body, WEBHOOK),
            "/api/v1/override": (word, ADMIN)}  # fmt: skip
    for path, (content, token) in sent.items():
        answer = receiver.post(path, content, token, **{"Content-Type": kind})
        assert (path, answer.status_code) == (path, 415)
        assert "application/json" in answer.json()["error"]
    assert receiver.level() == "none"
    answer = receiver.post("/alerts", body, **{"Content-Type": "Application/JSON; charset=utf-8"})
    assert answer.status_code == 200


def test_more_tunings_than_are_kept_are_counted_and_said(receiver: Receiver) -> None:
    names = [f"r{number}" for number in range(MAX_TUNINGS + 7)]
    receiver.webhook(*(alert(tuning="roaster", roaster=name) for name in names))
    assert receiver.metric("llm_degradation_refused_tunings") == 7
    said = receiver.http.get("/health").json()["problems"]["tunings"]
    assert said == "7 tunings are asked for beyond the 3,000 that are kept"
    assert len(receiver.http.get("/state").json()["tunings"]) == MAX_TUNINGS
