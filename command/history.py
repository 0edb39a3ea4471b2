"""`llm-budget history`: what the receiver put in place, when, why and for whom."""

import argparse
from typing import Any

from rich.table import Column

from command.flags import RECEIVER, command, flag, json_flag, print_json, print_table
from command.remote import call


@command(
    "the changes of the effective config, from the audit trail",
    flag("--limit", type=int, default=20, metavar="N", help="default 20, at most 1000"),
    *(RECEIVER, json_flag()),
)
def history(arguments: argparse.Namespace) -> int:
    """When, from, to, why, who and which alerts; the newest last."""
    asked = {"limit": str(arguments.limit)}
    changes = call("receiver", arguments.receiver, "/api/v1/history", params=asked)["changes"]
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
