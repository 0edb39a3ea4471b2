"""How good the forecast is: real days and composites, each day left out in turn, the real rules.

make bench-forecast        # all of it; some minutes
"""

import argparse
import csv
import gzip
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from statistics import fmean, median

from command.replay.history import DAYS_AGO, MINUTES_PER_DAY, History
from command.replay.judge import FORETELLING, JudgedDay, days
from command.replay.replay import replay
from tests.support.paths import DATA

PREDICTED = FORETELLING[0]
PICODOLLARS_PER_TOKEN = 1_000_000  # 1 USD a million tokens
WEEK = 7
# In millions of tokens: between a busy day and a wild one of the 31 real totals (1.3 to 107).
LIMITS = (8, 16, 25, 36, 50)


def shapes() -> list[list[int]]:
    """Tokens per minute of the five real days."""
    with gzip.open(DATA / "burstgpt_minutes_day0-4.csv.gz", "rt") as file:
        tokens = [int(row["tokens"]) for row in csv.DictReader(file)]
    return [tokens[start : start + MINUTES_PER_DAY] for start in range(0, len(tokens), 1440)]


def totals() -> list[int]:
    """Tokens of the 31 real days."""
    with open(DATA / "burstgpt_days0-30.csv") as file:
        return [int(row["tokens"]) for row in csv.DictReader(file)]


def composite(shape: list[int], total: int) -> list[int]:
    """A day of that total and that shape, in pico-dollars a minute."""
    share = total * PICODOLLARS_PER_TOKEN / sum(shape)
    return [round(tokens * share) for tokens in shape]


@dataclass(frozen=True)
class Tested(History):
    """Days with a past of their own, which is not the days before them."""

    pasts: tuple[dict[int, list[int]], ...] = ()

    def before(self, number: int) -> dict[int, list[int]]:
        """As the benchmark composed it."""
        return self.pasts[number]


def left_out(tested: list[tuple[int, int]]) -> Tested:
    """The tested (day, shape); the days before, as far as they are known, have the other shapes."""
    forms, sizes, minutes, pasts = shapes(), totals(), [], []
    for day, shape in tested:
        others = [form for number, form in enumerate(forms) if number != shape]
        minutes += composite(forms[shape], sizes[day])
        known = [day - ago for ago in DAYS_AGO if ago <= day]
        pasts.append({day - one: composite(others[one % len(others)], sizes[one]) for one in known})
    return Tested(minutes, pasts=tuple(pasts))


def real(order: list[int]) -> History:
    """Real days, one after the other."""
    forms = shapes()
    return History([tokens * PICODOLLARS_PER_TOKEN for day in order for tokens in forms[day]])


def composites(every_shape: bool) -> list[tuple[int, int]]:
    """The days from the eighth on, each with one real shape in rotation, or with every shape."""
    tested = range(WEEK, len(totals()))
    return [(day, shape) for day in tested for shape in range(5) if every_shape or shape == day % 5]


def measure_real(interval: int) -> list[float]:
    """Errors of days 1-4 in their order, hours 1-23."""
    history = real([0, 1, 2, 3, 4])
    judged = days(replay(history, Decimal(1), interval_minutes=interval, alerts=False))
    return [error for day in judged[1:] for error in day.error.values()]


def measure_real_left_out(interval: int) -> list[float]:
    """Errors of each real day with the other four as its history, hours 1-23."""
    errors = []
    for last in range(5):
        order = [(last + 1 + step) % 5 for step in range(5)]
        judged = days(replay(real(order), Decimal(1), interval_minutes=interval, alerts=False))
        errors += list(judged[-1].error.values())
    return errors


def measure_composites(tested: list[tuple[int, int]], limit: int, interval: int) -> list[JudgedDay]:
    """The tested days, judged against a limit in USD (= millions of tokens)."""
    return days(replay(left_out(tested), Decimal(limit), interval_minutes=interval))


def alarms(judged: list[JudgedDay]) -> tuple[list[float], int, int]:
    """Lead in hours for each day that crossed, false-alarm days, days that did not cross."""
    leads = [
        max(day.alerts[PREDICTED].lead_hours or 0.0, 0.0) if PREDICTED in day.alerts else 0.0
        for day in judged
        if day.crossed_minute is not None
    ]
    calm = [day for day in judged if day.crossed_minute is None]
    return leads, sum(PREDICTED in day.alerts for day in calm), len(calm)


def linear(tested: list[list[int]]) -> float:
    """The error of spent / elapsed on the same days, for comparison."""
    errors = []
    for costs in tested:
        spent = list(accumulate(costs))
        errors += [abs(spent[60 * h - 1] * 24 / h / spent[-1] - 1) for h in range(1, 24)]
    return fmean(errors)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interval", type=int, default=10, help="minutes between evaluations")
    parser.add_argument("--every-shape", action="store_true", help="120 composite days, not 24")
    arguments = parser.parse_args()
    interval = arguments.interval
    print(f"real days 1-4         error {fmean(measure_real(interval)):.3f}", end="")
    print(f"   (spent / elapsed {linear([real([day]).picodollars for day in range(1, 5)]):.3f})")
    print(f"real, each left out   error {fmean(measure_real_left_out(interval)):.3f}")
    everything = []
    for limit in LIMITS:
        judged = measure_composites(composites(arguments.every_shape), limit, interval)
        everything += judged
        print(line(f"composites, limit {limit:3d}", judged), flush=True)
    print(line("composites, all", everything))


def line(what: str, judged: list[JudgedDay]) -> str:
    """The figures of some days in one line."""
    errors = [error for day in judged for error in day.error.values()]
    leads, false, calm = alarms(judged)
    return (
        f"{what:21} error {fmean(errors):.3f}   lead {median(leads):4.1f} h of {len(leads)} days   "
        f"false alarms {false} of {calm} calm days"
    )


if __name__ == "__main__":
    main()
