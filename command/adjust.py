"""`llm-budget grant` and `reset`: more money for today, and the runbook's budget reset."""

import argparse
import uuid
from decimal import Decimal
from typing import Any

from command.flags import EXPORTER, author, command, flag, why
from command.remote import UnreachableError, post
from common.errors import UserError
from common.money import picodollars, usd
from exporter.ledger.adjustments import Grant, Reset
from exporter.ledger.ledger import Ledger

ID = flag("--id", metavar="ID", help="the same id counts once, however often sent")


@command(
    "add money to today's budget",
    flag("amount", metavar="AMOUNT", help="USD, for example 12.50"),
    *(*why(), ID, *EXPORTER),
)
def grant(arguments: argparse.Namespace) -> int:
    """Adds to today's budget; it ends with the budget day."""
    amount = Decimal(usd(picodollars(arguments.amount)))
    return _run(arguments, "/api/v1/grants", Grant, amount_usd=amount)


@command("write off what today has cost so far", *why(), ID, *EXPORTER)
def reset(arguments: argparse.Namespace) -> int:
    """Writes off today's spend so far; totals stay. Again: writes off the rest."""
    return _run(arguments, "/api/v1/resets", Reset)


def _run(arguments: argparse.Namespace, path: str, kind: type[Reset], **amount: Decimal) -> int:
    name, who = arguments.id or uuid.uuid4().hex, author(arguments)
    asked = kind(reason=arguments.reason, author=who, id=name, **amount)

    def offline(ledger: Ledger) -> dict[str, Any]:
        booked = ledger.adjust(asked).result()
        print("The exporter is down: written into its ledger.")
        return booked.report()

    try:
        booked = post(arguments, path, asked, offline)
    except UnreachableError as error:  # it may have been booked all the same
        raise UserError(f"{error}; then try again with --id {asked.id}") from error
    if booked["duplicate"]:
        print(f"Nothing new: the id {asked.id} was booked before.")
    else:
        done = "Granted" if asked.kind == "grant" else "Wrote off"
        print(f"{done} ${booked['usd']} for {booked['day']}.")
    return 0
