"""The simulated scraper obeys: every key the ladder sets matters, and a higher level calls less."""

from itertools import pairwise
from typing import Any

import pytest

from alertmanager.receiver.ladder.effective import effective, merge
from demo.pipeline import Task
from demo.trace import read_trace
from tests.support.ladders import shipped_baseline, shipped_ladder
from tests.support.replays import replay

TASKS = read_trace()
READINGS = ("accept_above", "ask_below")
# Not the scraper's to act on: it informs (docs/degradation.md).
INFORMS = {"daily_budget_limit"}


def level_config(level: str, reading: str = "accept_above") -> dict[str, Any]:
    ladder = shipped_ladder(confidence_threshold=reading)
    return effective(ladder, shipped_baseline(), level).document


@pytest.mark.parametrize("reading", READINGS)
def test_a_higher_level_never_makes_more_calls_at_any_time_of_the_trace(reading: str) -> None:
    counts = []
    for level in shipped_ladder().names:
        calls, _, log = replay(level_config(level, reading), TASKS, reading=reading)
        assert len({id(task) for task, _ in log}) == len(log), "a task was settled twice"
        counts.append([sum(call <= minute * 60 for call in calls) for minute in range(1, 121)])
    for lower, higher in pairwise(counts):
        assert all(fewer <= more for fewer, more in zip(higher, lower, strict=True))
    finals = [count[-1] for count in counts]
    assert finals[0] > finals[1] > finals[2] > finals[3] > finals[4] == 0


def task(at: float = 0.0, product: int = 1, field: str = "notes", **changes: Any) -> Task:
    values = {"roaster": "blue-tokai", "prompt_tokens": 500, "completion_tokens": 50} | changes
    return Task(at=at, product=product, field=field, **values)


def many(count: int = 400) -> list[Task]:
    fields = ("sensory", "notes", "tags", "weight")
    return [task(at=i / 10, product=i % 60, field=fields[i % 4]) for i in range(count)]


DEAR = [task(at=i, product=i, prompt_tokens=250_000) for i in range(20)]
ON = {"enable_graceful_degradation": True, "fallback_to_deterministic": True}
QUEUE = {"enable_request_queuing": True}
DYNAMIC = {"enable_dynamic_rate_limiting": True}
SMART = {"enable_smart_batching": True}
FIRST = {"enable_field_prioritization": True, "field_priority_order": ["weight", "tags"]}


@pytest.mark.parametrize(
    ("key", "given", "change", "tasks"),
    [
        ("enabled", {}, {"enabled": False}, many()),
        ("rate_limit_per_minute", {}, {"rate_limit_per_minute": 30}, many()),
        ("batch_size", {"rate_limit_per_minute": 600}, {"batch_size": 5}, many()),
        ("enable_caching", {"rate_limit_per_minute": 600}, {"enable_caching": True}, many()),
        (
            "cache_ttl_seconds",
            {"enable_caching": True, "cache_ttl_seconds": 20},
            {"cache_ttl_seconds": 7200},
            many(),
        ),
        ("enable_request_queuing", {"max_queue_size": 10}, QUEUE, many()),
        ("max_queue_size", QUEUE, {"max_queue_size": 10}, many()),
        ("enable_dynamic_rate_limiting", {"rate_limit_adjustment_factor": 0.1}, DYNAMIC, many()),
        ("rate_limit_adjustment_factor", DYNAMIC, {"rate_limit_adjustment_factor": 0.5}, many()),
        (
            "enable_cost_aware_processing",
            {"cost_threshold_per_request": 0.05},
            {"enable_cost_aware_processing": True},
            DEAR,
        ),
        (
            "cost_threshold_per_request",
            {"enable_cost_aware_processing": True},
            {"cost_threshold_per_request": 0.05},
            DEAR,
        ),
        ("enable_smart_batching", {"batch_optimization_threshold": 0.8}, SMART, many(12)),
        ("batch_optimization_threshold", SMART, {"batch_optimization_threshold": 1.0}, many(9)),
        ("enable_field_prioritization", {"field_priority_order": ["weight"]}, FIRST, many()),
        ("field_priority_order", FIRST, {"field_priority_order": ["sensory", "notes"]}, many()),
        ("enable_graceful_degradation", {**ON, "enable_graceful_degradation": False}, ON, many()),
        ("fallback_to_deterministic", {**ON, "fallback_to_deterministic": False}, ON, many()),
        ("fallback_threshold", ON, {"fallback_threshold": 0.9}, many()),
        ("field_configs", {}, {"field_configs": {"notes": {"enabled": False}}}, many()),
        ("field_configs", {}, {"field_configs": {"notes": {"confidence_threshold": 0.95}}}, many()),
    ],
)
def test_a_key_changes_what_the_scraper_does(
    key: str, given: dict[str, Any], change: dict[str, Any], tasks: list[Task]
) -> None:
    low = {"fallback_threshold": 0.75} if "graceful" in key or "determin" in key else {}
    zero = {name: {"confidence_threshold": 0.0} for name in shipped_baseline()["field_configs"]}
    base = merge(shipped_baseline(), {"field_configs": zero, **low, **given})
    before = replay(base, tasks, hours=0.1)
    after = replay(merge(base, change), tasks, hours=0.1)
    assert before[2] != after[2] or before[0] != after[0], key


@pytest.mark.parametrize("reading", READINGS)
def test_the_threshold_means_what_the_ladder_says_it_means(reading: str) -> None:
    """Strictly fewer calls with the ladder's own change of the thresholds, in both readings."""
    base = shipped_baseline()
    degraded = level_config("emergency", reading)
    only_thresholds = merge(
        base,
        {
            "field_configs": {
                name: {
                    "confidence_threshold": degraded["field_configs"][name]["confidence_threshold"]
                }
                for name in base["field_configs"]
            }
        },
    )
    tasks = [task(at=i * 10.0, product=i, field="weight") for i in range(300)]
    before = replay(base, tasks, hours=1, reading=reading)
    after = replay(only_thresholds, tasks, hours=1, reading=reading)
    assert len(after[0]) < len(before[0])


def test_every_key_that_the_ladder_sets_is_proven_above() -> None:
    ladder = shipped_ladder()
    changed = {step.path[0] for level in ladder.levels for step in level.steps}
    marks = test_a_key_changes_what_the_scraper_does.pytestmark  # type: ignore[attr-defined]
    proven = {case[0] for case in marks[0].args[1]}
    assert changed - INFORMS == proven


def test_a_roasters_override_is_obeyed_for_that_roaster() -> None:
    config = merge(shipped_baseline(), {"roasters": {"naivo": {"enabled": False}}})
    tasks = [task(product=i, roaster=r) for i in range(50) for r in ("naivo", "blue-tokai")]
    called = {t.roaster for t, outcome in replay(config, tasks, hours=0.1)[2] if outcome == "call"}
    assert called == {"blue-tokai"}
