"""`llm-budget reprice`: book the cost that was withheld for want of a price."""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from command.flags import EXPORTER, author, command, flag, json_flag, print_json, print_table, why
from command.remote import post
from exporter.ledger.repricing import Reprice, report

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
        found = _ask(arguments, dry_run=True)
        _show(found, arguments.json)
        if arguments.json or not found["lines"] or not _confirmed():
            return 0
    _show(_ask(arguments, dry_run=False), arguments.json)
    return 0


def _ask(arguments: argparse.Namespace, *, dry_run: bool) -> dict[str, Any]:
    wish = Reprice(author(arguments), arguments.reason, arguments.model, dry_run)
    return post(arguments, "/api/v1/reprice", wish, lambda one: report(one.reprice(wish).result()))


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        print("Nothing booked; say --yes to book it.")
        return False
    return input("Book it? [y/N] ").strip().lower() in ("y", "yes")


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    if found["lines"]:
        print_table(COLUMNS, _rows(found["lines"]))
        done = "Would add" if found["dry_run"] else "Booked"
        print(f"{done} ${found['added_usd']}.")
    else:
        print("No withheld cost has a price now.")
    for item in found["withheld"]:
        print(
            f"Still without a price: {item['model']} of {item['provider']}, "
            f"{item['tokens']} tokens; give it one under `prices:` in budget.yml, and reload."
        )


def _rows(lines: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    for line in lines:
        sources = ", ".join(sorted({price["source"] for price in line["prices"]}))
        money = (line["before_usd"], line["added_usd"], line["after_usd"])
        yield line["day"], line["model"], str(line["tokens"]), *money, sources
