"""A scraper's pipeline that obeys the effective config: pure, in simulated time, without any I/O.

Each product field to fill in is a task. In every cycle a roaster's pipeline takes up to batch_size
tasks from its backlog and settles each: from the cache, by the LLM, or by the deterministic parser.
"""

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from alertmanager.receiver.ladder.effective import config_for
from demo.trace import TraceCall

CYCLE_SECONDS = 10.0
SMART_BATCH_CYCLES = 6  # smart batching waits at most so many cycles for a full batch
ROASTERS = ("blue-tokai", "rumi-dammi", "naivo", "curious-life")
FIELDS = (
    "weight", "roast", "process", "species", "variety", "geographic", "tags", "notes", "sensory",
)  # fmt: skip
PRODUCTS = 400  # of each roaster; seen again and again, so that a cache can hit
# The list price that the scraper expects, USD a token: only to skip dear requests.
INPUT_USD, OUTPUT_USD = Decimal("0.00000027"), Decimal("0.00000110")
Outcome = Literal["call", "cached", "fallback"]


@dataclass(frozen=True)
class Task:
    """One field of one product, with what the LLM would need for it."""

    at: float
    roaster: str
    field: str
    product: int
    prompt_tokens: int
    completion_tokens: int

    @property
    def expected_confidence(self) -> float:
        """How sure the LLM would be (0 to 1): what accept_above compares."""
        return 1.0 - 0.6 * _fraction(self, "llm") ** 2

    @property
    def own_confidence(self) -> float:
        """How sure the deterministic parser is: what ask_below compares."""
        return _fraction(self, "parser")


@dataclass
class Pipeline:
    """The state between cycles. reading: what confidence_threshold means to this scraper."""

    reading: Literal["accept_above", "ask_below"] = "accept_above"
    backlog: dict[str, deque[Task]] = field(default_factory=dict)
    cache: dict[tuple[str, ...], float] = field(default_factory=dict)  # key: stored at
    calls: deque[float] = field(default_factory=deque)  # times of the last day's calls
    waited: dict[str, int] = field(default_factory=dict)

    def arrive(self, task: Task) -> None:
        """A product field to fill in."""
        self.backlog.setdefault(task.roaster, deque()).append(task)

    def cycle(self, now: float, config: dict[str, Any]) -> Iterator[tuple[Task, Outcome]]:
        """Settle what this cycle takes; what stays waits for a later one."""
        for roaster in sorted(self.backlog):
            yield from self._cycle_roaster(now, roaster, config_for(config, roaster))

    def _cycle_roaster(
        self, now: float, roaster: str, config: dict[str, Any]
    ) -> Iterator[tuple[Task, Outcome]]:
        waiting = self._prioritized(self.backlog[roaster], config)
        for task in self._batch(roaster, waiting, config):
            outcome = self._settle(now, task, config)
            if outcome is None:  # over the rate limit: wait
                waiting.appendleft(task)
                break
            yield task, outcome
        for task in self._overflow(waiting, config):
            yield task, "fallback"
        self.backlog[roaster] = waiting

    def _batch(self, roaster: str, waiting: deque[Task], config: dict[str, Any]) -> Iterator[Task]:
        size = int(config["batch_size"])
        if config["enable_smart_batching"]:
            full = len(waiting) >= size * config["batch_optimization_threshold"]
            waited = self.waited.get(roaster, 0)
            if not full and waited < SMART_BATCH_CYCLES:
                self.waited[roaster] = waited + 1
                return
            self.waited[roaster] = 0
        for _ in range(min(size, len(waiting))):
            yield waiting.popleft()

    def _settle(self, now: float, task: Task, config: dict[str, Any]) -> Outcome | None:
        if not self._wants_llm(task, config):
            return "fallback"
        key = _cache_key(task, config)
        if config["enable_caching"]:
            stored = self.cache.get(key)
            if stored is not None and now - stored < config["cache_ttl_seconds"]:
                return "cached"
        if not self._within_limits(now, config):
            return None
        self.calls.append(now)
        self.cache[key] = now
        return "call"

    def _wants_llm(self, task: Task, config: dict[str, Any]) -> bool:
        field_config = config["field_configs"][task.field]
        if not (config["enabled"] and field_config["enabled"]):
            return False
        if config["enable_cost_aware_processing"]:
            cost = task.prompt_tokens * INPUT_USD + task.completion_tokens * OUTPUT_USD
            if cost > Decimal(str(config["cost_threshold_per_request"])):
                return False
        graceful = config["enable_graceful_degradation"] and config["fallback_to_deterministic"]
        if graceful and task.expected_confidence < config["fallback_threshold"]:
            return False
        threshold = float(field_config["confidence_threshold"])
        if self.reading == "ask_below":
            return task.own_confidence < threshold
        return task.expected_confidence >= threshold

    def _within_limits(self, now: float, config: dict[str, Any]) -> bool:
        while self.calls and self.calls[0] <= now - 86_400:
            self.calls.popleft()
        for key, seconds in (("minute", 60), ("hour", 3600), ("day", 86_400)):
            limit = Decimal(str(config[f"rate_limit_per_{key}"]))
            if config["enable_dynamic_rate_limiting"]:
                limit *= 1 - Decimal(str(config["rate_limit_adjustment_factor"]))
            recent = 0
            for call in reversed(self.calls):
                if call <= now - seconds:
                    break
                recent += 1
            if recent >= int(limit):
                return False
        return True

    @staticmethod
    def _prioritized(waiting: deque[Task], config: dict[str, Any]) -> deque[Task]:
        if not config["enable_field_prioritization"]:
            return waiting
        order = {name: place for place, name in enumerate(config["field_priority_order"])}
        return deque(sorted(waiting, key=lambda task: (order.get(task.field, 99), task.at)))

    @staticmethod
    def _overflow(waiting: deque[Task], config: dict[str, Any]) -> Iterator[Task]:
        """What a bounded queue cannot hold goes to the parser, the last in line first."""
        if config["enable_request_queuing"]:
            while len(waiting) > config["max_queue_size"]:
                yield waiting.pop()


def tasks_of(trace: list[TraceCall]) -> list[Task]:
    """The trace spread over roasters, fields and products, the same each time."""
    return [
        Task(
            call.seconds,
            ROASTERS[index % len(ROASTERS)],
            FIELDS[index // len(ROASTERS) % len(FIELDS)],
            int(_digest(f"{call.prompt_tokens} {index % 7}") * PRODUCTS),
            call.prompt_tokens,
            call.completion_tokens,
        )
        for index, call in enumerate(trace)
    ]


def _cache_key(task: Task, config: dict[str, Any]) -> tuple[str, ...]:
    """Smart caching shares one product's answer among roasters that sell it."""
    shared = (task.field, str(task.product))
    return shared if config["enable_smart_caching"] else (task.roaster, *shared)


def _fraction(task: Task, what: str) -> float:
    return _digest(f"{what} {task.roaster} {task.field} {task.product}")


def _digest(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()) / 2**48
