"""`llm-budget report`: calls, tokens and cost of a range of days, as the ledger has them."""

import argparse
import csv
import re
import sys
from decimal import Decimal
from typing import Any

from command.digest import digest
from command.flags import (
    PROMETHEUS,
    RECEIVER,
    command,
    file_flag,
    flag,
    json_flag,
    one_of,
    print_json,
    print_table,
    service,
)
from command.remote import call
from common.auth import read_token
from common.clock import SystemClock
from common.errors import UserError
from common.money import shown
from exporter.ledger.report import FIGURES, GROUPS
from exporter.ledger.report import report as read_report

SOURCE = (
    service("exporter"),
    file_flag("--ledger", help="read this ledger instead, also while its exporter runs"),
)
FORMULA = re.compile("^(?=[=+@\uff1d\uff0b\uff0d\uff20-])")  # what a spreadsheet takes for one


@command(
    "calls, tokens and cost of any days, by day, roaster, field, model",
    flag("--from", dest="since", default="7d", metavar="DAY", help="date, today, 7d (ago), month"),
    flag("--to", dest="until", metavar="DAY", help="the last day; default: today"),
    flag("--by", default="day", metavar="NAMES", help=f"some of {','.join(GROUPS)}, with commas"),
    one_of(flag("--csv", action="store_true", help="for spreadsheets"), json_flag(),
           flag("--digest", action="store_true", help="the daily mail, of --to or yesterday")),
    *(*SOURCE, RECEIVER, PROMETHEUS),
)  # fmt: skip
def report(arguments: argparse.Namespace) -> int:
    """Sums of the budget days from --from to --to, exact; what the ledger has not seen is said."""
    if arguments.digest:
        print(*digest(arguments, ask), sep="", end="")
        return 0
    found = ask(arguments, arguments.since, arguments.until or "today", arguments.by)
    by, rows = found["by"], found["rows"]
    columns = [*by, *FIGURES]
    if arguments.json:
        print_json(found)
    elif arguments.csv:
        cells = ([FORMULA.sub("'", str(row.get(key, ""))) for key in columns] for row in rows)
        csv.writer(sys.stdout, lineterminator="\n").writerows([columns, *cells])
        print(*found["notes"], sep="\n", file=sys.stderr)
    else:
        _print([*rows, found["total"] | {by[0]: "total"}], columns)
        print(*found["notes"], sep="\n")
    return 0


def _print(rows: list[dict[str, Any]], columns: list[str]) -> None:
    """For people: money in cents, and no column of noughts, so that it fits 80 characters."""
    columns = [key for key in columns if any(row.get(key) for row in rows)]
    named = [key.removesuffix("_usd").replace("_", "\n") for key in columns]
    print_table(named, ([_cell(key, row.get(key, "")) for key in columns] for row in rows))


def _cell(key: str, value: Any) -> str:
    return shown(Decimal(value)) if key.endswith("_usd") and value else str(value)


def ask(arguments: argparse.Namespace, *asked: str, timeout: float = 60.0) -> dict[str, Any]:
    """What --ledger, else the exporter, has; asked: since, until, by. Raises UserError."""
    since, until, by = asked
    if arguments.ledger:
        return read_report(arguments.ledger, since, until, by, SystemClock().now())
    params = {"from": since, "to": until, "by": by}
    return ask_exporter(arguments.exporter, "report", "notes", params=params, timeout=timeout)


def ask_exporter(url: str, path: str, key: str, **asked: Any) -> dict[str, Any]:
    """What GET /api/v1/path answers, which has that key; asked: as in call(). Raises UserError."""
    found = call("exporter", url, f"/api/v1/{path}", token=read_token("metrics"), **asked)
    if not isinstance(found, dict) or key not in found:
        raise UserError(f"{url}: the answer is no {path}; is another program listening?")
    return found
