"""The metrics page of an exporter that lived through a history, minute by minute."""

from collections.abc import Callable
from itertools import accumulate
from typing import TextIO

from command.replay.history import MINUTES_PER_DAY, History
from common import names
from common.money import usd

# A midnight (UTC) that is past in every time zone; rules see only differences.
FIRST_MIDNIGHT = 1_600_041_600
EXPORTER = f'job="{names.JOB_EXPORTER}",instance="backtest"'
SERIES = f'{EXPORTER},{names.ROASTER}="all",{names.FIELD}="all",{names.MODEL}="all"'


def write(file: TextIO, history: History, limit_usd: str, interval_minutes: int) -> None:
    """OpenMetrics text, one sample a series every interval.

    Rules that read other metrics have nothing to say in a replay.
    """
    totals = [0, *accumulate(history.picodollars)]
    for name, figure in _figures(totals, limit_usd).items():
        labels = SERIES if name in (names.COST, names.COST_AT_DAY_START) else EXPORTER
        labels += ',ledger="backtest"' if name == names.LEDGER_INFO else ""
        file.writelines(
            f"{name}{{{labels}}} {figure(minute)} {FIRST_MIDNIGHT + 60 * minute}\n"
            for minute in range(0, len(history.picodollars), interval_minutes)
        )
    file.write("# EOF\n")


def _figures(totals: list[int], limit_usd: str) -> dict[str, Callable[[int], object]]:
    """What each metric says at a minute."""

    def midnight(minute: int) -> int:
        return minute - minute % MINUTES_PER_DAY

    return {
        names.COST: lambda minute: usd(totals[minute]),
        names.COST_AT_DAY_START: lambda minute: usd(totals[midnight(minute)]),
        names.DAY_START: lambda minute: FIRST_MIDNIGHT + 60 * midnight(minute),
        names.DAY_END: lambda minute: FIRST_MIDNIGHT + 60 * (midnight(minute) + MINUTES_PER_DAY),
        names.DAILY_LIMIT: lambda _: limit_usd,
        names.GRANTED: lambda _: 0,
        names.WRITTEN_OFF: lambda _: 0,
        names.LEDGER_INFO: lambda _: 1,
    }
