"""`llm-budget grant` and `reset`: more money for today, and the runbook's budget reset."""

import argparse
import uuid
from typing import Any

from command.flags import add_ledger, add_why, author
from command.offline import post, wait
from command.remote import UnreachableError
from common.errors import UserError
from common.money import picodollars, usd
from exporter.ledger.adjustments import Adjustment
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
    amount = picodollars(arguments.amount)
    body = {"amount_usd": usd(amount), **_request(arguments)}
    return _run(arguments, "/api/v1/grants", body, _adjustment("grant", body, amount))


def run_reset(arguments: argparse.Namespace) -> int:
    """Write off today's spend so far."""
    body = _request(arguments)
    return _run(arguments, "/api/v1/resets", body, _adjustment("reset", body))


def _adjustment(kind: Any, body: dict[str, str], amount: int = 0) -> Adjustment:
    return Adjustment(kind, body["reason"], body["author"], amount, body["id"])


def _request(arguments: argparse.Namespace) -> dict[str, str]:
    return {
        "reason": arguments.reason,
        "author": author(arguments),
        "id": arguments.id or uuid.uuid4().hex,
    }


def _run(arguments: argparse.Namespace, path: str, body: dict[str, str], asked: Adjustment) -> int:
    def offline(ledger: Ledger) -> dict[str, Any]:
        booked = wait(ledger.adjust(asked))
        print("The exporter is down: written into its ledger.")
        amount, day = usd(booked.picodollars), booked.day.isoformat()
        return {"usd": amount, "day": day, "duplicate": booked.duplicate}

    try:
        booked = post(arguments, path, body, offline)
    except UnreachableError as error:  # it may have been booked all the same
        raise UserError(f"{error}; then try again with --id {body['id']}") from error
    if booked["duplicate"]:
        print(f"Nothing new: the id {body['id']} was booked before.")
    else:
        done = "Granted" if asked.kind == "grant" else "Wrote off"
        print(f"{done} ${booked['usd']} for {booked['day']}.")
    return 0
