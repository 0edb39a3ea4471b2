"""Cells of the fault matrix: one loop, a fault at each level, and what must hold."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import requests

from alertmanager.receiver.ladder.effective import effective
from tests.support.ladders import shipped_baseline, shipped_ladder
from tests.support.links import LINKS, LinkedBundle, Mode
from tests.support.loop import LIMIT, Loop
from tests.support.waiting import until

SERVICES = ("exporter", "receiver", "prometheus", "alertmanager")
RECOVERY_SECONDS = 15.0
KILL_SECONDS = 2.0
CUT_SECONDS = 22.0  # an alert expires after four resend delays of 5 s without a word of Prometheus
LEVELS = shipped_ladder().names
# What is spent when the fault is there, and the level that it leads to.
CROSSINGS = (("control", 80), ("emergency", 95), ("fallback", 100))
# With these cut or gone the receiver has no evidence to lift on.
EVIDENCE = {"prometheus", "alertmanager", "exporter", "receiver", LINKS[0], LINKS[3], LINKS[4]}


@dataclass(frozen=True)
class Fault:
    """kill: at once started again; stop: SIGSTOP; refuse, hang: a link. what: service or link."""

    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind} {self.what}"

    @property
    def seconds(self) -> float:
        return KILL_SECONDS if self.kind == "kill" else CUT_SECONDS

    @property
    def takes_no_calls(self) -> bool:
        return self.what == "exporter"

    def begin(self, bundle: LinkedBundle) -> None:
        if self.what in LINKS:
            mode: Mode = "hang" if self.kind == "hang" else "refuse"
            bundle.links[self.what].set(mode)
        elif self.kind == "kill":
            getattr(bundle, self.what).kill()
        else:
            os.kill(getattr(bundle, self.what).pid, signal.SIGSTOP)

    def end(self, bundle: LinkedBundle) -> None:
        """Mended; a process is ready again."""
        if self.what in LINKS:
            bundle.links[self.what].set("pass")
            return
        child = getattr(bundle, self.what)
        if self.kind == "kill":
            child.start()
        else:
            os.kill(child.pid, signal.SIGCONT)
        child.wait_ready()


ALL_FAULTS = [
    *(Fault(kind, service) for kind in ("kill", "stop") for service in SERVICES),
    *(Fault(kind, link) for kind in ("refuse", "hang") for link in LINKS),
]


@dataclass
class Row:
    """One cell's result. lowest: the mildest config ever written; seconds: from mended to right."""

    fault: str
    before: str
    after: str
    lowest: str
    seconds: float
    problems: list[str] = field(default_factory=list)


class Watch:
    """Reads the effective file whenever it changes: no config ever written goes unseen."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> list[str]:
        self._over.set()
        self._thread.join()
        return self.seen

    def _run(self) -> None:
        last, over = None, False
        while not over:
            over = self._over.wait(0.02)  # and one last look
            stamp = self.path.stat()
            if (stamp.st_ino, stamp.st_mtime_ns) != last:
                last = (stamp.st_ino, stamp.st_mtime_ns)
                self.seen += re.findall(r"level (\w+)", self.path.read_text().splitlines()[0])


def run_column(folder: Path, faults: Sequence[Fault], floor: str = "none") -> list[Row]:
    """A fault while each threshold is crossed, then one while the money comes back.

    floor: a level that a person holds meanwhile. conserve is reached so, because the forecast that
    asks for it wants half an hour of data.
    """
    rows, before = [], floor
    with Loop(folder, kind=LinkedBundle) as loop:
        if floor != "none":
            loop.degrade(floor)
        for fault, (after, percent) in zip(faults, CROSSINGS, strict=False):
            target = LIMIT * percent // 100 + (0 if percent == 100 else 10**6)
            rows.append(_cell(loop, fault, before, after, _spending(loop, target)))
            before = after
        rows.append(_cell(loop, faults[-1], before, floor, lambda: loop.grant("1000")))
        if Decimal(loop.status()["spend_usd"]).scaleb(12) != loop.sent:
            rows[-1].problems.append(f"booked {loop.status()['spend_usd']}, sent {loop.sent}")
    return rows


def _spending(loop: Loop, picodollars: int) -> Callable[[], object]:
    return lambda: loop.spend_to(picodollars)


def _cell(loop: Loop, fault: Fault, before: str, after: str, change: Callable[[], object]) -> Row:
    bundle = loop.bundle
    assert isinstance(bundle, LinkedBundle)
    written, watch = len(loop.audit()), Watch(bundle.effective)
    began = time.monotonic()
    fault.begin(bundle)
    if not fault.takes_no_calls:
        change()
    until(lambda: time.monotonic() > began + fault.seconds, timeout=60, what="the fault's end")
    during = [line["level"] for line in loop.audit()[written:]]
    fault.end(bundle)
    mended = time.monotonic()
    if fault.takes_no_calls:
        until(lambda: _done(change), timeout=30, what="the calls to be taken")
    falling = LEVELS.index(after) < LEVELS.index(before)
    seconds = _wait_right(loop, after, mended, timeout=90 if falling else 45)
    levels = [before, *watch.stop(), *(line["level"] for line in loop.audit()[written:])]
    row = Row(str(fault), before, after, min(levels, key=LEVELS.index), seconds)
    _judge(row, during, holds=fault.what in EVIDENCE, falling=falling)
    return row


def _done(change: Callable[[], object]) -> bool:
    """A scraper tries again until the exporter takes it."""
    try:
        change()
    except requests.RequestException:
        return False
    return True


def _wait_right(loop: Loop, level: str, since: float, timeout: float) -> float:
    """Seconds until the effective config is exactly the level's."""
    expected = effective(shipped_ladder(), shipped_baseline(), level).document
    until(lambda: loop.effective() == expected, timeout, what=f"the config of {level}", every=0.02)
    return max(0.0, time.monotonic() - since)


def _judge(row: Row, during: list[str], *, holds: bool, falling: bool) -> None:
    rank = LEVELS.index
    if not falling:
        if rank(row.lowest) < rank(row.before):
            row.problems.append(f"it was lifted to {row.lowest}")
        if row.seconds > RECOVERY_SECONDS:
            row.problems.append(f"right only after {row.seconds:.1f} s")
    elif holds and any(rank(level) < rank(row.before) for level in during):
        row.problems.append(f"lifted without evidence: {during}")


def table(rows: Sequence[Row]) -> str:
    """The results as a Markdown table."""
    lines = ["| fault | from | to | mildest config written | right after |", "| --- " * 5 + "|"]
    for row in rows:
        verdict = f"{row.seconds:.1f} s" + "".join(f", **{p}**" for p in row.problems)
        lines.append(f"| {row.fault} | {row.before} | {row.after} | {row.lowest} | {verdict} |")
    return "\n".join(lines) + "\n"


def problems(rows: Sequence[Row]) -> list[str]:
    """What did not hold, one sentence each."""
    return [
        f"{row.fault}, {row.before} → {row.after}: {problem}"
        for row in rows
        for problem in row.problems
    ]
