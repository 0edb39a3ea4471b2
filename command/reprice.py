"""`llm-budget reprice`: book the cost that was withheld for want of a price."""

import argparse
import sys
from typing import Any

from command.flags import EXPORTER, author, command, flag, json_flag, print_json, print_table, why
from command.remote import post
from exporter.ledger.repricing import Reprice

COLUMNS = ("day", "model", "tokens", "before USD", "added USD", "after USD", "price of")


@command(
    "book withheld cost of models that have a price now",
    flag("--model", metavar="NAME", help="this model only"),
    flag("--yes", action="store_true", help="book without asking"),
    json_flag("for programs; books only with --yes"),
    *(*why(required=False, default="a price became known"), *EXPORTER),
)
def reprice(arguments: argparse.Namespace) -> int:
    """Shows what withheld usage costs at the prices now known, each call at its own time, then
    books it. Nothing already booked changes; run again, it finds nothing.
    """
    if not arguments.yes:
        found = _reprice(arguments, dry_run=True)
        if arguments.json or not found["lines"] or not _confirmed():
            return 0
    _reprice(arguments, dry_run=False)
    return 0


def _reprice(arguments: argparse.Namespace, *, dry_run: bool) -> dict[str, Any]:
    wish = Reprice(author(arguments), arguments.reason, arguments.model, dry_run)
    found = post(arguments, "/api/v1/reprice", wish, lambda one: one.reprice(wish).result().report)
    (print_json if arguments.json else _print)(found)
    return found


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        print("Nothing booked; say --yes to book it.")
        return False
    return input("Book it? [y/N] ").strip().lower() in ("y", "yes")


def _print(found: dict[str, Any]) -> None:
    if found["lines"]:
        print_table(COLUMNS, map(_cells, found["lines"]))
        done = "Would add" if found["dry_run"] else "Booked"
        print(f"{done} ${found['added_usd']}.")
    else:
        print("No withheld cost has a price now.")
    for item in found["withheld"]:
        print(
            f"Still without a price: {item['model']} of {item['provider']}, "
            f"{item['tokens']} tokens; give it one under `prices:` in budget.yml, and reload."
        )


def _cells(line: dict[str, Any]) -> tuple[str, ...]:
    sources = ", ".join(sorted({price["source"] for price in line["prices"]}))
    figures = (str(line[key]) for key in ("tokens", "before_usd", "added_usd", "after_usd"))
    return (line["day"], line["model"], *figures, sources)
