"""`llm-budget grant` and `reset`: more money for today, and the runbook's budget reset."""

import argparse
import uuid
from decimal import Decimal
from typing import Any

import msgspec

from command.flags import add_ledger, add_why, author
from command.offline import post, wait
from command.remote import UnreachableError
from common.errors import UserError
from common.money import picodollars, usd
from exporter.ledger.adjustments import Grant, Reset
from exporter.ledger.ledger import Ledger


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add the grant and reset commands."""
    grant = subparsers.add_parser(
        "grant",
        help="add money to today's budget",
        description="Adds to today's budget; it ends with the budget day.",
    )
    grant.add_argument("amount", metavar="AMOUNT", help="USD, for example 12.50")
    grant.set_defaults(run=run_grant)
    reset = subparsers.add_parser(
        "reset",
        help="write off what today has cost so far",
        description="Writes off today's spend so far; totals stay. Again: writes off the rest.",
    )
    reset.set_defaults(run=run_reset)
    for command in (grant, reset):
        add_why(command)
        command.add_argument(
            "--id", metavar="ID", help="the same id counts once, however often sent"
        )
        add_ledger(command)


def run_grant(arguments: argparse.Namespace) -> int:
    """Grant AMOUNT for today."""
    amount = Decimal(usd(picodollars(arguments.amount)))
    return _run(arguments, "/api/v1/grants", Grant(amount_usd=amount, **_who_and_why(arguments)))


def run_reset(arguments: argparse.Namespace) -> int:
    """Write off today's spend so far."""
    return _run(arguments, "/api/v1/resets", Reset(**_who_and_why(arguments)))


def _who_and_why(arguments: argparse.Namespace) -> dict[str, str]:
    return {
        "reason": arguments.reason,
        "author": author(arguments),
        "id": arguments.id or uuid.uuid4().hex,
    }


def _run(arguments: argparse.Namespace, path: str, asked: Reset) -> int:
    def offline(ledger: Ledger) -> dict[str, Any]:
        booked = wait(ledger.adjust(asked))
        print("The exporter is down: written into its ledger.")
        return booked.report()

    try:
        booked = post(arguments, path, msgspec.to_builtins(asked), offline)
    except UnreachableError as error:  # it may have been booked all the same
        raise UserError(f"{error}; then try again with --id {asked.id}") from error
    if booked["duplicate"]:
        print(f"Nothing new: the id {asked.id} was booked before.")
    else:
        done = "Granted" if asked.kind == "grant" else "Wrote off"
        print(f"{done} ${booked['usd']} for {booked['day']}.")
    return 0
