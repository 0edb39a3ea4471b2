"""The simulated scraper: replays the trace again and again, obeys the config, reports its usage.

It does so as any scraper may: through sdk/client.py, whose spool it delivers by HTTP (with
--exporter, and its token in LLM_BUDGET_INGEST_TOKEN_FILE) or leaves to an exporter that follows it
(--spool alone).
"""

import argparse
import contextlib
import itertools
import logging
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

from common.fetch import FetchError, fetch
from demo.pipeline import CYCLE_SECONDS, Outcome, Pipeline, Task
from demo.trace import read_trace
from sdk.client import Client
from sdk.client_delivery import DeliveryError, deliver

WORKERS = 8
MODEL = "deepseek-chat"


def arrivals() -> Iterator[Task]:
    """The trace's tasks as they arrive, again and again."""
    tasks = read_trace()
    length = tasks[-1].at + CYCLE_SECONDS
    for lap in itertools.count():
        for task in tasks:
            yield replace(task, at=task.at + lap * length)


@dataclass
class Scraper:
    """Cycles of the pipeline in simulated time; calls in parallel."""

    provider: str  # its URL
    speed: float
    client: Client
    stopped: Event = field(default_factory=Event)

    def run(self) -> None:
        pipeline, coming, started = Pipeline(), arrivals(), time.monotonic()
        task, arrived = next(coming), list[Task]()
        with ThreadPoolExecutor(WORKERS) as pool:
            for cycle in itertools.count(1):
                due = started + (cycle - 1) * CYCLE_SECONDS / self.speed
                if self.stopped.wait(max(0.0, due - time.monotonic())):  # a late one starts at once
                    return
                now = cycle * CYCLE_SECONDS
                while task.at <= now:
                    arrived.append(task)
                    task = next(coming)
                if (config := self.client.current()) is not None:
                    settled = list(pipeline.cycle(now, config, arrived))
                    arrived = []
                    list(pool.map(lambda pair: self._settle(*pair), settled))

    def _settle(self, task: Task, outcome: Outcome) -> None:
        said, answer = self._call(task) if outcome == "call" else (outcome, None)
        self.client.record(task.roaster, task.field, answer, outcome=said, model=MODEL)

    def _call(self, task: Task) -> tuple[str, dict[str, Any] | None]:
        """A call's outcome, and the provider's answer if there is one."""
        prompt = " ".join([f"field-{task.field}"] * 128 + [f"product-{task.product}"])
        prompt += " word" * max(0, task.prompt_tokens - 129)
        messages = [{"role": "user", "content": prompt}]
        asked = {"model": MODEL, "messages": messages, "max_tokens": task.completion_tokens}
        try:
            # The simulated provider takes any key.
            answer = fetch(f"{self.provider}/chat/completions", content=asked, token="x")  # noqa: S106
        except FetchError:
            return "error", None
        if answer.status == 200:
            return "success", answer.decode(dict[str, Any])
        return "rate_limited" if answer.status == 429 else "error", None


def main() -> None:
    """Run until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m demo.scraper", description=__doc__)
    parser.add_argument("--exporter", metavar="URL", help="deliver the spool there")
    parser.add_argument("--spool", type=Path, metavar="FILE", help="by default a temporary one")
    parser.add_argument("--provider", required=True, metavar="URL")
    parser.add_argument("--config-url", required=True, metavar="URL")
    parser.add_argument("--speed", type=float, default=60.0, help="trace seconds a real second")
    arguments = parser.parse_args()
    logging.basicConfig(format="scraper: %(message)s")
    with tempfile.TemporaryDirectory(prefix="llm-budget-scraper-") as folder:
        arguments.spool = arguments.spool or Path(folder) / "spool"
        client = Client(arguments.spool, config_url=arguments.config_url)
        scraper = Scraper(arguments.provider, arguments.speed, client)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: scraper.stopped.set())
        send = partial(deliver, arguments.spool, arguments.exporter)
        delivery = Thread(target=send, kwargs={"stop": scraper.stopped}, daemon=True)
        if arguments.exporter:
            delivery.start()
        scraper.run()
        scraper.stopped.set()
        client.close()
        if arguments.exporter:
            delivery.join()
            with contextlib.suppress(DeliveryError):
                send(once=True)  # to the last line


if __name__ == "__main__":
    main()
