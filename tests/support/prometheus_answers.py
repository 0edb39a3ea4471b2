"""What a Prometheus answers to the receiver, as JSON documents."""

from collections.abc import Mapping, Sequence
from typing import Any

from common.clock import iso8601

NOW = 1_800_000_000.0
CONTROL = {"degradation": "control"}


def rule(level: str = "control", age: float = 0.5, **changes: Any) -> dict[str, Any]:
    return {
        "name": "X",
        "type": "alerting",
        "health": "ok",
        "lastEvaluation": iso8601(NOW - age),
        "labels": {"degradation": level, "severity": "warning"},
        "alerts": [],
        **changes,
    }


def rules(*found: dict[str, Any], interval: float = 5) -> dict[str, Any]:
    group = {"name": "budget", "interval": interval, "rules": list(found)}
    return {"status": "success", "data": {"groups": [group]}}


def facts(
    age: float = 0.5,
    *,
    day: float = NOW - 3600,
    live: str = "aa",
    spent: str = "aa bb",
    epochs: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """What the rules record besides, so long ago: the day's start, ledgers by their names."""
    rows = [({"fact": "day"}, day), ({"fact": "day_at"}, NOW - age)]
    rows += [({"fact": "live", "ledger": ledger}, NOW - age) for ledger in live.split()]
    rows += [({"fact": "spent", "ledger": ledger}, NOW - age) for ledger in spent.split()]
    for ledger, epoch in (epochs or {}).items():
        own = {"ledger": ledger}
        rows += [({"fact": "epoch", **own}, epoch), ({"fact": "epoch_at", **own}, NOW - age)]
    return [{"metric": labels, "value": [NOW, str(value)]} for labels, value in rows]


def wanted(
    *samples: tuple[dict[str, str], int, float], facts: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    result = [
        {"metric": {**labels, "wanted": str(value)}, "value": [NOW, str(NOW - age)]}
        for labels, value, age in samples
    ]
    return {"status": "success", "data": {"resultType": "vector", "result": [*result, *facts]}}


def all_rules(**changes: Any) -> dict[str, Any]:
    """A rule for each level and automatic tuning."""
    levels = ("conserve", "control", "emergency", "fallback")
    tunings = ("roaster", "roaster_stop", "field_stop")
    tuned = (rule(labels={"tuning": tuning}) for tuning in tunings)
    return rules(*map(rule, levels), *tuned, **changes)


def nothing_wanted(facts: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    levels = ("conserve", "control", "emergency", "fallback")
    return wanted(*(({"degradation": level}, 0, 1.0) for level in levels), facts=facts)
