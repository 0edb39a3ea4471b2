"""A replay judged day by day: how wrong the forecast was, and what each alert was good for."""

from dataclasses import dataclass, field
from itertools import accumulate
from statistics import fmean, median
from typing import Any

from command.replay.history import MINUTES_PER_DAY
from command.replay.replay import Replay
from common.money import PICODOLLARS_PER_USD, picodollars

# Those that foretell; the others state what is spent, and cannot be wrong.
FORETELLING = ("LLMBudgetPredictedExhaustion", "LLMBudgetBurnRateHigh")


@dataclass(frozen=True)
class Firing:
    """An alert on one day. Minutes count from that day's start."""

    first_minute: int
    episodes: int  # times that it started; more than one is flapping
    lead_hours: float | None  # from the first firing to the crossing; None without a crossing
    false_alarm: bool


@dataclass(frozen=True)
class JudgedDay:
    """One day. Ratios are of the day's total; an unfinished day has no errors."""

    number: int  # 0 is the first
    complete: bool
    total_usd: float
    crossed_minute: int | None  # from the day's start: when the spend reached the limit
    forecast_usd: dict[int, float]  # by hour
    error: dict[int, float]  # |forecast - total| / total, by hour 1-23
    alerts: dict[str, Firing] = field(default_factory=dict)

    @property
    def mean_error(self) -> float | None:
        return fmean(self.error.values()) if self.error else None


def days(replay: Replay) -> list[JudgedDay]:
    """Every day of the replay, judged."""
    return [_day(replay, number) for number in range(replay.history.days)]


def summary(judged: list[JudgedDay]) -> dict[str, Any]:
    """All days with a history (the second on) in a few figures; None where nothing was measured."""
    tested = [day for day in judged if day.number > 0 and day.complete]
    errors = [error for day in tested for error in day.error.values()]
    return {
        "days": len(judged),
        "days_crossed": sum(day.crossed_minute is not None for day in judged),
        "mean_error": fmean(errors) if errors else None,
        "alerts": {name: _alert_summary(name, tested) for name in FORETELLING},
    }


def _alert_summary(name: str, tested: list[JudgedDay]) -> dict[str, Any]:
    crossed = [day for day in tested if day.crossed_minute is not None]
    calm = [day for day in tested if day.crossed_minute is None]
    firings = [day.alerts.get(name) for day in crossed]
    # Hours of warning; none when it came late or never.
    leads = [max(firing.lead_hours or 0.0, 0.0) if firing else 0.0 for firing in firings]
    return {
        "days_crossed": len(crossed),
        "days_foretold": sum(lead > 0 for lead in leads),
        "median_lead_hours": median(leads) if leads else None,
        "days_calm": len(calm),
        "false_alarm_days": sum(name in day.alerts for day in calm),
    }


def _day(replay: Replay, number: int) -> JudgedDay:
    costs = replay.history.day(number)
    limit = picodollars(replay.limit_usd)
    spent = list(accumulate(costs))
    crossed = next((minute + 1 for minute, cost in enumerate(spent) if cost >= limit), None)
    complete = len(costs) == MINUTES_PER_DAY
    total = spent[-1] / PICODOLLARS_PER_USD
    start = number * MINUTES_PER_DAY
    times = {hour: start + 60 * hour for hour in range(24)}
    forecast = {h: replay.forecast[time] for h, time in times.items() if time in replay.forecast}
    judged = complete and total > 0
    error = {h: abs(usd - total) / total for h, usd in forecast.items() if judged and h > 0}
    alerts = {
        name: firing
        for name, minutes in replay.firing.items()
        if (firing := _firing(name, minutes, start, replay.interval_minutes, crossed, complete))
    }
    return JudgedDay(number, complete, total, crossed, forecast, error, alerts)


def _firing(
    name: str, minutes: list[int], start: int, interval: int, crossed: int | None, complete: bool
) -> Firing | None:
    today = [minute - start for minute in minutes if 0 <= minute - start < MINUTES_PER_DAY]
    fired = set(minutes)
    starts = [minute for minute in today if start + minute - interval not in fired]
    if not starts:  # what began before midnight is the day before's
        return None
    lead = None if crossed is None else (crossed - starts[0]) / 60
    false_alarm = name in FORETELLING and complete and crossed is None
    return Firing(starts[0], len(starts), lead, false_alarm)
