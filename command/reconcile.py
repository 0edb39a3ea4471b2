"""`llm-budget reconcile`: what the provider says that it took, against the books."""

import argparse
from datetime import timedelta

import msgspec
from msgspec.structs import replace

from command.backtest import COLUMNS
from command.flags import command, file_flag, flag, json_flag, print_json, print_table
from command.paths import BUDGET
from command.remote import call
from command.replay.usage_file import read_csv
from command.report import SOURCE
from common.auth import read_token
from common.clock import SystemClock
from common.errors import UserError
from common.money import picodollars, usd
from exporter.config import Provider, load_config
from exporter.ledger.reconcile import Day, Reconciliation, usual_causes
from exporter.ledger.reconcile import reconcile as read_reconciliation


@command(
    "the provider's balance, or its export, against the books",
    flag("--since", metavar="TIME", help="day in UTC (date, today, 7d ago, month), or ISO time"),
    file_flag("--csv", help="the provider's export instead: time (or date) and cost a line"),
    COLUMNS,
    file_flag("--config", BUDGET, help="for provider.usd_per_unit"),
    *SOURCE,
    json_flag(),
)
def reconcile(arguments: argparse.Namespace) -> int:
    """The fall of the balance as the exporter polled it, or the costs of an export, day by day in
    UTC, against what was booked; the difference, and its likely causes.
    """
    provider = load_config(arguments.config).provider
    if arguments.csv:
        found = _with_export(arguments, provider)
    elif (found := _ask(arguments, arguments.since or "7d", provider)).problem:
        raise UserError(found.problem)
    if arguments.json:
        print_json(msgspec.to_builtins(found))
        return 0
    columns = ("charged_usd", "topped_up_usd", "booked_usd", "difference_usd")
    days = [*found.days, found.total]
    print_table(
        ("UTC day", *(name.replace("_", " ") for name in columns)),
        ([day.day, *(getattr(day, name) or "" for name in columns)] for day in days),
    )
    print(f"From {found.since} to {found.until}.", *found.causes, sep="\n")
    return 0


def _ask(arguments: argparse.Namespace, since: str, provider: Provider | None) -> Reconciliation:
    """What --ledger, else the exporter, has since then; with --csv without the balance."""
    balance = not arguments.csv
    if arguments.ledger:
        now = SystemClock().now()
        return read_reconciliation(arguments.ledger, since, now, provider, balance=balance)
    asked = {"since": since, "balance": str(int(balance))}
    url, path, token = arguments.exporter, "/api/v1/reconcile", read_token("metrics")
    found = call("exporter", url, path, token=token, params=asked, timeout=60.0)
    try:
        return msgspec.convert(found, Reconciliation)
    except msgspec.ValidationError as error:
        raise UserError(f"{url}: the answer is no reconciliation ({error})") from error


def _with_export(arguments: argparse.Namespace, provider: Provider | None) -> Reconciliation:
    """The export's days, as if the provider had charged so much."""
    rate = provider.usd_per_unit if provider else None
    history = read_csv(arguments.csv, None, arguments.columns, rate)
    if (first := history.begins) is None:
        raise UserError(f"{arguments.csv} tells minutes of no known day; it needs a column time")
    dates = (f"{first + timedelta(number)}" for number in range(history.days))
    export = {day: sum(history.day(number)) for number, day in enumerate(dates)}
    found = _ask(arguments, arguments.since or f"{first}", provider)
    days = [
        _day(one.day, one.booked_usd, export[one.day]) for one in found.days if one.day in export
    ]
    if not days:
        raise UserError(
            f"no day of {arguments.csv} ({first} to {max(export)}) has passed since then"
        )
    if len(days) < len(export):
        found.causes.append(f"{len(export) - len(days)} days of the export are out of this range.")
    whole = usd(sum(picodollars(day.booked_usd) for day in days))
    total = _day("total", whole, sum(export[day.day] for day in days))
    causes = [*found.causes, *usual_causes(days, total)]
    return replace(found, days=days, total=total, causes=causes)


def _day(name: str, booked: str, charged: int) -> Day:
    return Day(name, booked, usd(charged), None, usd(charged - picodollars(booked)))
