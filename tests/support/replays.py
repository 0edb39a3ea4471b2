"""The simulated scraper's pipeline run over tasks with one config."""

from collections import Counter
from typing import Any

from demo.pipeline import CYCLE_SECONDS, Pipeline, Task


def replay(
    config: dict[str, Any], tasks: list[Task], hours: float = 2.0, reading: str = "accept_above"
) -> tuple[list[float], Counter[str], list[tuple[Task, str]]]:
    """Times of the calls, outcomes counted, and what became of each task, in order."""
    pipeline = Pipeline(reading)  # type: ignore[arg-type]
    calls, log, position = [], [], 0
    for cycle in range(1, int(hours * 3600 / CYCLE_SECONDS) + 1):
        now = cycle * CYCLE_SECONDS
        arrived = []
        while position < len(tasks) and tasks[position].at <= now:
            arrived.append(tasks[position])
            position += 1
        for task, outcome in pipeline.cycle(now, config, arrived):
            log.append((task, outcome))
            if outcome == "call":
                calls.append(now)
    return calls, Counter(outcome for _, outcome in log), log
