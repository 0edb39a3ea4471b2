"""A scraper's pipeline that obeys the effective config: pure, in simulated time, without any I/O.

Each product field to fill in is a task. One that needs no call is settled at once, by the cache or
the deterministic parser; the others wait in one queue, from which each cycle's batch takes calls.

A config that is safer in any key makes no more calls, whatever the other keys say (of which the
tests search thousands). That is why a task that needs no call takes no place in batch or queue; why
smart batching waits for a time, not for a share of batch_size, which would end the sooner the
smaller the batch; why an answer's age is that of the page it was made from, however long the task
waited; and why the parser's answer for what the queue could not hold counts as one for that page.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from alertmanager.receiver.ladder.effective import config_for

CYCLE_SECONDS = 10.0
SMART_BATCH_SECONDS = 60.0  # how long smart batching gathers at a threshold of 1
ROASTERS = ("blue-tokai", "rumi-dammi", "naivo", "curious-life")
FIELDS = (
    "weight", "roast", "process", "species", "variety", "geographic", "tags", "notes", "sensory",
)  # fmt: skip
PRODUCTS = 80  # of each roaster; seen again and again: a cache hits above the runbook's 70 %
# The list price that the scraper expects, USD a token: only to skip dear requests.
INPUT_USD, OUTPUT_USD = Decimal("0.00000027"), Decimal("0.00000110")
Config = dict[str, Any]
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
        return 1.0 - 0.6 * digest(f"llm {self.roaster} {self.field} {self.product}") ** 2

    @property
    def own_confidence(self) -> float:
        """How sure the deterministic parser is: what ask_below compares."""
        return digest(f"parser {self.roaster} {self.field} {self.product}")


Settled = Iterator[tuple[Task, Outcome]]


@dataclass
class Pipeline:
    """The state between cycles. reading: what confidence_threshold means to this scraper."""

    reading: Literal["accept_above", "ask_below"] = "accept_above"
    waiting: list[Task] = field(default_factory=list)  # for a call, the oldest first
    cache: dict[tuple[str, ...], float] = field(default_factory=dict)  # key: its page's time
    calls: list[float] = field(default_factory=list)  # times of the last day's calls

    def cycle(self, now: float, config: Config, arrived: list[Task]) -> Settled:
        """Settle what this cycle takes of what waits and what arrived; the rest waits on.

        Batch, queue and rate limits are the scraper's; all else is as the task's roaster has it.
        """
        own = {roaster: config_for(config, roaster) for roaster in ROASTERS}
        yield from self._admit(arrived, own)
        settled = list(self._batch(now, config, own))
        yield from settled
        gone = {id(task) for task, _ in settled}
        self.waiting = [task for task in self.waiting if id(task) not in gone]
        if config["enable_request_queuing"]:
            # What a bounded queue cannot hold goes to the parser, the newest first.
            room = int(config["max_queue_size"])
            yield from ((task, "fallback") for task in self.waiting[room:])
            self.waiting = self.waiting[:room]

    def _admit(self, arrived: list[Task], own: dict[str, Config]) -> Settled:
        """Settle at once what needs no call."""
        for task in arrived:
            config = own[task.roaster]
            key: tuple[str, ...] = (task.field, str(task.product))
            if not config["enable_smart_caching"]:  # which shares among roasters that sell it
                key = (task.roaster, *key)
            page = self.cache.get(key) if config["enable_caching"] else None
            if not self._wants_llm(task, config):
                yield task, "fallback"
            elif page is not None and task.at - page < config["cache_ttl_seconds"]:
                yield task, "cached"
            else:
                self.waiting.append(task)
                self.cache[key] = task.at

    def _batch(self, now: float, config: Config, own: dict[str, Config]) -> Settled:
        """Up to batch_size calls, as far as the rate limits let them."""
        left = int(config["batch_size"])
        ready = [task for task in self.waiting if not _gathers(task, now, own[task.roaster])]
        for task in sorted(ready, key=lambda task: _turn(task, own[task.roaster])):
            if not self._wants_llm(task, own[task.roaster]):  # any more
                yield task, "fallback"
            elif left and self._within_limits(now, config):
                left -= 1
                self.calls.append(now)
                yield task, "call"
            else:
                return

    def _wants_llm(self, task: Task, config: Config) -> bool:
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

    def _within_limits(self, now: float, config: Config) -> bool:
        del self.calls[: bisect_right(self.calls, now - 86_400)]
        for key, seconds in (("minute", 60), ("hour", 3600), ("day", 86_400)):
            limit = Decimal(str(config[f"rate_limit_per_{key}"]))
            if config["enable_dynamic_rate_limiting"]:
                limit *= 1 - Decimal(str(config["rate_limit_adjustment_factor"]))
            if len(self.calls) - bisect_right(self.calls, now - seconds) >= int(limit):
                return False
        return True


def _gathers(task: Task, now: float, config: Config) -> bool:
    """Whether smart batching still lets a task wait for others to go out with it."""
    wait = SMART_BATCH_SECONDS * float(config["batch_optimization_threshold"])
    return bool(config["enable_smart_batching"]) and now - task.at < wait


def _turn(task: Task, config: Config) -> tuple[int, float]:
    """Where a task stands in line: by its field where fields have priorities, then by age."""
    order = config["field_priority_order"] if config["enable_field_prioritization"] else []
    return order.index(task.field) if task.field in order else len(order), task.at


def digest(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()) / 2**48
