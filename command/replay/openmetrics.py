"""The metrics page of an exporter that lived through a history, minute by minute."""

from itertools import accumulate
from typing import TextIO

from command.replay.history import MINUTES_PER_DAY, History
from common import names
from common.money import usd

SECONDS_PER_DAY = 86_400
# A midnight (UTC) that is past in every time zone; rules see only differences.
FIRST_MIDNIGHT = 1_600_041_600
EXPORTER = f'job="{names.JOB_EXPORTER}",instance="backtest"'
SERIES = f'{EXPORTER},{names.ROASTER}="all",{names.FIELD}="all",{names.MODEL}="all"'

# What is synthesized: rules that read other metrics have nothing to say here.
PUBLISHED = (
    names.COST, names.COST_AT_DAY_START, names.DAY_START, names.DAY_END, names.DAILY_LIMIT,
    names.GRANTED, names.WRITTEN_OFF, names.LEDGER_INFO,
)  # fmt: skip


def write(file: TextIO, history: History, limit_usd: str, interval_minutes: int) -> None:
    """OpenMetrics text, one sample a series every interval."""
    totals = [0, *accumulate(history.picodollars)]
    for name in PUBLISHED:
        labels = SERIES if name in (names.COST, names.COST_AT_DAY_START) else EXPORTER
        labels += ',ledger="backtest"' if name == names.LEDGER_INFO else ""
        for minute in range(0, len(history.picodollars), interval_minutes):
            value = _value(name, minute, totals, limit_usd)
            file.write(f"{name}{{{labels}}} {value} {FIRST_MIDNIGHT + 60 * minute}\n")
    file.write("# EOF\n")


def _value(name: str, minute: int, totals: list[int], limit_usd: str) -> str:
    day = minute // MINUTES_PER_DAY
    match name:
        case names.COST:
            return usd(totals[minute])
        case names.COST_AT_DAY_START:
            return usd(totals[day * MINUTES_PER_DAY])
        case names.DAY_START:
            return str(FIRST_MIDNIGHT + day * SECONDS_PER_DAY)
        case names.DAY_END:
            return str(FIRST_MIDNIGHT + (day + 1) * SECONDS_PER_DAY)
        case names.DAILY_LIMIT:
            return limit_usd
        case names.LEDGER_INFO:
            return "1"
        case _:
            return "0"
