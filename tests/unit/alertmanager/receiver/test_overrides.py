"""What people ask for: degrade, pin, release, tunings; and their mistakes."""

from typing import Any

import pytest

from common.clock import iso8601
from tests.support.receivers import ADMIN, NOW, Receiver, alert


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
    assert [(line["from"], line["level"], line["who"]) for line in receiver.audit()[:5]] == [
        ("none", "none", "receiver"),  # the first start
        ("none", "emergency", "ann"),
        ("emergency", "none", "ann"),
        ("none", "none", "receiver"),  # the pin hides what the alert asks for
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
            "beyond the year 9999",
        ),
        ({"mode": "tune", "tuning": "field_threshold"}, "field_threshold/FIELD"),
        ({"mode": "degrade", "level": "control", "reason": ""}, "reason"),
        ({"mode": "explode"}, "explode"),
        ({"mode": "release", "reason": "fine\x1b[2K\rnothing"}, "printable"),
        ({"mode": "release", "author": "ann\n2026 INFO"}, "printable"),
        ({"mode": "tune", "tuning": "roaster/naivo"}, "cannot be applied by hand"),
    ],
)
def test_a_persons_mistake_is_400_and_named(
    receiver: Receiver, what: dict[str, Any], words: str
) -> None:
    answer = receiver.post("/api/v1/override", {"reason": "r", "author": "ann", **what}, ADMIN)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
