"""`llm-budget reconcile`: what the provider says that it took, against the books."""

import argparse
from collections import Counter
from datetime import UTC, datetime, time, tzinfo
from typing import Any

from command.backtest import COLUMNS
from command.flags import command, file_flag, flag, json_flag, print_json, print_table
from command.paths import BUDGET
from command.replay.usage_file import costs
from command.report import SOURCE, ask_exporter
from common.clock import SystemClock
from common.errors import UserError
from common.money import picodollars
from exporter.config import load_config
from exporter.ledger import reconcile as books


@command(
    "the provider's balance, or its export, against the books",
    flag("--since", metavar="TIME", help="day (date, today, 7d ago, month), or ISO time"),
    file_flag("--csv", help="the provider's export instead: time (or date) and cost a line"),
    COLUMNS,
    file_flag("--config", BUDGET, help="for provider.usd_per_unit"),
    *SOURCE,
    json_flag(),
)
def reconcile(arguments: argparse.Namespace) -> int:
    """The fall of the balance as the exporter polled it, or the costs of an export, day by day,
    against what was booked; the difference, and its likely causes.
    """
    if arguments.csv:
        found = _with_export(arguments)
    elif (found := _ask(arguments, arguments.since or "7d"))["problem"]:
        raise UserError(found["problem"])
    if arguments.json:
        print_json(found)
        return 0
    columns = ["day", *books.COLUMNS]
    rows = ([day[one] or "" for one in columns] for day in (*found["days"], found["total"]))
    print_table([one.replace("_", " ") for one in columns], rows)
    print("From {since} to {until}, by days of {zone}.".format(**found), *found["causes"], sep="\n")
    return 0


def _ask(arguments: argparse.Namespace, since: str) -> dict[str, Any]:
    """What --ledger, else the exporter, has since then; with --csv without the balance."""
    balance, provider = not arguments.csv, load_config(arguments.config).provider
    if arguments.ledger:
        now = SystemClock().now()
        return books.reconcile(arguments.ledger, since, now, provider, balance=balance)
    asked = {"since": since, "balance": str(int(balance))}
    return ask_exporter(arguments.exporter, "reconcile", "zone", params=asked, timeout=60.0)


def _with_export(arguments: argparse.Namespace) -> dict[str, Any]:
    """The export's days, as if the provider had charged so much."""
    charged, zone = _export(arguments)
    since = books.instant(arguments.since or min(charged), SystemClock().now(), zone or UTC)
    zone = zone or since.tzinfo
    found = _ask(arguments, datetime.combine(since.astimezone(zone), time(), zone).isoformat())
    days = {day["day"]: picodollars(day["booked_usd"]) for day in found["days"]}
    first, last = min(charged), max(charged)
    parts = {day: (charged[day], None, days[day]) for day in days if first <= day <= last}
    if not parts:
        raise UserError(f"no day of {arguments.csv} ({first} to {last}) has passed since then")
    if out := len(charged.keys() - parts):
        found["causes"].append(f"{out} days of the export are out of this range.")
    return found | books.compare(parts, found["causes"])


def _export(arguments: argparse.Namespace) -> tuple[Counter[str], tzinfo | None]:
    """Pico-dollars by the export's own days, and the zone of its times if they name one."""
    charged, zones, path = Counter[str](), set[tzinfo | None](), arguments.csv
    provider = load_config(arguments.config).provider
    rates = (None, provider.usd_per_unit if provider else None)
    for (_, when), cost in costs(path, arguments.columns, rates):
        if when is None:
            raise UserError(f"{path} tells minutes of no known day; it needs a column time")
        charged[f"{when.date()}"] += cost
        zones.add(when.tzinfo)
    if len(zones) > 1:
        several = ", ".join(sorted(f"{zone or 'none'}" for zone in zones))
        raise UserError(f"{path} has times of several zones ({several}), and so no days of one")
    return charged, zones.pop()
