"""A receiver in a test: in process, on a manual clock, without peers unless given some."""

import json
from pathlib import Path
from typing import Any

import yaml
from starlette.testclient import TestClient

from alertmanager.receiver.app import ReceiverApp
from alertmanager.receiver.configs import Configs
from alertmanager.receiver.controller import Controller
from alertmanager.receiver.evidence.observations import Observations
from alertmanager.receiver.evidence.sources import Sources
from common.clock import iso8601
from tests.support.clock import ManualClock
from tests.support.ladders import BASELINE_FILE, LADDER_FILE

WEBHOOK, ADMIN = "webhook-token-0123456789", "admin-token-0123456789"
NOW = 1_800_000_000.0


class Receiver:
    """A receiver without peers, on a manual clock."""

    def __init__(
        self,
        folder: Path,
        baseline: Path = BASELINE_FILE,
        *,
        ladder: Path = LADDER_FILE,
        shadow: bool = False,
        now: float = NOW,
        alone: bool = False,
    ) -> None:
        """alone: it has no API to ask; else its test says what they answer."""
        self.folder = folder
        self.file = folder / f"effective{baseline.suffix}"
        self.clock = ManualClock(now)
        self.configs = Configs(ladder, baseline, self.file)
        sources = Sources(lambda: self.configs.ladder, self.clock, [], [], [])
        sources.can_confirm = not alone
        self.controller = Controller(
            self.configs, folder / "state.json", sources, self.clock,
            hold_seconds=600, shadow=shadow,
        )  # fmt: skip
        self.store = self.controller.store
        self.web = ReceiverApp(self.controller, WEBHOOK, ADMIN)
        self.http = TestClient(self.web.asgi([]), base_url="http://127.0.0.1")

    def close(self) -> None:
        self.controller.close()

    def observe(self, observed: Observations) -> None:
        """One round in which the sources answer this."""
        self.controller.sources.ask = lambda: observed  # type: ignore[method-assign]
        self.controller.reconcile()

    @property
    def audit_file(self) -> Path:
        return self.folder / "state.audit.jsonl"

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit_file.open()]

    def webhook(self, *alerts: dict[str, Any], **changes: Any) -> int:
        body = {
            "version": "4",
            "groupKey": "{}",
            "status": "firing",
            "receiver": "degradation",
            "groupLabels": {},
            "commonLabels": {},
            "commonAnnotations": {},
            "externalURL": "http://am",
            "truncatedAlerts": 0,
            "alerts": list(alerts),
        } | changes
        return self.post("/alerts", body).status_code

    def post(self, path: str, body: Any, token: str = WEBHOOK, **headers: str) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **headers}
        headers["Authorization"] = f"Bearer {token}"
        return self.http.post(path, content=content, headers=headers)

    def effective(self) -> Any:
        return yaml.safe_load(self.file.read_text())

    def level(self) -> str:
        return str(self.http.get("/state").json()["level"])

    def metric(self, name: str, **labels: str) -> float | None:
        return self.web.registry.get_sample_value(name, labels)


def alert(
    level: str = "control", status: str = "firing", start: float = NOW, end: float | None = None,
    fingerprint: str = "", **labels: str,
) -> dict[str, Any]:  # fmt: skip
    asked = labels or {"degradation": level}
    return {
        "status": status,
        "labels": {"alertname": "X", **asked},
        "annotations": {},
        "startsAt": iso8601(start),
        "endsAt": iso8601(end) if end else "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": fingerprint or "-".join(asked.values()),
    }
