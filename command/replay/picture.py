"""The replay as a picture: spend, forecast with its band, thresholds, alerts; a panel a day."""

import subprocess
import tempfile
from collections.abc import Iterable
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from command.replay.history import MINUTES_PER_DAY
from command.replay.judge import Day
from command.replay.replay import Replay, Series
from command.stack.binaries import find
from common.errors import UserError
from common.money import PICODOLLARS_PER_USD

WIDTH, HEIGHT = 720, 150  # of a day's panel, in pixels
STEP_MINUTES = 10
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def write(path: Path, replay: Replay, judged: list[Day], thresholds: dict[str, Decimal]) -> None:
    """Write an SVG file, or a PNG file by way of an installed Chromium. Raises UserError."""
    if path.suffix not in (".svg", ".png"):
        raise UserError(f"{path}: a picture ends in .svg or .png")
    svg = render(replay, judged, thresholds)
    try:
        if path.suffix == ".svg":
            path.write_text(svg, encoding="utf-8")
        else:
            _png(path, svg, len(judged))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def render(replay: Replay, judged: list[Day], thresholds: dict[str, Decimal]) -> str:
    """The SVG text."""
    environment = Environment(loader=PackageLoader("command.replay"), autoescape=True)
    return environment.get_template("backtest.svg.j2").render(
        panels=[_panel(replay, day, thresholds) for day in judged],
        width=WIDTH, height=HEIGHT, limit=f"{replay.limit_usd:f}",
    )  # fmt: skip


def _panel(replay: Replay, day: Day, thresholds: dict[str, Decimal]) -> dict[str, Any]:
    limit = float(replay.limit_usd)
    # The band may be wild in a day's first hours; what matters is near the limit and the total.
    top = 1.25 * max(limit, day.total_usd)
    start = day.number * MINUTES_PER_DAY
    spent = [c / PICODOLLARS_PER_USD for c in accumulate(replay.history.day(day.number))]
    high, low = (_line(series, start, top) for series in (replay.high, replay.low))
    return {
        "day": day,
        "spend": _points(((m, spent[m]) for m in range(0, len(spent), STEP_MINUTES)), top),
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


def _line(series: Series, start: int, top: float) -> str:
    minutes = range(0, MINUTES_PER_DAY, STEP_MINUTES)
    return _points(((m, series[start + m]) for m in minutes if start + m in series), top)


def _points(values: Iterable[tuple[int, float]], top: float) -> str:
    return " ".join(f"{_x(minute)},{_y(value, top)}" for minute, value in values)


def _x(minute: int) -> float:
    return round(WIDTH * minute / MINUTES_PER_DAY, 1)


def _y(usd: float, top: float) -> float:
    return round(HEIGHT * (1 - min(usd, top) / top), 1)


def _png(path: Path, svg: str, panels: int) -> None:
    browser = next((found for name in BROWSERS if (found := find(name))), None)
    if browser is None:
        raise UserError(f"{path}: a PNG needs Chromium (apt-get install chromium); or name an .svg")
    with tempfile.TemporaryDirectory(prefix="llm-budget-picture-") as folder:
        source = Path(folder) / "picture.svg"
        source.write_text(svg, encoding="utf-8")
        argv = [
            str(browser), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--user-data-dir={folder}/profile", f"--screenshot={path.resolve()}",
            f"--window-size={WIDTH + 200},{panels * (HEIGHT + 90) + 80}", source.as_uri(),
        ]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    if done.returncode != 0 or not path.exists():
        raise UserError(f"{browser} could not draw {path}; name an .svg instead")
