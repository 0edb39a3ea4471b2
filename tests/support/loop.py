"""The whole loop in a test: real binaries, fed with calls of known cost."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

from command.paths import BUDGET
from command.stack.bundle import Bundle
from command.stack.configs import Ports
from command.stack.processes import Child
from common.clock import iso8601
from common.money import PICODOLLARS_PER_USD
from common.yamlfile import dump, read_document
from tests.support.waiting import until

INTERVAL_SECONDS = 1
LIMIT_USD = Decimal(1)
LIMIT = PICODOLLARS_PER_USD

# DeepSeek's prices in the shipped budget.yml, as pico-dollars a token: the tests' own arithmetic.
INPUT, CACHED_INPUT, OUTPUT = 270_000, 70_000, 1_100_000


@dataclass(frozen=True)
class Call:
    """One call of the trace, with the cached part of its prompt."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

    @property
    def picodollars(self) -> int:
        uncached = self.prompt_tokens - self.cached_tokens
        return (
            uncached * INPUT + self.cached_tokens * CACHED_INPUT + self.completion_tokens * OUTPUT
        )

    @classmethod
    def worth(cls, picodollars: int) -> "Call":
        """The call that costs exactly this much, a multiple of 10,000 pico-dollars.

        270 x + 110 y = n has a solution with 0 <= y < 27 for every n that 10 divides.
        """
        units = picodollars // 10_000
        assert units * 10_000 == picodollars, "not a multiple of 10,000 pico-dollars"
        for output in range(27):
            rest = units - 110 * output
            if rest >= 0 and rest % 27 == 0:
                return cls(rest // 27, 0, output)
        raise AssertionError(f"{picodollars} pico-dollars is too little for this arithmetic")


class Loop:
    """A bundle with a one-dollar budget, and the calls sent into it."""

    def __init__(
        self,
        folder: Path,
        *,
        day_starts_at: str = "00:00",
        hold: str = "3",
        interval: int = INTERVAL_SECONDS,
        receiver_flags: tuple[str, ...] = (),
        caps: dict[str, dict[str, Decimal]] | None = None,
        kind: Callable[..., Bundle] = Bundle,
    ) -> None:
        """interval: seconds between scrapes, and between evaluations. hold: the receiver's.

        caps: of roasters and fields in USD.
        """
        budget = folder / "budget.yml"
        document = read_document(BUDGET)
        document["budget"].update(
            daily_limit_usd=LIMIT_USD, reserve_usd=Decimal("0.2"), day_starts_at=day_starts_at
        )
        document["budget"].update(caps or {})
        budget.write_bytes(dump(document, budget))
        self.bundle = kind(
            folder=folder,
            budget=budget,
            ports=Ports.free(),
            interval=f"{interval}s",
            receiver_flags=("--hold", hold, *receiver_flags),
        )
        self.interval = interval
        self.children: list[Child] = []  # started beside the bundle, ended with it
        self.sent = 0  # pico-dollars acknowledged
        self.calls = 0

    def __enter__(self) -> "Loop":
        self.bundle.start()
        try:
            timeout = 60 + 12 * self.interval
            until(self._wanted_known, timeout, what="evidence in Prometheus")
        except BaseException:
            self.bundle.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for child in reversed(self.children):
            child.stop()
        self.bundle.stop()

    def send(
        self,
        calls: list[Call],
        roaster: str = "blue-tokai",
        field: str = "notes",
        to: str = "exporter",
    ) -> float:
        """Report calls in one request; the monotonic time at which they were acknowledged."""
        events = [self._event(call, roaster, field) for call in calls]
        answer = requests.post(
            f"{self.bundle.url(to)}/v1/usage",
            json=events,
            headers={"Authorization": f"Bearer {self.bundle.token('ingest')}"},
            timeout=30,
        )
        answer.raise_for_status()
        assert answer.json() == {"accepted": len(calls), "duplicate": 0, "rejected": []}
        self.sent += sum(call.picodollars for call in calls)
        return time.monotonic()

    def spend_to(self, picodollars: int, to: str = "exporter") -> float:
        """One more call, so that exactly this much is spent; when it was acknowledged."""
        return self.send([Call.worth(picodollars - self.sent)], to=to)

    def grant(self, usd: str, **more: str) -> None:
        """More money for today, as a person would give it; roaster=: to one alone."""
        self._word("exporter", "grants", amount_usd=usd, yes=True, **more)

    def reset(self) -> None:
        """Today's spend so far is written off."""
        self._word("exporter", "resets")

    def degrade(self, level: str) -> None:
        """A person's floor."""
        self._word("receiver", "override", mode="degrade", level=level)

    def _word(self, service: str, what: str, **body: str | bool) -> None:
        answer = requests.post(
            f"{self.bundle.url(service)}/api/v1/{what}",
            json={"reason": "a test", "author": "test", **body},
            headers={"Authorization": f"Bearer {self.bundle.token('admin')}"},
            timeout=30,
        )
        answer.raise_for_status()

    def audit(self) -> list[dict[str, Any]]:
        """Every change that the receiver put in place, oldest first."""
        lines = (self.bundle.folder / "receiver-state.audit.jsonl").read_bytes().splitlines()
        return [json.loads(line) for line in lines]

    def status(self) -> dict[str, Any]:
        return self.get("exporter", "/api/v1/status")

    def state(self) -> dict[str, Any]:
        return self.get("receiver", "/state")

    def level(self) -> str:
        return str(self.state()["level"])

    def wait_level(self, level: str, timeout: float = 30.0) -> float:
        """Wait until the receiver says so; the monotonic time at which it was seen."""
        until(lambda: self.level() == level, timeout, what=f"level {level}", every=0.01)
        return time.monotonic()

    def effective(self) -> Any:
        """The effective config file's content, decimals as Decimal."""
        return read_document(self.bundle.effective)

    def firing(self) -> set[str]:
        """Names of the alerts that Alertmanager holds."""
        alerts = self.get("alertmanager", "/api/v2/alerts")
        return {alert["labels"]["alertname"] for alert in alerts}

    def unwell(self) -> list[str]:
        """Names of the rules whose last evaluation failed."""
        groups = self.get("prometheus", "/api/v1/rules")["data"]["groups"]
        return [rule["name"] for one in groups for rule in one["rules"] if rule["health"] == "err"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant query's vector."""
        answer = requests.get(
            f"{self.bundle.url('prometheus')}/api/v1/query", {"query": expression}, timeout=10
        )
        answer.raise_for_status()
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return result

    def get(self, service: str, path: str) -> Any:
        answer = requests.get(self.bundle.url(service) + path, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def _wanted_known(self) -> bool:
        return bool(self.query("llm_degradation_wanted"))

    def _event(self, call: Call, roaster: str, field: str) -> dict[str, Any]:
        self.calls += 1
        return {
            "id": f"chatcmpl-{self.calls}",
            "time": iso8601(time.time()),
            "roaster": roaster,
            "field": field,
            "model": "deepseek-chat",
            "outcome": "success",
            "usage": {
                "prompt_tokens": call.prompt_tokens,
                "completion_tokens": call.completion_tokens,
                "prompt_cache_hit_tokens": call.cached_tokens,
            },
        }


def batches(calls: list[Call], size: int) -> Iterator[list[Call]]:
    """Slices of at most size calls."""
    for start in range(0, len(calls), size):
        yield calls[start : start + size]
