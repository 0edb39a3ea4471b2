"""What `llm-budget status` says of the level in force: since when, and what it saves."""

import json
from typing import Any

import pytest

from command import effect
from command.effect import effect_of, sentence
from command.remote import UnreachableError
from command.remote import call as call_service
from common import names
from tests.support.receivers import Receiver, alert

NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def vector(url: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Prometheus answers; the receiver is a real one."""
    result: list[dict[str, Any]] = []

    def call(service: str, base: str, path: str, **more: Any) -> Any:
        if service != "Prometheus server":
            return call_service(service, base, path, **more)
        assert (base, path) == (NOBODY, "/api/v1/query")
        assert set(more["params"]["query"].split(" or ")) == {names.EFFECT, names.EFFECT_UNJUDGED}
        body = {"status": "success", "data": {"resultType": "vector", "result": result}}
        return json.loads(json.dumps(body))

    monkeypatch.setattr(effect, "call", call)
    return result


def sample(value: str, **labels: str) -> dict[str, Any]:
    return {"metric": {"__name__": names.EFFECT, **labels}, "value": [1_800_014_400.5, value]}


def test_a_level_is_told_with_its_rise_its_cost_and_its_calls(
    url: str, receiver: Receiver, vector: list[dict[str, Any]]
) -> None:
    receiver.webhook(alert("control"))
    receiver.webhook(alert("emergency"))
    rose = receiver.audit()[-1]["time"]
    receiver.clock.advance(60)
    receiver.webhook(alert(tuning="roaster", roaster="x"))  # a tuning is no rise of the level
    vector += [
        sample("0.42", entry="emergency", of="calls"),
        sample("0.391", entry="emergency", of="cost"),
        sample("0.8", entry="control", of="calls"),
    ]
    found = dict(effect_of("emergency", url, NOBODY))
    assert (found["since"], round(found["calls"], 6)) == (rose, -0.58)
    text = f" since {rose[:16]}Z (X): -61% cost a minute, -58% calls"
    assert sentence(found) == text


def test_why_its_calls_are_not_judged_is_said(
    url: str, receiver: Receiver, vector: list[dict[str, Any]]
) -> None:
    receiver.webhook(alert("control"))
    found = dict(effect_of("control", url, NOBODY))
    assert sentence(found).endswith("Z (X): calls not judged (yet)")
    vector += [
        sample("1.034", entry="control", of="cost"),
        sample("1", entry="control", reason="two_rises"),
    ]
    found = dict(effect_of("control", url, NOBODY))
    assert sentence(found).endswith("Z (X): +3% cost a minute, calls not judged (two rises)")


def test_a_level_that_the_audit_trail_does_not_know_has_no_since(
    url: str, vector: list[dict[str, Any]]
) -> None:
    assert sentence(dict(effect_of("fallback", url, NOBODY))) == ": calls not judged (yet)"


def test_what_is_known_before_prometheus_is_found_away_is_kept(
    url: str, receiver: Receiver
) -> None:
    receiver.webhook(alert("control"))
    found: dict[str, Any] = {}
    with pytest.raises(UnreachableError, match="cannot reach the Prometheus server at"):
        found.update(effect_of("control", url, NOBODY))
    assert sentence(found) == f" since {found['since'][:16]}Z (X)"
