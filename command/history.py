"""`llm-budget history`: what the receiver put in place, when, why and for whom."""

import argparse
import os
import sys
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from command.flags import RECEIVER, Out, command, flag, json_flag, print_json, safe, service
from command.remote import call, exporter_status
from common.errors import UserError

MOST = 24  # columns, of all but the reason
LONG = 1000  # columns of a file, which is not cut


@command(
    "the changes of the effective config, from the audit trail",
    flag("--limit", type=int, default=20, metavar="N", help="default 20, at most 1000"),
    *(RECEIVER, service("exporter"), json_flag()),
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
        # A line a change: a terminal cuts what is too long for it, a file has all of it.
        zone = _zone(arguments.exporter)
        names = (f"when ({zone.key})", "in force", "who", "why")
        console = Out(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else LONG)
        rows = [names, *(_cells(change, zone) for change in changes)]
        widths = [min(MOST, max(map(len, cells))) for cells in zip(*rows, strict=True)][:3]
        for row in rows:
            cells = [
                f"{cell if len(cell) <= width else cell[: width - 1] + '…':{width}}"
                for cell, width in zip(row, widths, strict=False)
            ]
            text = safe("  ".join([*cells, row[-1]]))
            console.print(text, no_wrap=True, overflow="ellipsis", highlight=False)
    return 0


def _zone(exporter: str) -> ZoneInfo:
    """The budget's; UTC while no exporter tells it."""
    try:
        return ZoneInfo(exporter_status(exporter).day.timezone)
    except (UserError, ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def _cells(change: dict[str, Any], zone: ZoneInfo) -> tuple[str, ...]:
    when = datetime.fromisoformat(change["time"]).astimezone(zone)
    tunings = change["tunings"]
    others = [f"+{len(tunings) - 1}"] * (len(tunings) > 1)
    in_force = [f"{change['from']} -> {change['level']}", *tunings[:1], *others]
    who = change["who"] + (" (shadow)" if change["shadow"] else "")
    why = ": ".join(filter(None, (change.get("said"), change["why"])))
    alerts = f" ({', '.join(change['alerts'])})" if change["alerts"] else ""
    return f"{when:%Y-%m-%d %H:%M:%S}", " ".join(in_force), who, why + alerts
