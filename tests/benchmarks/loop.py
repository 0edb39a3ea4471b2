"""How fast the loop closes, and how far past the budget it lets go: `make bench`.

Real binaries, scrapes and evaluations every second. Crossing → applied is the time from the answer
to the call that crosses a threshold until the effective file has the new level; the floor is one
scrape and one evaluation interval. For the overshoot, 16 clients together spend at ten times the
rate at which the budget would last its day (here a day of ten minutes), each call a second long,
and obey the effective file like a scraper: enabled, fields, rate limit.
"""

import os
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from common.yamlfile import parse_document
from tests.support.loop import INTERVAL_SECONDS, LIMIT, Call, Loop
from tests.support.waiting import until

FLOOR_SECONDS = 2.0 * INTERVAL_SECONDS
CYCLES = 10  # of two crossings each
STEP = 10_000  # pico-dollars: what Call.worth can make
CLIENTS, CALL_SECONDS, DAY_SECONDS, TIMES = 16, 1.0, 600, 10
BASE_RATE = 60  # rate_limit_per_minute of the shipped baseline


def crossings(loop: Loop, cycles: int = CYCLES) -> list[float]:
    """Seconds from crossing to applied: 90 % and 100 %, then a reset, again and again."""
    found = []
    for _ in range(cycles):
        start = loop.sent
        for level, percent in (("emergency", 91), ("fallback", 100)):
            crossed = loop.spend_to(start + LIMIT * percent // 100)
            found.append(_applied(loop.bundle.effective, level, crossed))
        loop.reset()
        until(lambda: loop.level() in ("none", "conserve", "control"), 60, "the level to fall")
    return found


def _applied(path: Path, level: str, since: float) -> float:
    until(lambda: _header(path).startswith(f"level {level}"), 30, f"level {level}", every=0.002)
    return time.monotonic() - since


def _header(path: Path) -> str:
    with open(path, "rb") as file:
        return file.readline().decode().partition(": ")[2]


@dataclass
class Clients:
    """Clients that call until the effective config switches the LLM off."""

    loop: Loop
    cost: int
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        threads = [threading.Thread(target=self._client, args=(n,)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self, number: int) -> None:
        turn = number
        while not self.over.is_set():
            config = parse_document(self.loop.bundle.effective.read_bytes(), Path("x.yml"))
            if not config["enabled"]:
                return
            fields = list(config["field_configs"])
            name = fields[turn % len(fields)]
            turn += 1
            self.over.wait(CALL_SECONDS * BASE_RATE / config["rate_limit_per_minute"])
            if config["field_configs"][name]["enabled"]:
                with self.lock:
                    self.loop.send([Call.worth(self.cost)], field=name)


def overshoot(loop: Loop) -> float:
    """Spend past the limit as a share of it, when all clients have stopped."""
    calls = CLIENTS / CALL_SECONDS * DAY_SECONDS / TIMES
    clients = Clients(loop, int(LIMIT / calls) // STEP * STEP)
    watchdog = threading.Timer(10 * DAY_SECONDS / TIMES, clients.over.set)
    watchdog.daemon = True
    watchdog.start()
    clients.run()
    watchdog.cancel()
    return float(Decimal(loop.status()["spend_usd"]) / (Decimal(LIMIT).scaleb(-12)) - 1)


def main() -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name, Loop(Path(name), hold="0") as loop:
        seconds = crossings(loop)
    print(
        f"crossing → applied, {len(seconds)} crossings: median {statistics.median(seconds):.2f} s, "
        f"worst {max(seconds):.2f} s; floor {FLOOR_SECONDS:.0f} s (scrape + evaluation)"
    )
    with tempfile.TemporaryDirectory() as name, Loop(Path(name)) as loop:
        share = overshoot(loop)
    print(
        f"overshoot past 100 %, {CLIENTS} clients at {TIMES} times the sustainable rate: "
        f"{share:+.1%} of the day's budget"
    )
    print(f"load of the machine meanwhile: {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
