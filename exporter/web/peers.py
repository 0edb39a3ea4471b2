"""What receiver and Prometheus tell the status page: asked briefly, once for all viewers."""

import asyncio
import time
from typing import Any, TypeVar

from msgspec import Struct
from starlette.concurrency import run_in_threadpool

from common import names
from common.errors import UserError
from common.fetch import fetch
from common.money import MAX_USD

BOUNDS: dict[str, Any] = {"timeout": 2.0, "max_bytes": 1 << 20}
KEEP_SECONDS = 4.0
_RECORDS = (
    names.FORECAST, names.FORECAST_LOW, names.FORECAST_HIGH, names.EXHAUSTION, names.THRESHOLD,
    names.RULES_DAY, names.UTILIZATION, names.REMAINING, names.LIMIT,
)  # fmt: skip
QUERY = (
    f'{{__name__=~"{"|".join(_RECORDS)}"}} or count({names.LEDGER_SPEND_TODAY}) or '
    'topk(100, ALERTS{alertstate="firing",severity!="none"})'
)
T = TypeVar("T")


class Receiver(Struct):
    """What the page reads of the receiver's /state."""

    level: str
    tunings: list[str] = []
    override: dict[str, Any] | None = None
    holds: list[dict[str, Any]] = []
    shadow: bool = False
    problems: dict[str, str] = {}
    changes: list[tuple[str, Any, Any]] = []  # a key, its value in the baseline and in force


class Sample(Struct):
    """One of Prometheus'; value: at which time, and the number."""

    metric: dict[str, str]
    value: tuple[float, float]


class _Data(Struct):
    result: list[Sample]


class _Vector(Struct):
    data: _Data


class Said:
    """Prometheus' samples and the receiver's state; problems: by who gives no answer, why."""

    def __init__(self) -> None:
        self.receiver: Receiver | None = None
        self.samples: list[Sample] = []
        self.problems: dict[str, str] = {}

    def values(self, name: str, label: str = "__name__") -> dict[str, float]:
        """A record's values by a label; those that are no amount are left out."""
        found = (one for one in self.samples if one.metric.get("__name__", "") == name)
        amounts = ((one.metric.get(label, ""), one.value[1]) for one in found)
        return {value: amount for value, amount in amounts if abs(amount) <= MAX_USD}

    def value(self, name: str) -> float | None:
        return self.values(name).get(name)


class Peers:
    """Asks them when a page is shown, but not again while their last answer is new."""

    def __init__(self, receiver: str = "", prometheus: str = "") -> None:
        """Base URLs; an empty one is not asked."""
        self._receiver, self._prometheus = receiver.rstrip("/"), prometheus.rstrip("/")
        self._lock, self._said, self._until = asyncio.Lock(), Said(), 0.0
        self._thresholds: dict[str, float] = {}

    async def ask(self) -> tuple[Said, dict[str, float]]:
        """Their answers, and the thresholds that Prometheus told last."""
        async with self._lock:
            if time.monotonic() >= self._until:
                self._said = said = Said()
                said.receiver, vector = await asyncio.gather(
                    self._get(said, "receiver", self._receiver, "/state", Receiver),
                    self._get(said, "Prometheus", self._prometheus, "/api/v1/query", _Vector),
                )
                said.samples = vector.data.result if vector else []
                told = said.values(names.THRESHOLD, "threshold")
                self._thresholds = told or self._thresholds
                self._until = time.monotonic() + KEEP_SECONDS
            return self._said, self._thresholds

    async def _get(self, said: Said, who: str, url: str, path: str, kind: type[T]) -> T | None:
        def get() -> T:
            return fetch(url + path, params={"query": QUERY}, **BOUNDS).decode(kind, strict=False)

        try:
            return await run_in_threadpool(get) if url else None
        except UserError as error:
            said.problems[who] = str(error)
            return None
