"""The day's curve as geometry: x and y from 0 to 1000, y downward."""

from collections.abc import Mapping
from typing import Any

from common.budget_status import BudgetStatus
from common.money import PICODOLLARS_PER_USD
from exporter.ledger.course import SLOT_SECONDS, Course, spent

LABEL_HEIGHT = 55  # of the picture's 1000, where it is lowest


def chart(
    status: BudgetStatus,
    course: Course,
    forecast: Mapping[str, float],
    exhaustion: Mapping[str, float],
    thresholds: Mapping[str, float],
) -> dict[str, Any]:
    """The curve of spend, with the lines that it must not cross and where it goes.

    forecast: USD at the day's end, today, low and high. exhaustion: Unix seconds, by case.
    thresholds: shares of the limit. What was written off lifts the lines, since the curve has it.
    """
    start, length = status.day.start, status.day.end - status.day.start
    gone = int(min(max(status.now - start, 0), length))
    cost, off = float(status.spend_usd), float(status.written_off_usd)
    limit = float(status.limit)
    high = min(forecast.get("high", 0), 1.5 * max(limit + off, cost))  # early it may be wild
    top = 1.12 * max(limit + off, cost, high) or 1

    def x(seconds: float) -> float:
        return round(1000 * min(max(seconds, 0), length) / length, 1)

    def y(usd: float) -> float:
        return round(1000 * (1 - usd / top), 1)

    times = range(0, gone, SLOT_SECONDS)
    costs = [one / PICODOLLARS_PER_USD for one in spent(course, length, times)]
    here = f"{x(gone)},{y(cost)}"
    curve = " ".join(f"{x(at)},{y(usd)}" for at, usd in zip(times, costs, strict=True))
    bound = y(limit + off)
    # On its way to the day's end the forecast crosses the limit when the rules say that it does.
    ways = {
        name: [*([f"{x(exhaustion[case] - start)},{bound}"] if case in exhaustion else []),
               f"1000,{y(forecast[name])}"]
        for name, case in (("low", ""), ("today", "expected"), ("high", "earliest"))
        if name in forecast
    }  # fmt: skip
    lines: dict[str, tuple[float, str]] = {}  # and their labels, where there is room for one
    above = bound
    for name, part in sorted(thresholds.items(), key=lambda one: -one[1]):
        if part < 1:
            line = y(part * limit + off)
            label = f"{part * 100:.0f} %" if line - above >= LABEL_HEIGHT else ""
            lines[name], above = (line, label), line if label else above
    band = [here, *ways["low"], *reversed(ways["high"])] if {"low", "high"} <= ways.keys() else []
    return {
        "curve": f"{curve} {here}",
        "area": f"{curve} {here} {x(gone)},1000 0,1000",
        "now": (x(gone), y(cost)),
        "limit": bound,
        "thresholds": lines,
        "forecast": " ".join([here, *ways["today"]]) if "today" in ways else "",
        "band": " ".join(band),
        "out": x(exhaustion["expected"] - start) if "expected" in exhaustion else None,
        "quarters": [start + quarter * length // 4 for quarter in range(5)],
    }
