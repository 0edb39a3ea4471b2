"""The metrics page of an exporter that lived through a history, minute by minute."""

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
    for minute in range(0, len(history.picodollars), interval_minutes):
        midnight = minute - minute % MINUTES_PER_DAY
        day_start = FIRST_MIDNIGHT + 60 * midnight
        ledger = {names.LEDGER_COST: usd(totals[minute]), names.LEDGER_INFO: 1}
        of_day = {  # these carry the day, as on the exporter's page
            names.LEDGER_COST_AT_DAY_START: usd(totals[midnight]),
            names.LEDGER_SPEND: usd(totals[minute] - totals[midnight]),
            names.DAY_START: day_start,
            names.DAY_END: day_start + 60 * MINUTES_PER_DAY,
            names.DAILY_LIMIT: limit_usd,
            names.GRANTED: 0,
            names.WRITTEN_OFF: 0,
        }
        day = f'{LEDGER},{names.DAY}="{day_start}"'
        time = FIRST_MIDNIGHT + 60 * minute
        for labels, figures in ((LEDGER, ledger.items()), (day, of_day.items())):
            file.writelines(f"{name}{{{labels}}} {value} {time}\n" for name, value in figures)
    file.write("# EOF\n")
