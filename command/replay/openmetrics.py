"""The metrics page of an exporter that lived through a history, minute by minute."""

from collections.abc import Callable
from itertools import accumulate
from typing import TextIO

from command.replay.history import MINUTES_PER_DAY, History
from common import names
from common.money import usd

# A midnight (UTC) that is past in every time zone; rules see only differences.
FIRST_MIDNIGHT = 1_600_041_600
LEDGER = f'job="{names.JOB_EXPORTER}",instance="backtest",{names.LEDGER}="backtest"'


def write(file: TextIO, history: History, limit_usd: str, interval_minutes: int) -> None:
    """OpenMetrics text, one sample a series every interval.

    Rules that read other metrics have nothing to say in a replay.
    """
    totals = [0, *accumulate(history.picodollars)]
    for name, figure in _figures(totals, limit_usd).items():
        file.writelines(
            f"{name}{{{_labels(name, minute)}}} {figure(minute)} {FIRST_MIDNIGHT + 60 * minute}\n"
            for minute in range(0, len(history.picodollars), interval_minutes)
        )
    file.write("# EOF\n")


def _labels(name: str, minute: int) -> str:
    """Those of the exporter's page: a figure of a budget day carries the day."""
    if name in (names.LEDGER_COST, names.LEDGER_INFO):
        return LEDGER
    return f'{LEDGER},{names.DAY}="{_day_start(minute)}"'


def _midnight(minute: int) -> int:
    return minute - minute % MINUTES_PER_DAY


def _day_start(minute: int) -> int:
    return FIRST_MIDNIGHT + 60 * _midnight(minute)


def _figures(totals: list[int], limit_usd: str) -> dict[str, Callable[[int], object]]:
    """What each metric says at a minute."""
    return {
        names.LEDGER_COST: lambda minute: usd(totals[minute]),
        names.LEDGER_COST_AT_DAY_START: lambda minute: usd(totals[_midnight(minute)]),
        names.LEDGER_SPEND: lambda minute: usd(totals[minute] - totals[_midnight(minute)]),
        names.DAY_START: _day_start,
        names.DAY_END: lambda minute: _day_start(minute) + 60 * MINUTES_PER_DAY,
        names.DAILY_LIMIT: lambda _: limit_usd,
        names.GRANTED: lambda _: 0,
        names.WRITTEN_OFF: lambda _: 0,
        names.LEDGER_INFO: lambda _: 1,
    }
