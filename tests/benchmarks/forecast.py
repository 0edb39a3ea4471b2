"""How good the forecast is: real days and composites, each day left out in turn, the real rules.

make bench-forecast        # all of it; some minutes
"""

import argparse
import csv
import gzip
import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from command.replay.history import DAYS_AGO, MINUTES_PER_DAY, History
from command.replay.judge import FORETELLING, JudgedDay, days
from command.replay.replay import Replay, replay
from common.money import PICODOLLARS_PER_USD
from tests.support.paths import DATA

PREDICTED = FORETELLING[0]
PICODOLLARS_PER_TOKEN = 1_000_000  # 1 USD a million tokens
WEEK = 7
HOURS = range(1, 24)
# In millions of tokens: between a busy day and a wild one of the 31 real totals (1.3 to 107).
LIMITS = (8, 16, 25, 36, 50)


class Case(NamedTuple):
    """A day, and the days before it by how many days ago: pico-dollars a minute."""

    today: list[int]
    past: dict[int, list[int]]


@dataclass(frozen=True)
class Tested(History):
    """Days with a past of their own, which is not the days before them."""

    pasts: tuple[dict[int, list[int]], ...] = ()

    def before(self, number: int) -> dict[int, list[int]]:
        """As the benchmark composed it."""
        return self.pasts[number]


def shapes() -> list[list[int]]:
    """Pico-dollars a minute of the five real days."""
    with gzip.open(DATA / "burstgpt_minutes_day0-4.csv.gz", "rt") as file:
        costs = [int(row["tokens"]) * PICODOLLARS_PER_TOKEN for row in csv.DictReader(file)]
    return [costs[start : start + MINUTES_PER_DAY] for start in range(0, len(costs), 1440)]


def totals() -> list[int]:
    """Pico-dollars of the 31 real days."""
    with open(DATA / "burstgpt_days0-30.csv") as file:
        return [int(row["tokens"]) * PICODOLLARS_PER_TOKEN for row in csv.DictReader(file)]


def composite(shape: list[int], total: int) -> list[int]:
    """A day of that total and that shape, in pico-dollars a minute."""
    share = total / sum(shape)
    return [round(cost * share) for cost in shape]


def real() -> list[Case]:
    """The real days from the second on, with those before."""
    forms = shapes()
    return [
        Case(forms[day], {ago: forms[day - ago] for ago in range(1, day + 1)})
        for day in range(1, len(forms))
    ]


def real_left_out() -> list[Case]:
    """Each real day with the other four as its past."""
    forms = shapes()
    return [
        Case(form, {ago: forms[(day - ago) % 5] for ago in range(1, 5)})
        for day, form in enumerate(forms)
    ]


def composites(every_shape: bool = False, step: int = 1) -> list[Case]:
    """The days from the eighth on, each with one real shape in rotation, or with every shape.

    The days before it, as far as they are known, have the other shapes.
    """
    forms, sizes, cases = shapes(), totals(), []
    for day in range(WEEK, len(sizes), step):
        for shape in range(5) if every_shape else [day % 5]:
            others = [form for number, form in enumerate(forms) if number != shape]
            past = {
                ago: composite(others[(day - ago) % len(others)], sizes[day - ago])
                for ago in DAYS_AGO
                if ago <= day
            }
            cases.append(Case(composite(forms[shape], sizes[day]), past))
    return cases


def measured(cases: list[Case], limit: int, interval: int, *, alerts: bool = True) -> Replay:
    """The cases through the real rules, against a limit in USD (= millions of tokens)."""
    minutes = [cost for case in cases for cost in case.today]
    history = Tested(minutes, pasts=tuple(case.past for case in cases))
    return replay(history, Decimal(limit), interval_minutes=interval, alerts=alerts)


def alarms(judged: list[JudgedDay]) -> tuple[list[float], int, int]:
    """Lead in hours for each day that crossed, false-alarm days, days that did not cross."""
    leads = [
        max(day.alerts[PREDICTED].lead_hours or 0.0, 0.0) if PREDICTED in day.alerts else 0.0
        for day in judged
        if day.crossed_minute is not None
    ]
    calm = [day for day in judged if day.crossed_minute is None]
    return leads, sum(PREDICTED in day.alerts for day in calm), len(calm)


def held_by_the_band(result: Replay) -> float:
    """The part of hours 1 to 23 at which the day's total was within the band."""
    held = []
    for day in range(result.history.days):
        total = sum(result.history.day(day)) / PICODOLLARS_PER_USD
        times = (day * MINUTES_PER_DAY + 60 * hour for hour in HOURS)
        held += [result.low[time] <= total <= result.high[time] for time in times]
    return fmean(held)


def rivals(cases: list[Case], python: Path) -> dict[str, list[float]]:
    """Errors at hours 1 to 23 of what others would have said."""
    inputs = [
        {
            "past": [cost for ago in range(WEEK, 0, -1) for cost in _hours(case.past.get(ago, []))],
            "today": _hours(case.today),
        }
        for case in cases
    ]
    found: dict[str, list[float]] = {"spent / elapsed": [], "seasonal naive": [], "ETS(A,N,A)": []}
    argv = [python, "-m", "tests.benchmarks.rivals"]
    done = subprocess.run(
        argv, input=json.dumps(inputs), capture_output=True, text=True, check=True
    )
    for day, ets in zip(inputs, json.loads(done.stdout), strict=True):
        spent, yesterday = list(accumulate(day["today"])), day["past"][-24:]
        for hour, usd in zip(HOURS, ets, strict=True):
            so_far = spent[hour - 1]
            said = (so_far * 24 / hour, so_far + sum(yesterday[hour:]), usd)
            for errors, one in zip(found.values(), said, strict=True):
                errors.append(abs(one / spent[-1] - 1))
    return found


def _hours(costs: list[int]) -> list[float]:
    starts = range(0, len(costs), 60)
    return [sum(costs[start : start + 60]) / PICODOLLARS_PER_USD for start in starts]


def figures(errors: Iterable[float]) -> str:
    """Mean and median in one text."""
    found = list(errors)
    return f"error {fmean(found):.3f}, median {median(found):.3f}"


def show(what: str, cases: list[Case], result: Replay, python: Path) -> None:
    """Our figures and the rivals', a line each."""
    errors = [error for day in days(result) for error in day.error.values()]
    print(f"{what}: {figures(errors)}; the band holds {held_by_the_band(result):.0%}", flush=True)
    for name, others in rivals(cases, python).items():
        print(f"    {name:16} {figures(others)}", flush=True)


def show_alarms(what: str, judged: list[JudgedDay]) -> None:
    """Lead and false alarms in one line."""
    leads, false, calm = alarms(judged)
    lead = f"median lead {median(leads):4.1f} h of {len(leads)} days that cross"
    print(f"{what}: {lead}; false alarms on {false} of {calm} calm days", flush=True)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interval", type=int, default=10, help="minutes between evaluations")
    parser.add_argument("--every-shape", action="store_true", help="120 composite days, not 24")
    parser.add_argument("--rivals", type=Path, required=True, help="a Python with statsmodels")
    arguments: Any = parser.parse_args()
    interval, python = arguments.interval, arguments.rivals
    sets = {"real days in their order": real(), "real days, each left out": real_left_out()}
    for name, cases in sets.items():
        show(name, cases, measured(cases, 1, interval, alerts=False), python)
    cases, everything = composites(arguments.every_shape), list[JudgedDay]()
    for limit in LIMITS:
        result = measured(cases, limit, interval)
        if not everything:
            show("composites, each shape left out", cases, result, python)
        everything += (judged := days(result))
        show_alarms(f"    limit {limit:3d}", judged)
    show_alarms("    all limits", everything)


if __name__ == "__main__":
    main()
