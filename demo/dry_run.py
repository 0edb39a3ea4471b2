"""The simulated scraper reads its catalogue once, without a provider: for `llm-budget rehearse`.

Each field of each product comes once, one a cycle, so that neither cache nor rate limit hides what
the rest of a level does. A call uses the trace's tokens: runs with one config cost the same.
"""

import sys
from dataclasses import replace

from demo.pipeline import CYCLE_SECONDS, Pipeline
from demo.trace import read_trace
from sdk.client import current, record

TASKS = 500


def main() -> None:
    """Reads LLM_BUDGET_EFFECTIVE, writes LLM_BUDGET_SPOOL."""
    config = current() or sys.exit("dry_run: LLM_BUDGET_EFFECTIVE names no config")
    pipeline = Pipeline("ask_below")
    once = {(task.roaster, task.field, task.product): task for task in read_trace()}
    tasks = [*once.values()][:TASKS]
    for cycle in range(2 * TASKS):  # the later ones for what still waits
        now = cycle * CYCLE_SECONDS
        arrived = [replace(task, at=now) for task in tasks[cycle : cycle + 1]]
        for task, outcome in pipeline.cycle(now, config, arrived):
            prompt, completion = task.prompt_tokens, task.completion_tokens
            usage = {"prompt_tokens": prompt, "completion_tokens": completion}
            more = {"usage": usage} if outcome == "call" else {"outcome": outcome}
            record(task.roaster, task.field, model=config["model"], **more)


if __name__ == "__main__":
    main()
