"""How fast the loop closes, and how far past the budget it lets go: `make bench`.

Real binaries, scrapes and evaluations every second. Crossing → applied is the time from the answer
to the call that crosses a threshold until the effective file has the new level; the floor is one
scrape and one evaluation interval. For the overshoot, 16 clients together spend at 1, 10 and 100
times the rate at which the budget would last its day, each call a second long, and obey the
effective file like a scraper: enabled, fields, rate limit. What they have spent past the limit at
the end is printed beside what it should be: the rate at the crossing x (latency + a call's length).
"""

import os
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from common.yamlfile import parse_document
from tests.support.loop import INTERVAL_SECONDS, LIMIT, Call, Loop
from tests.support.waiting import until

FLOOR_SECONDS = 2.0 * INTERVAL_SECONDS
CYCLES = 10  # of two crossings each
UNIT = 270_000  # pico-dollars: whole multiples of it are what Call.worth can make
CLIENTS, CALL_SECONDS, DAY_SECONDS = 16, 1.0, 86_400
TIMES, REPEATS = (1, 10, 100), 6
STEADY_SECONDS = 10.0  # of spending before the limit is crossed, in which the rate is measured
BASE_RATE = 60  # rate_limit_per_minute of the shipped baseline
LEFT_BY_EMERGENCY = 1 / 3  # of the rate: half of the rate limit, six of nine fields
LOW = ("none", "conserve", "control")  # levels that these clients do not notice


def crossings(loop: Loop, cycles: int = CYCLES) -> list[float]:
    """Seconds from crossing to applied: 90 % and 100 %, then a reset, again and again."""
    found = []
    for _ in range(cycles):
        start = loop.sent
        for level, percent in (("emergency", 91), ("fallback", 100)):
            crossed = loop.spend_to(start + LIMIT * percent // 100)
            found.append(_applied(loop.bundle.effective, level, crossed))
        loop.reset()
        until(lambda: loop.level() in LOW, 60, "the level to fall")
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
    phase: int  # of the fields' turns: each repeat crosses the limit at another field
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    spent: list[tuple[float, int]] = field(default_factory=list)  # monotonic time, loop.sent

    def start(self) -> list[threading.Thread]:
        self.spent.append((time.monotonic(), self.loop.sent))
        threads = [threading.Thread(target=self._client, args=(n,)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        return threads

    def _client(self, number: int) -> None:
        turn, period = 5 * number + self.phase, 2 * CALL_SECONDS
        self.over.wait(period * number / CLIENTS)  # not all at once
        while not self.over.is_set():
            config = parse_document(self.loop.bundle.effective.read_bytes(), Path("x.yml"))
            if not config["enabled"]:
                return
            name = list(config["field_configs"])[turn % len(config["field_configs"])]
            turn += 1
            period = CALL_SECONDS * BASE_RATE / config["rate_limit_per_minute"]
            self.over.wait(CALL_SECONDS)
            if config["field_configs"][name]["enabled"]:
                with self.lock:
                    acknowledged = self.loop.send([Call.worth(self.cost)], field=name)
                    self.spent.append((acknowledged, self.loop.sent))
            self.over.wait(period - CALL_SECONDS)


class Overshoot(NamedTuple):
    """rate: of the day's budget a second, at the crossing; latency: seconds until fallback."""

    rate: float
    latency: float
    share: float  # of the day's budget, spent past it

    @property
    def expected(self) -> float:
        return self.rate * (self.latency + CALL_SECONDS)


def overshoot(loop: Loop, times: int, phase: int) -> Overshoot:
    """One crossing of 100 %, at so many times the sustainable rate, from level emergency on."""
    rate = LIMIT * times / DAY_SECONDS  # pico-dollars a second
    cost = max(1, int(rate / CLIENTS * CALL_SECONDS / UNIT)) * UNIT
    clients = Clients(loop, cost, phase)
    limit = loop.sent + LIMIT
    steady = rate * LEFT_BY_EMERGENCY * STEADY_SECONDS
    loop.spend_to(int(limit - steady) // UNIT * UNIT)
    _applied(loop.bundle.effective, "emergency", 0.0)
    threads = clients.start()
    try:
        applied = time.monotonic() + _applied(loop.bundle.effective, "fallback", time.monotonic())
    except BaseException:
        clients.over.set()
        raise
    for thread in threads:
        thread.join()
    begun, before = clients.spent[0]
    crossed = next(at for at, spent in clients.spent if spent >= limit)
    loop.reset()
    until(lambda: loop.level() in LOW, 60, "the level to fall")
    measured = (limit - before) / (crossed - begun - CALL_SECONDS) / LIMIT
    return Overshoot(measured, applied - crossed, (clients.spent[-1][1] - limit) / LIMIT)


def show(times: int, found: list[Overshoot]) -> None:
    """A line: means, and the worst overshoot."""
    rate, latency, share, expected = (
        statistics.mean(getattr(one, name) for one in found)
        for name in ("rate", "latency", "share", "expected")
    )
    print(
        f"  {times:>3} times: {rate * DAY_SECONDS:6.2f} times at the crossing (emergency), "
        f"{latency:.2f} s to fallback, overshoot {share:.4%} (worst "
        f"{max(one.share for one in found):.4%}); rate x (latency + call) {expected:.4%}, "
        f"rate x (floor + call) {rate * (FLOOR_SECONDS + CALL_SECONDS):.4%}",
        flush=True,
    )


def main() -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name, Loop(Path(name), hold="0") as loop:
        seconds = crossings(loop)
        print(
            f"crossing → applied, {len(seconds)} crossings: median {statistics.median(seconds):.2f}"
            f" s, worst {max(seconds):.2f} s; floor {FLOOR_SECONDS:.0f} s (scrape + evaluation)"
        )
        print(f"overshoot past 100 % as a share of the day's budget, {REPEATS} crossings each")
        for times in TIMES:
            show(times, [overshoot(loop, times, phase) for phase in range(REPEATS)])
    print(f"load of the machine meanwhile: {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
