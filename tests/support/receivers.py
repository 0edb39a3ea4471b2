"""A receiver in a test: in process, on a manual clock, without peers unless given some."""

import json
from pathlib import Path
from typing import Any

import yaml
from starlette.testclient import TestClient

from alertmanager.receiver.app import Tokens, Web
from alertmanager.receiver.audit import Audit
from alertmanager.receiver.configs import Configs
from alertmanager.receiver.controller import Controller
from alertmanager.receiver.evidence.observations import Seen
from alertmanager.receiver.evidence.sources import Sources
from alertmanager.receiver.hooks import Hooks
from alertmanager.receiver.metrics import Metrics
from alertmanager.receiver.store import Store
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
        self.metrics = Metrics()
        self.failures: list[tuple[str, str]] = []
        self.configs = Configs(ladder, baseline, self.file)
        self.hooks = Hooks(lambda *what: self.failures.append(what), lambda _: None)
        audit = Audit(folder / "audit.jsonl")
        state = folder / "state.json"
        self.store = Store(
            self.configs, state, audit, self.hooks, self.metrics, self.clock, shadow=shadow
        )
        sources = Sources(lambda: self.configs.ladder, self.clock, [], [], [])
        sources.can_confirm = not alone
        self.controller = Controller(self.store, sources, self.clock, self.metrics, 600)
        app = Web(self.controller, Tokens(WEBHOOK, ADMIN), []).app()
        self.http = TestClient(app, base_url="http://127.0.0.1")

    def close(self) -> None:
        self.hooks.close()

    def see(self, seen: Seen) -> None:
        """One round in which the sources say this."""
        self.controller.sources.ask = lambda: seen  # type: ignore[method-assign]
        self.controller.reconcile()

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "audit.jsonl").open()]

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

    def post(self, path: str, body: Any, token: str = WEBHOOK) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post(path, content=content, headers={"Authorization": f"Bearer {token}"})

    def effective(self) -> Any:
        return yaml.safe_load(self.file.read_text())

    def level(self) -> str:
        return str(self.http.get("/state").json()["level"])

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


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
