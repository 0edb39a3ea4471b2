"""`llm-budget backtest`: what the rules would have said of a usage history, day by day."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from command.flags import command, file_flag, flag, json_flag, one_of, print_json, print_table
from command.paths import RULES
from command.replay import picture
from command.replay.history import History, read_ledger
from command.replay.judge import JudgedDay, days, summary
from command.replay.replay import Replay, replay
from command.replay.usage_file import COSTS, READERS, read_csv
from command.thresholds import thresholds

RUNBOOK_USD_PER_TOKEN = Decimal("0.00000027")  # the runbook's input price: $0.00027 per 1K
SHOWN_HOURS = (2, 4, 6, 8, 10, 12, 16, 20)


def _usd(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount above 0 in USD")
    return amount


def _names(text: str) -> dict[str, str]:
    names = dict(pair.strip().split("=", 1) for pair in text.split(",") if "=" in pair)
    if not names or text.count(",") >= len(names) or names.keys() - {*READERS, *COSTS}:
        known = ", ".join((*READERS, *COSTS))
        raise argparse.ArgumentTypeError(f"{text!r} is not time=NAME,cost_usd=NAME (or {known})")
    return names


@command(
    "replay a usage history through the real rules",
    one_of(
        file_flag("--csv", help="columns time or minute, and cost_usd or tokens; also .gz"),
        file_flag("--ledger", help="a ledger, along the course of its days"),
        required=True,
    ),
    flag("--columns", type=_names, default={}, metavar="time=…,cost_usd=…",
         help="what the CSV calls them, as in time=created_at,cost_usd=cost"),
    flag("--limit", type=_usd, required=True, metavar="USD", help="daily budget"),
    flag("--usd-per-token", type=_usd, default=RUNBOOK_USD_PER_TOKEN, metavar="USD",
         help=f"price of a token; default: {RUNBOOK_USD_PER_TOKEN:f}, the runbook's input"),
    flag("--interval", type=int, choices=(1, 2, 3, 4, 5, 10), default=1, metavar="MINUTES",
         help="between evaluations; default: 1. From 5 on LLMBudgetBurnRateHigh sees nothing"),
    flag("--rules", type=Path, default=RULES, metavar="FOLDER"),
    file_flag("--picture", help="draw it, as SVG"),
    json_flag(),
)  # fmt: skip
def backtest(arguments: argparse.Namespace) -> int:
    """Replays a usage history through the real rule files on a real Prometheus: forecast errors,
    alerts, lead times and false alarms, day by day.
    """
    if arguments.ledger:
        history = read_ledger(arguments.ledger)
    else:
        history = read_csv(arguments.csv, arguments.usd_per_token, arguments.columns)
    if history.note:
        print(history.note, file=sys.stderr)
    result = _replay(arguments, history)
    judged = days(result)
    if arguments.picture:
        picture.write(arguments.picture, result, judged, thresholds(arguments.rules))
    if not arguments.json:
        _print(judged)
        return 0
    shown = [{**asdict(day), "mean_error": day.mean_error} for day in judged]
    limit, interval = f"{arguments.limit:f}", arguments.interval
    print_json(
        {
            "limit_usd": limit,
            "interval_minutes": interval,
            "summary": summary(judged),
            "days": shown,
        }
    )
    return 0


def _replay(arguments: argparse.Namespace, history: History) -> Replay:
    # On standard error: standard output is the report's.
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("…", total=None)

        def progress(done: int, of: int, what: str) -> None:
            bar.update(task, completed=done, total=of, description=what[:50])

        minutes, folder = arguments.interval, arguments.rules
        return replay(history, arguments.limit, interval_minutes=minutes, folder=folder,
                      progress=progress)  # fmt: skip


def _print(judged: list[JudgedDay]) -> None:
    wide = Console(width=None if sys.stdout.isatty() else 160)
    wide.print("Forecast: error of the day's total, mean over hours 1-23, and by hour")
    hours = (f"{hour} h" for hour in SHOWN_HOURS)
    print_table(
        ("day", "total USD", "crossed", "mean error", *hours), map(_day_cells, judged), wide
    )
    wide.print("\nAlerts: first firing, times that it started, lead before the crossing")
    print_table(("day", "alert", "fired", "times", "lead", ""), _alert_rows(judged), wide)
    figures = summary(judged)
    wide.print(f"\nMean error of days with a history: {_percent(figures['mean_error'])}")
    for name, alert in figures["alerts"].items():
        lead = alert["median_lead_hours"]
        wide.print(
            f"{name}: predicted {alert['days_foretold']} of {alert['days_crossed']} crossings"
            + ("" if lead is None else f", median lead {lead:.1f} h")
            + f"; false alarms on {alert['false_alarm_days']} of {alert['days_calm']} other days"
        )


def _day_cells(day: JudgedDay) -> tuple[str, ...]:
    return (
        str(day.number),
        f"{day.total_usd:.4g}{'' if day.complete else ' so far'}",
        _clock(day.crossed_minute),
        _percent(day.mean_error),
        *(_percent(day.error.get(hour)) for hour in SHOWN_HOURS),
    )


def _alert_rows(judged: list[JudgedDay]) -> Iterator[tuple[str | Text, ...]]:
    for day in judged:
        for name, firing in day.alerts.items():
            lead = "" if firing.lead_hours is None else f"{firing.lead_hours:.1f} h"
            false = Text("false alarm", style="red") if firing.false_alarm else ""
            fired, times = _clock(firing.first_minute), str(firing.episodes)
            yield str(day.number), name, fired, times, lead, false


def _clock(minute: int | None) -> str:
    return "" if minute is None else f"{minute // 60:02d}:{minute % 60:02d}"


def _percent(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.0%}"
