"""The simulated scraper: replays the trace, obeys the effective config, reports its usage."""

import argparse
import signal
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from exporter.core.clock import iso8601
from tests.simulation.pipeline import CYCLE_SECONDS, Outcome, Pipeline, Task, tasks_of
from tests.simulation.trace import read_trace

WORKERS = 8
TIMEOUT_SECONDS = 10
MODEL = "deepseek-chat"


class Scraper:
    """Cycles of the pipeline in simulated time; calls in parallel, reports in order."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.pipeline = Pipeline(arguments.reading)
        self.session = requests.Session()
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=WORKERS)
        self.session.mount("http://", adapter)
        self.config: dict[str, Any] | None = None
        self.etag = ""
        self.unreported: deque[dict[str, Any]] = deque()
        self.stopped = threading.Event()

    def run(self) -> None:
        """Until stopped, or the trace is over."""
        tasks = tasks_of(read_trace())
        length = tasks[-1].at + CYCLE_SECONDS
        started, position, laps = time.monotonic(), 0, 0
        with ThreadPoolExecutor(WORKERS) as pool:
            cycle = 0
            while not self.stopped.wait(self._left(started, cycle)):
                cycle += 1
                now = cycle * CYCLE_SECONDS
                while position < len(tasks) and tasks[position].at + laps * length <= now:
                    self.pipeline.arrive(tasks[position])
                    position += 1
                if position == len(tasks):
                    if not self.arguments.repeat:
                        return
                    position, laps = 0, laps + 1
                self._cycle(now, pool)

    def _left(self, started: float, cycle: int) -> float:
        """Seconds until a cycle is due; a late one starts at once."""
        due = started + cycle * CYCLE_SECONDS / self.arguments.speed
        return float(max(0.0, due - time.monotonic()))

    def _cycle(self, now: float, pool: ThreadPoolExecutor) -> None:
        self._read_config()
        if self.config is None:
            return
        settled = list(self.pipeline.cycle(now, self.config))
        self.unreported.extend(pool.map(lambda pair: self._settle(*pair), settled))
        self._report()

    def _read_config(self) -> None:
        """The last good config stays when the receiver is away."""
        try:
            answer = self.session.get(
                self.arguments.config_url,
                headers={"If-None-Match": self.etag},
                timeout=TIMEOUT_SECONDS,
            )
        except requests.RequestException:
            return
        if answer.status_code == 200:
            self.config, self.etag = answer.json(), answer.headers["ETag"]

    def _settle(self, task: Task, outcome: Outcome) -> dict[str, Any]:
        event = {
            "time": iso8601(time.time()),
            "roaster": task.roaster,
            "field": task.field,
            "model": MODEL,
            "outcome": "success" if outcome == "call" else outcome,
        }
        return event | self._call(task) if outcome == "call" else event

    def _call(self, task: Task) -> dict[str, Any]:
        prompt = " ".join([f"field-{task.field}"] * 128 + [f"product-{task.product}"])
        prompt += " word" * max(0, task.prompt_tokens - 129)
        try:
            answer = self.session.post(
                f"{self.arguments.provider}/chat/completions",
                json={
                    "model": MODEL,
                    "messages": [{"role": "user", "content": prompt}],
                    "max_tokens": task.completion_tokens,
                },
                headers={"Authorization": "Bearer simulated-key"},
                timeout=TIMEOUT_SECONDS,
            )
        except requests.RequestException:
            return {"outcome": "error"}
        if answer.status_code != 200:
            return {"outcome": "rate_limited" if answer.status_code == 429 else "error"}
        body = answer.json()
        return {"id": body["id"], "usage": body["usage"]}

    def _report(self) -> None:
        """What the exporter does not take now is offered again in the next cycle."""
        events = list(self.unreported)
        if not events:
            return
        try:
            answer = self.session.post(
                f"{self.arguments.exporter}/v1/usage",
                json=events,
                headers={"Authorization": f"Bearer {self.arguments.token}"},
                timeout=TIMEOUT_SECONDS,
            )
        except requests.RequestException:
            return
        if answer.status_code == 200:
            for _ in events:
                self.unreported.popleft()


def main() -> int:
    """Run until SIGTERM or the trace's end."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.scraper", description=__doc__)
    parser.add_argument("--exporter", required=True, metavar="URL")
    parser.add_argument("--provider", required=True, metavar="URL")
    parser.add_argument("--config-url", required=True, metavar="URL")
    parser.add_argument("--token-file", required=True, type=Path, metavar="FILE")
    parser.add_argument("--speed", type=float, default=60.0, help="trace seconds a real second")
    parser.add_argument("--reading", choices=("accept_above", "ask_below"), default="accept_above")
    parser.add_argument("--repeat", action="store_true", help="the trace again and again")
    arguments = parser.parse_args()
    arguments.token = arguments.token_file.read_text().strip()
    scraper = Scraper(arguments)
    signal.signal(signal.SIGTERM, lambda *_: scraper.stopped.set())
    signal.signal(signal.SIGINT, lambda *_: scraper.stopped.set())
    scraper.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
