"""Since when the level is in force and what it saves: a line of `llm-budget status`."""

from collections.abc import Iterator
from typing import Any

from command.remote import call
from common import names


def effect_of(level: str, receiver: str, prometheus: str) -> Iterator[tuple[str, Any]]:
    """since, RFC 3339; because: by which alerts; cost, calls: -0.58 is 58 % fewer; not_judged: why.

    Raises UserError.
    """
    history = call("receiver", receiver, "/api/v1/history", params={"limit": "1000"})
    moves = [change for change in history["changes"] if change["from"] != change["level"]]
    if moves and moves[-1]["level"] == level:
        yield "since", moves[-1]["time"]
        yield "because", ", ".join(moves[-1]["alerts"]) or moves[-1]["why"]
    query = {"query": f"{names.EFFECT} or {names.EFFECT_UNJUDGED}"}
    answer = call("Prometheus server", prometheus, "/api/v1/query", params=query)
    yield "not_judged", "yet"
    for sample in answer["data"]["result"]:
        metric, (_, value) = sample["metric"], sample["value"]
        if metric.get("entry") == level:
            yield metric.get("of", "not_judged"), metric.get("reason") or float(value) - 1


def sentence(effect: dict[str, Any]) -> str:
    """What follows the level's name: " since 2026-11-24T14:02Z (LLMBudgetWarning): -58% calls"."""
    shown = (("cost", "cost a minute"), ("calls", "calls"))
    parts = [f"{effect[key]:+.0%} {what}" for key, what in shown if key in effect]
    if "calls" not in effect and "not_judged" in effect:
        parts.append(f"calls not judged ({effect['not_judged'].replace('_', ' ')})")
    because = f" ({effect['because']})" if effect.get("because") else ""
    since = f" since {effect['since'][:16]}Z{because}" if "since" in effect else ""
    return since + (f": {', '.join(parts)}" if parts else "")
