"""`llm-budget history`: what the receiver put in place, when, why and for whom."""

import argparse
import json
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from command.remote import RECEIVER_URL, call


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add the history command."""
    command = subparsers.add_parser(
        "history",
        help="the changes of the effective config, from the audit trail",
        description="When, from, to, why, who and which alerts; the newest last.",
    )
    command.add_argument(
        "--limit", type=int, default=20, metavar="N", help="default 20, at most 1000"
    )
    command.add_argument("--receiver", default=RECEIVER_URL, metavar="URL")
    command.add_argument("--json", action="store_true", help="for programs")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the newest changes."""
    url = arguments.receiver.rstrip("/") + "/api/v1/history"
    params = {"limit": str(arguments.limit)}
    changes = call("the receiver", url, params=params)["changes"]
    if arguments.json:
        print(json.dumps(changes, indent=2))
    elif not changes:
        print("Nothing has changed yet.")
    else:
        Console().print(_table(changes))
    return 0


def _table(changes: list[dict[str, Any]]) -> Table:
    """Narrow enough for a terminal of 80 columns; what is long goes on in the next line."""
    rest = (Column(name, overflow="fold") for name in ("in force", "who", "why"))
    table = Table(Column("when", no_wrap=True), *rest, box=None)
    for change in changes:
        in_force = [f"{change['from']} -> {change['level']}", *change["tunings"]]
        who = change["who"] + (" (shadow)" if change["shadow"] else "")
        why = ": ".join(filter(None, (change.get("said"), change["why"])))
        asked = [f"({', '.join(change['alerts'])})"] if change["alerts"] else []
        cells = (change["time"][:19] + "Z", "\n".join(in_force), who, " ".join([why, *asked]))
        table.add_row(*map(Text, cells))  # Text: a person's reason is no markup
    return table
