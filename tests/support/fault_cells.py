"""Cells of the fault matrix: one loop, a fault at each level, and what must hold."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import requests

from alertmanager.receiver.ladder.effective import effective
from command.stack.binaries import need
from command.stack.bundle import Bundle
from command.stack.processes import Child
from tests.support.engines import OFFSET_SECONDS, Agents, LateRuler, TwoLedgers, Unlisted
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
# Without these there is no evidence to lift on.
EVIDENCE = {"prometheus", "alertmanager", "exporter", "receiver", LINKS[0], LINKS[3], LINKS[4],
            "scrape config", "agent"}  # fmt: skip
# What a crash, a full disk or a person leaves of the receiver's state file.
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "state to {}": lambda _: b"{}",
    "state by half": lambda state: state[: len(state) // 2],
    "a bit of the state": lambda state: state.replace(b"level", b"ldvel", 1),
}


@dataclass(frozen=True)
class Fault:
    """A way to break something; docs/faults.md says what each kind does.

    what: a service, a link, or what else is broken. bundle, interval, delay: the stack that
    it happens to, the seconds between its scrapes and those that its rules are late by.
    """

    kind: str
    what: str
    bundle: type[Bundle] = LinkedBundle
    interval: int = 1
    delay: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.what}"

    @property
    def seconds(self) -> float:
        """How long it lasts; what is slow, and not broken, is so all the time."""
        return {"kill": KILL_SECONDS, "damage": KILL_SECONDS, "slow": 0.0}.get(
            self.kind, CUT_SECONDS
        )

    @property
    def hold(self) -> int:
        """The shortest that the receiver allows."""
        return 3 * self.interval + self.delay

    @property
    def patience(self) -> float:
        """Seconds from the recovery until a higher level must be in force."""
        return RECOVERY_SECONDS + 2 * (self.interval - 1) + self.delay

    @property
    def takes_no_calls(self) -> bool:
        return self.what == "exporter"

    def begin(self, loop: Loop) -> None:
        """Break it."""
        begin, _ = KINDS[self.kind]
        begin(self, loop)

    def end(self, loop: Loop) -> None:
        """Mended; a process is ready again."""
        _, end = KINDS[self.kind]
        end(self, loop)

    def child(self, loop: Loop) -> Child:
        found: Child = getattr(loop.bundle, self.what)
        return found


def _start(child: Child) -> None:
    child.start()
    child.wait_ready()


def _continue(child: Child) -> None:
    os.kill(child.pid, signal.SIGCONT)
    child.wait_ready()


def _set(fault: Fault, loop: Loop, mode: Mode) -> None:
    assert isinstance(loop.bundle, LinkedBundle)
    loop.bundle.links[fault.what].set(mode)


def _damage(fault: Fault, loop: Loop) -> None:
    """The receiver is killed, and finds its state so."""
    loop.bundle.receiver.kill()
    state = loop.bundle.folder / "receiver-state.json"
    state.write_bytes(DAMAGES[fault.what](state.read_bytes()))


def _lose(_: Fault, loop: Loop) -> None:
    """Until the rules notice: a series that is young is believed for longer."""
    assert isinstance(loop.bundle, TwoLedgers)
    until(lambda: len(loop.query("ledger:llm_evidence:fresh")) == 2, what="both ledgers")
    loop.bundle.lose_second()
    complete = "budget:llm_evidence:complete == 1"
    until(lambda: not loop.query(complete), timeout=200, what="evidence that is incomplete")


def _find(_: Fault, loop: Loop) -> None:
    assert isinstance(loop.bundle, TwoLedgers)
    loop.bundle.find_second()


def _nothing(_: Fault, __: Loop) -> None:
    pass


# How each kind begins and ends.
KINDS: dict[str, tuple[Callable[[Fault, Loop], object], Callable[[Fault, Loop], object]]] = {
    "kill": (lambda f, loop: f.child(loop).kill(), lambda f, loop: _start(f.child(loop))),
    "stop": (
        lambda f, loop: os.kill(f.child(loop).pid, signal.SIGSTOP),
        lambda f, loop: _continue(f.child(loop)),
    ),
    "refuse": (lambda f, loop: _set(f, loop, "refuse"), lambda f, loop: _set(f, loop, "pass")),
    "hang": (lambda f, loop: _set(f, loop, "hang"), lambda f, loop: _set(f, loop, "pass")),
    "damage": (_damage, lambda _, loop: _start(loop.bundle.receiver)),
    "lose": (_lose, _find),
    "slow": (_nothing, _nothing),
}
ALL_FAULTS = [
    *(Fault(kind, service) for kind in ("kill", "stop") for service in SERVICES),
    *(Fault(kind, link) for kind in ("refuse", "hang") for link in LINKS),
    *(Fault("damage", damage) for damage in DAMAGES),
    Fault("lose", "scrape config", bundle=Unlisted),
    Fault("lose", "agent", bundle=Agents),
    Fault("slow", "rules", bundle=LateRuler, delay=OFFSET_SECONDS),
    Fault("slow", "prometheus", interval=30),
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

    All of them happen to one kind of stack. floor: none, or conserve: by the forecast, before and
    after.
    """
    rows, before = [], floor
    first = faults[0]
    flags = ("--ruler-delay", str(first.delay)) if first.delay else ()
    began = datetime.now(UTC) - timedelta(hours=12 if floor == "conserve" else 0)
    prepared = Loop(folder, kind=first.bundle, interval=first.interval, hold=str(first.hold),
                    receiver_flags=flags,
                    day_starts_at=f"{began:%H:%M}" if floor == "conserve" else "00:00")  # fmt: skip
    if floor == "conserve":
        _foretell(prepared)
    with prepared as loop:
        loop.wait_level(floor, timeout=3 * first.patience + 60)
        for fault, (after, percent) in zip(faults, CROSSINGS, strict=False):
            target = LIMIT * percent // 100 + (0 if percent == 100 else 10**6)
            rows.append(_cell(loop, fault, before, after, _spending(loop, target)))
            before = after
        # The forecast is above a limit of $1.20, too.
        usd = "0.2" if floor == "conserve" else "1000"
        rows.append(_cell(loop, faults[-1], before, floor, lambda: loop.grant(usd)))
        if Decimal(loop.status()["spend_usd"]).scaleb(12) != loop.sent:
            rows[-1].problems.append(f"booked {loop.status()['spend_usd']}, sent {loop.sent}")
    return rows


def _foretell(loop: Loop) -> None:
    """Half of the budget is spent by noon, and the rules have known for long where that leads.

    The alert wants half an hour of forecasts, which are written for it, and what they led to: one
    more, of the moment in which the second ledger is known and the first is not, would end it.
    """
    loop.bundle.prepare()
    loop.bundle.exporter.start()
    loop.bundle.exporter.wait_ready()
    loop.spend_to(LIMIT // 2)
    loop.bundle.exporter.stop()
    now, text = int(time.time()), loop.bundle.folder / "forecasts.om"
    times = range(now - 2400, now - 90, 5)  # a late ruler must be able to append
    lines = [
        line
        for record in ("budget:llm_forecast:ratio", "budget:llm_predicted_exhaustion:bool")
        for line in (f"# TYPE {record} gauge\n", *(f"{record} 1 {one}\n" for one in times))
    ]
    text.write_text("".join([*lines, "# EOF\n"]))
    argv = [need("promtool"), "tsdb", "create-blocks-from", "openmetrics", str(text)]
    subprocess.run([*argv, str(loop.bundle.folder / "prometheus")], check=True, capture_output=True)


def _spending(loop: Loop, picodollars: int) -> Callable[[], object]:
    return lambda: loop.spend_to(picodollars)


def _cell(loop: Loop, fault: Fault, before: str, after: str, change: Callable[[], object]) -> Row:
    written, watch = len(loop.audit()), Watch(loop.bundle.effective)
    fault.begin(loop)
    began = time.monotonic()
    if not fault.takes_no_calls:
        change()
    until(lambda: time.monotonic() > began + fault.seconds, timeout=60, what="the fault's end")
    during = [line["level"] for line in loop.audit()[written:]]
    fault.end(loop)
    mended = time.monotonic()
    if fault.takes_no_calls:
        until(lambda: _done(change), timeout=30, what="the calls to be taken")
    falling = LEVELS.index(after) < LEVELS.index(before)
    steps = LEVELS.index(before) - LEVELS.index(after) if falling else 0
    timeout = 3 * fault.patience + steps * (fault.hold + 15)
    seconds = _wait_right(loop, after, mended, timeout)
    levels = [before, *watch.stop(), *(line["level"] for line in loop.audit()[written:])]
    row = Row(str(fault), before, after, min(levels, key=LEVELS.index), seconds)
    _judge(row, during, fault, falling=falling)
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


def _judge(row: Row, during: list[str], fault: Fault, *, falling: bool) -> None:
    rank, holds = LEVELS.index, fault.kind == "damage" or fault.what in EVIDENCE
    if not falling:
        if rank(row.lowest) < rank(row.before):
            row.problems.append(f"it was lifted to {row.lowest}")
        if row.seconds > fault.patience:
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
