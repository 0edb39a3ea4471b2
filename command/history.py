"""`llm-budget history`: what the receiver put in place, when, why and for whom."""

import argparse
from typing import Any

from rich.table import Column

from command.flags import add_json, add_receiver, print_json, print_table
from command.remote import call


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
    add_receiver(command)
    add_json(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the newest changes."""
    url = arguments.receiver.rstrip("/") + "/api/v1/history"
    changes = call("the receiver", url, params={"limit": str(arguments.limit)})["changes"]
    if arguments.json:
        print_json(changes)
    elif not changes:
        print("Nothing has changed yet.")
    else:
        # Narrow enough for a terminal of 80 columns; what is long goes on in the next line.
        rest = (Column(name, overflow="fold") for name in ("in force", "who", "why"))
        print_table((Column("when", no_wrap=True), *rest), map(_cells, changes))
    return 0


def _cells(change: dict[str, Any]) -> tuple[str, ...]:
    in_force = [f"{change['from']} -> {change['level']}", *change["tunings"]]
    who = change["who"] + (" (shadow)" if change["shadow"] else "")
    why = ": ".join(filter(None, (change.get("said"), change["why"])))
    alerts = f" ({', '.join(change['alerts'])})" if change["alerts"] else ""
    return change["time"][:19] + "Z", "\n".join(in_force), who, why + alerts
