"""The ladder's shape, for any baseline: pure, idempotent, monotone, inside the schema."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from decimal import Decimal
from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from alertmanager.receiver.ladder.effective import config_for, effective, merge
from alertmanager.receiver.ladder.ladder import Ladder
from demo.pipeline import FIELDS, ROASTERS, Task
from tests.support.examples import examples
from tests.support.ladders import shipped_baseline, shipped_ladder
from tests.support.replays import replay

BASELINE = shipped_baseline()
READINGS = ("accept_above", "ask_below")
LEVELS = shipped_ladder().names
TUNINGS = (
    "prompt_trim", "smart_cache", "batch_up", "field_threshold/notes", "field_threshold/weight",
    "roaster/naivo", "roaster/blue-tokai", "roaster_stop/naivo", "field_stop/notes",
)  # fmt: skip

ratio = st.decimals(0, 1, places=2)
flags = {key: st.booleans() for key, value in BASELINE.items() if isinstance(value, bool)}
field_config = st.fixed_dictionaries({"enabled": st.booleans(), "confidence_threshold": ratio})
overrides = st.fixed_dictionaries(
    {},
    optional={
        "batch_size": st.integers(1, 40),
        "enabled": st.booleans(),
        "field_configs": st.dictionaries(st.sampled_from(FIELDS), field_config, max_size=2),
    },
)
baselines = st.fixed_dictionaries(
    {
        **flags,
        "batch_size": st.integers(1, 40),
        "rate_limit_per_minute": st.integers(1, 200),
        "cache_ttl_seconds": st.integers(0, 20_000),
        "max_queue_size": st.integers(0, 300),
        "rate_limit_adjustment_factor": ratio,
        "cost_threshold_per_request": st.decimals(0, 2, places=3),
        "batch_optimization_threshold": ratio,
        "fallback_threshold": ratio,
        "daily_budget_limit": st.decimals(1, 500, places=1),
        "field_configs": st.fixed_dictionaries(dict.fromkeys(FIELDS, field_config)),
        "roasters": st.dictionaries(st.sampled_from(ROASTERS), overrides, max_size=2),
    }
).map(lambda changes: merge(BASELINE, changes))
ladders = st.builds(
    lambda reading, keys: shipped_ladder(confidence_threshold=reading, extra_keys=keys),
    st.sampled_from(READINGS),
    st.sampled_from(("allow", "drop")),
)
chosen = st.lists(st.sampled_from(TUNINGS), unique=True)


@given(baselines, ladders, st.lists(st.tuples(st.sampled_from(LEVELS), chosen), min_size=1))
def test_the_way_does_not_matter_only_where_it_ends(
    baseline: dict[str, Any], ladder: Ladder, path: list[tuple[str, list[str]]]
) -> None:
    before = deepcopy(baseline)
    documents = [effective(ladder, baseline, level, tunings).document for level, tunings in path]
    level, tunings = path[-1]
    assert documents[-1] == effective(ladder, deepcopy(before), level, tunings).document
    assert baseline == before
    assert effective(ladder, baseline, "none").document == before


@given(baselines, ladders, st.sampled_from(LEVELS), chosen, st.randoms())
def test_the_order_of_tunings_is_irrelevant(
    baseline: dict[str, Any], ladder: Ladder, level: str, tunings: list[str], rng: Any
) -> None:
    shuffled = [*tunings, *tunings[:1]]  # and twice the same is once
    rng.shuffle(shuffled)
    first = effective(ladder, baseline, level, tunings)
    assert effective(ladder, baseline, level, shuffled) == first


def shape(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every key path with the kind of what stands there, roasters' overrides aside."""
    if isinstance(value, dict):
        for key, item in value.items():
            if (path, key) != ("", "roasters"):
                yield from shape(item, f"{path}.{key}")
    else:
        kinds = {bool: "switch", int: "number", Decimal: "number"}
        yield path, kinds.get(type(value), type(value).__name__)


@given(baselines, ladders, st.sampled_from(LEVELS), chosen)
def test_the_effective_config_has_the_baselines_schema(
    baseline: dict[str, Any], ladder: Ladder, level: str, tunings: list[str]
) -> None:
    document = effective(ladder, baseline, level, tunings).document
    assert set(shape(document)) == set(shape(baseline))
    for roaster in ROASTERS:
        mine, was = config_for(document, roaster), config_for(baseline, roaster)
        assert set(shape(mine)) == set(shape(was))
        for name in FIELDS:
            threshold = mine["field_configs"][name]["confidence_threshold"]
            assert 0 <= threshold <= 1
            assert mine["field_configs"][name]["enabled"] <= was["field_configs"][name]["enabled"]


@settings(max_examples=examples(100))
@given(baselines, ladders, st.sampled_from(LEVELS), chosen, st.sampled_from(ROASTERS))
def test_a_cap_changes_no_other_roasters_config(
    baseline: dict[str, Any], ladder: Ladder, level: str, tunings: list[str], capped: str
) -> None:
    others = [one for one in tunings if not one.endswith(f"/{capped}")]
    before = effective(ladder, baseline, level, others).document
    for own, at_least in ((["roaster"], "control"), (["roaster", "roaster_stop"], "fallback")):
        entries = [*others, *(f"{name}/{capped}" for name in own)]
        after = effective(ladder, baseline, level, entries).document
        for roaster in {*ROASTERS, "unheard-of"} - {capped}:
            assert config_for(after, roaster) == config_for(before, roaster)
        most = max(level, at_least, key=ladder.rank)
        alone = effective(ladder, baseline, most, others).document
        assert config_for(after, capped) == config_for(alone, capped)


TASKS = [
    Task(
        at=number * 3.0,
        roaster=ROASTERS[number % 4],
        field=FIELDS[number // 4 % 9],
        product=number * 7 % 40,
        prompt_tokens=300 + 997 * number % 180_000,
        completion_tokens=40,
    )
    for number in range(400)
]


def found(*tunings: str, reading: str = READINGS[0], **changes: Any) -> Callable[[Any], Any]:
    """A baseline with which a level made more calls than the one below, before it was mended."""
    return example(baseline=merge(BASELINE, changes), reading=reading, tunings=list(tunings))


def off(*names: str) -> dict[str, Any]:
    return {name: {"enabled": False} for name in names}


def thresholds(**values: str) -> dict[str, Any]:
    return {name: {"confidence_threshold": Decimal(value)} for name, value in values.items()}


def dynamic(factor: str) -> dict[str, Any]:
    return {"enable_dynamic_rate_limiting": True, "rate_limit_adjustment_factor": Decimal(factor)}


def queue(size: int) -> dict[str, Any]:
    return {"enable_request_queuing": True, "max_queue_size": size}


SMART = {"enable_smart_batching": True}
CHEAP = {"enable_cost_aware_processing": True, "cost_threshold_per_request": Decimal("0.018")}
OFF = off(*(name for name in FIELDS if name != "sensory"))
LOW = thresholds(geographic="0.50", tags="0.59", notes="0.36", sensory="0.23")
FEW = off("process", "species", "variety", "notes")


# The ladder lowered a factor; then, how the scraper queues, batches and caches.
@found(**dynamic("0.51"), rate_limit_per_minute=2)
@found(rate_limit_per_minute=2)
@found(**SMART, batch_optimization_threshold=1, rate_limit_per_minute=2)
@found(**queue(0), batch_size=2, rate_limit_per_minute=2, field_configs=OFF)
@found(enable_caching=True, cache_ttl_seconds=1100)
@found(**queue(5), **dynamic("0.23"), rate_limit_per_minute=10)
@found("roaster/blue-tokai", "roaster/naivo", reading="ask_below", max_queue_size=0,
       rate_limit_per_minute=4, field_configs=FEW)  # fmt: skip
@found("roaster/blue-tokai", batch_size=2, max_queue_size=18)
@found(**queue(24), **dynamic("0.12"), **SMART, **CHEAP, rate_limit_per_minute=7,
       enable_caching=True, field_configs=LOW)  # fmt: skip
@settings(max_examples=examples(25))
@given(baselines, st.sampled_from(READINGS), chosen)
def test_a_higher_level_makes_no_more_calls_whatever_the_baseline(
    baseline: dict[str, Any], reading: str, tunings: list[str]
) -> None:
    ladder = shipped_ladder(confidence_threshold=reading)
    counts = []
    for level in LEVELS:
        config = effective(ladder, baseline, level, tunings).document
        counts.append(len(replay(config, TASKS, hours=0.5, reading=reading)[0]))
    assert all(higher <= lower for lower, higher in pairwise(counts)), counts
    assert counts[-1] == 0
