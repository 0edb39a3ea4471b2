"""One scenario on any engine, timed: raised, held, lowered after a grant, lowered at a day turn."""

import math
import os
import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path

from common.files import replace_file
from tests.support.engines import (
    OFFSET_SECONDS,
    Agents,
    LateRuler,
    PromptVictoria,
    TwoLedgers,
    Victoria,
)
from tests.support.loop import LIMIT, Loop
from tests.support.paths import ROOT
from tests.support.waiting import until

PAGE = ROOT / "docs" / "scaling.md"
UTILIZATION, COMPLETE = "budget:llm_utilization:ratio", "budget:llm_evidence:complete"
SHARE = LIMIT * 2 // 5  # of each ledger: 80 % of the limit together
FRESH_SCRAPES = 3  # evidence is that old at most, and so is the shortest hold that is allowed
BELIEVED_SECONDS = 185  # a series of a few samples only, whose interval is taken for longer
SLACK_SECONDS = 10  # for the rounds of the receiver, and for a busy machine


@dataclass(frozen=True)
class Engine:
    """What runs the rules. interval, delay: seconds; delay is the receiver's --ruler-delay."""

    name: str
    kind: type[TwoLedgers]
    interval: int
    delay: int = 0
    evaluations: int = 1  # from a scrape to an alert

    @property
    def hold(self) -> int:
        return FRESH_SCRAPES * self.interval + self.delay

    @property
    def soon(self) -> int:
        """Seconds in which a crossing is applied: scrape, evaluations and one more."""
        steps = 1 + self.evaluations + (self.kind is Agents)  # that send once an interval
        return steps * self.interval + self.delay + 1

    @property
    def let_go(self) -> int:
        """Seconds in which a grant lowers: evidence is a group of its own, late ones settle."""
        settling = FRESH_SCRAPES * self.interval if self.delay else 0
        return self.soon + self.interval + settling + 1


PROMETHEUS = (
    *(Engine("Prometheus", TwoLedgers, interval) for interval in (5, 15, 30, 60)),
    Engine("Prometheus, `rule_query_offset: 1m`", LateRuler, 5, OFFSET_SECONDS),
    Engine("Prometheus, written to by agents", Agents, 5),
)
# vmalert stores what it recorded after the evaluation: each rule of a chain takes one more.
VMALERT = (
    Engine("vmalert, default flags", Victoria, 5, 77, evaluations=3),
    Engine("vmalert, the flags below", PromptVictoria, 5, 16, evaluations=3),
)


@dataclass(frozen=True)
class Timing:
    """Seconds. lowered: from a grant; turned: from the start of the new budget day."""

    engine: str
    interval: int
    delay: int
    hold: int
    raised: float
    lowered: float
    turned: float

    @property
    def row(self) -> str:
        """As a line of docs/scaling.md's table."""
        name, *numbers = astuple(self)
        return f"| {name} | " + " | ".join(f"{number:.0f}" for number in numbers) + " |"


def keep(timings: Iterable[Timing]) -> None:
    """Put the rows into docs/scaling.md, each in the place of its older one."""
    text = PAGE.read_text()
    for timing in timings:
        start = re.escape(f"| {timing.engine} | {timing.interval} |")
        (older,) = re.findall(f"^{start}.*$", text, re.MULTILINE)
        text = text.replace(older, timing.row)
    replace_file(PAGE, text.encode())


def measure_all(folder: Path, engines: Iterable[Engine]) -> list[Timing]:
    """At the same time: most of each is waiting. Their rows are kept where that is asked for."""
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(measure, folder / str(i), one) for i, one in enumerate(engines)]
        timings = [job.result() for job in jobs]
    if os.environ.get("LLM_BUDGET_KEEP_RESULTS"):
        keep(timings)
    return timings


def measure(folder: Path, engine: Engine) -> Timing:
    """Run the scenario. Raises AssertionError where something is wrong, early or too late."""
    folder.mkdir()
    turn = _turn(engine)
    with loop_on(engine, folder, f"{datetime.fromtimestamp(turn, UTC):%H:%M}") as loop:
        raised, lowered = raised_and_let_go(loop, engine)
        _held(loop, engine)
        assert time.time() < turn, "the day turned before the scenario had come so far"
        changes = len(loop.audit())
        turned = loop.wait_level("none", turn - time.time() + 3 * engine.soon + SLACK_SECONDS)
        turned += time.time() - time.monotonic() - turn
        assert [line["level"] for line in loop.audit()[changes:]] == ["none"], "straight, and once"
        assert not loop.unwell()
        _no_false_step(loop)
    return Timing(engine.name, engine.interval, engine.delay, engine.hold, raised, lowered, turned)


def loop_on(engine: Engine, folder: Path, day_starts_at: str = "00:00") -> Loop:
    """A bundle on that engine, with the shortest hold that is allowed; not started yet."""
    flags = ("--ruler-delay", str(engine.delay)) if engine.delay else ()
    return Loop(folder, day_starts_at=day_starts_at, hold=str(engine.hold),
                interval=engine.interval, receiver_flags=flags, kind=engine.kind)  # fmt: skip


def raised_and_let_go(loop: Loop, engine: Engine) -> tuple[float, float]:
    """Seconds from the call that crosses 75 % to the level, and from a grant to none."""
    loop.spend_to(SHARE, to="second")
    crossed = loop.spend_to(2 * SHARE)
    raised = loop.wait_level("control", 3 * engine.soon + SLACK_SECONDS) - crossed
    assert raised <= engine.soon, f"raised after {raised:.1f} s only"
    loop.grant("1")  # 40 % of it is spent
    granted = time.monotonic()
    changes = len(loop.audit())
    lowered = loop.wait_level("none", 2 * engine.hold + 4 * engine.soon + SLACK_SECONDS) - granted
    assert lowered <= engine.let_go, f"lowered {lowered:.1f} s after the grant only"
    assert [line["level"] for line in loop.audit()[changes:]] == ["none"], "straight, and once"
    return raised, lowered


def _held(loop: Loop, engine: Engine) -> None:
    """With one ledger away a grant lowers nothing; back again, the level is wanted once more."""
    bundle = loop.bundle
    assert isinstance(bundle, TwoLedgers)
    loop.spend_to(4 * SHARE)
    loop.wait_level("control", 3 * engine.soon + SLACK_SECONDS)
    bundle.lose_second()
    patience = BELIEVED_SECONDS + 2 * engine.soon + SLACK_SECONDS
    until(lambda: _value(loop, COMPLETE) == 0, patience, what="evidence that is incomplete")
    loop.grant("2")
    over = time.monotonic() + engine.hold + engine.soon
    until(lambda: time.monotonic() > over, engine.hold + engine.soon + 5, what="the hold's end")
    assert loop.level() == "control", "lowered without the ledger that is away"
    loop.spend_to(8 * SHARE)
    until(lambda: _value(loop, UTILIZATION) == 0.8, patience, what="80 % of the larger limit")
    bundle.find_second()
    until(lambda: _value(loop, COMPLETE) == 1, patience, what="evidence that is complete again")


def _value(loop: Loop, record: str) -> float | None:
    vector = loop.query(record)
    return float(vector[0]["value"][1]) if vector else None


def _no_false_step(loop: Loop) -> None:
    """No utilization was ever recorded that was not true at some moment."""
    true = {0.0, 0.4, 0.8}  # of the limit, and of what each grant makes of it
    vector = loop.query(f"{UTILIZATION}[1h]")
    values = (float(value) for series in vector for _, value in series["values"])
    # VictoriaMetrics shows the marks of a pause, which are no numbers.
    seen = {round(value, 9) for value in values if not math.isnan(value)}
    assert seen <= true, sorted(seen)


def _turn(engine: Engine) -> float:
    """When the next budget day shall start: the whole minute after the rest of the scenario."""
    steps = engine.hold + engine.let_go + 8 * engine.soon + 120
    return (time.time() + steps) // 60 * 60 + 60
