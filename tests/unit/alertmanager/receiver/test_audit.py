"""The audit trail: torn lines, full files, folders that are not there."""

from pathlib import Path

import pytest

from alertmanager.receiver.audit import Audit
from tests.support.receivers import Receiver, alert


def test_the_audit_trail_survives_a_torn_line_and_a_full_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = Receiver(tmp_path)
    trail = receiver.controller.announcer.audit
    with open(receiver.audit_file, "ab") as file:
        file.write(b'{"time": "torn by a kill')
    receiver.webhook(alert("control"))
    assert [change.level for change in trail.last(10)] == ["none", "control"]
    monkeypatch.setattr("alertmanager.receiver.audit.MAX_BYTES", 10)
    receiver.webhook(alert("emergency"))
    assert len(receiver.audit_file.read_text().splitlines()) == 1
    assert [change.level for change in trail.last(2)] == ["control", "emergency"]
    receiver.audit_file.unlink()
    receiver.audit_file.mkdir()  # it cannot be written: the change is made all the same
    assert receiver.webhook(alert("fallback")) == 200
    assert receiver.effective()["enabled"] is False
    assert Audit(tmp_path / "nowhere" / "x").last(5) == []
    receiver.close()
