"""The replay as a picture: spend, forecast with its band, thresholds, alerts; a panel a day."""

from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from command.replay.history import MINUTES_PER_DAY
from command.replay.judge import JudgedDay
from command.replay.replay import ByMinute, Replay
from common.errors import UserError
from common.money import PICODOLLARS_PER_USD

WIDTH, HEIGHT = 720, 150  # of a day's panel, in pixels
STEP_MINUTES = 10


def write(
    path: Path, replay: Replay, judged: list[JudgedDay], thresholds: dict[str, Decimal]
) -> None:
    """Write an SVG file. Raises UserError."""
    if path.suffix != ".svg":
        raise UserError(f"{path}: the picture is an SVG; name a file that ends in .svg")
    environment = Environment(loader=PackageLoader("command.replay"), autoescape=True)
    svg = environment.get_template("backtest.svg.j2").render(
        panels=[_panel(replay, day, thresholds) for day in judged],
        width=WIDTH, height=HEIGHT, limit=f"{replay.limit_usd:f}",
    )  # fmt: skip
    try:
        path.write_text(svg, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _panel(replay: Replay, day: JudgedDay, thresholds: dict[str, Decimal]) -> dict[str, Any]:
    limit = float(replay.limit_usd)
    # The band may be wild in a day's first hours; what matters is near the limit and the total.
    top = 1.25 * max(limit, day.total_usd)
    start = day.number * MINUTES_PER_DAY
    costs = enumerate(accumulate(replay.history.day(day.number)), start)
    spent = {minute: cost / PICODOLLARS_PER_USD for minute, cost in costs}
    high, low = (_line(series, start, top) for series in (replay.high, replay.low))
    return {
        "day": day,
        "spend": _line(spent, start, top),
        "forecast": _line(replay.forecast, start, top),
        "band": f"{high} {' '.join(reversed(low.split()))}",
        "thresholds": [
            {"name": name, "y": _y(float(ratio) * limit, top)} for name, ratio in thresholds.items()
        ],
        "top": f"{top:.3g}",
        "alerts": [
            {"name": name, "x": _x(firing.first_minute), "false": firing.false_alarm,
             "width": _x(MINUTES_PER_DAY - firing.first_minute)}
            for name, firing in day.alerts.items()
        ],
    }  # fmt: skip


def _line(series: ByMinute, start: int, top: float) -> str:
    minutes = (m for m in range(0, MINUTES_PER_DAY, STEP_MINUTES) if start + m in series)
    return " ".join(f"{_x(minute)},{_y(series[start + minute], top)}" for minute in minutes)


def _x(minute: int) -> float:
    return round(WIDTH * minute / MINUTES_PER_DAY, 1)


def _y(usd: float, top: float) -> float:
    return round(HEIGHT * (1 - min(usd, top) / top), 1)
