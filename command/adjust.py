"""`llm-budget grant`, `reset` and `revoke`: today's money, and what becomes of the level."""

import argparse
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

from rich.console import Console
from rich.text import Text

from command.degrade import held, in_force, not_live
from command.flags import EXPORTER, RECEIVER, author, command, flag, why
from command.remote import UnreachableError, call, exporter_status, post
from command.thresholds import level_at
from common import signals
from common.budget_status import BudgetStatus
from common.errors import UserError
from common.money import picodollars, shown, usd
from exporter.ledger.adjustments import Grant, Reset, Revoke

POLL_SECONDS = 0.5
COMMON = (
    *why(),
    flag("--id", metavar="ID", help="the same id counts once, however often sent"),
    flag("--wait", action="store_true", help="until the level follows; exit status 1: not in time"),
    flag("--timeout", type=float, default=120.0, metavar="SECONDS", help="of --wait; default 120"),
    *(RECEIVER, *EXPORTER),
)


@command(
    "add money to today's budget",
    flag("amount", metavar="AMOUNT", help="USD, for example 12.50"),
    flag("--roaster", default="", metavar="NAME", help="to this roaster's own cap alone"),
    flag("--yes", action="store_true", help="also if it is above ten times the daily limit"),
    *COMMON,
)
def grant(arguments: argparse.Namespace) -> int:
    """Adds to today's budget; it ends with the budget day."""
    amount = Decimal(usd(picodollars(arguments.amount)))
    asked = partial(Grant, amount_usd=amount, roaster=arguments.roaster, yes=arguments.yes)
    return _run(arguments, asked)


@command("write off what today has cost so far", *COMMON)
def reset(arguments: argparse.Namespace) -> int:
    """Writes off today's spend so far; totals stay. Again: writes off the rest."""
    return _run(arguments, Reset)


@command(
    "undo a grant or reset of today",
    flag("number", type=int, metavar="NUMBER", help="as grant and reset print it"),
    *COMMON,
)
def revoke(arguments: argparse.Namespace) -> int:
    """Takes a grant's money back, or makes what was written off count again; once."""
    return _run(arguments, partial(Revoke, number=arguments.number))


def _run(arguments: argparse.Namespace, kind: Callable[..., Reset]) -> int:
    name, who = arguments.id or uuid.uuid4().hex, author(arguments)
    asked = kind(reason=arguments.reason, author=who, id=name)
    try:
        path = f"/api/v1/{asked.kind}s"
        booked = post(arguments, path, asked, lambda one: one.adjust(asked).result().report())
    except UnreachableError as error:  # it may have been booked all the same
        raise UserError(f"{error}; then try again with --id {asked.id}") from error
    print(_done(booked, asked), flush=True)  # what is booked is said, whatever comes now
    return _follow(arguments, booked.get("roaster", ""))


def _done(booked: dict[str, Any], asked: Reset) -> str:
    """A sentence."""
    number, money = booked.get("number"), f"{shown(Decimal(booked['usd']))} for {booked['day']}"
    if booked["duplicate"]:
        return f"Nothing new: the id {asked.id} was booked before{number and f', as {number}'}."
    if isinstance(asked, Revoke):
        return f"Revoked {asked.number}, a {booked['undone']} of {money}."
    done = "Granted" if asked.kind == "grant" else "Wrote off"
    to = f" to {booked['roaster']} alone" if booked.get("roaster") else ""
    return f"{done} {money}{to}." + (f" Its number is {number}." if number else "")


def _follow(arguments: argparse.Namespace, roaster: str) -> int:
    """Print limit and level, now and to come; with --wait, once it has come. The exit status."""
    status = None
    try:
        status = exporter_status(arguments.exporter)
        print(_limit(status, roaster))
    except UserError as error:
        print(f"The limit is not known: {error}")
    deadline = time.monotonic() + (arguments.timeout if arguments.wait else 0)
    with Console(stderr=True).status("") as waiting:
        said, settled = _level(arguments.receiver, status, roaster)
        while not settled and time.monotonic() < deadline:
            waiting.update(Text(said))
            signals.sleep(POLL_SECONDS)
            said, settled = _level(arguments.receiver, status, roaster)
    late = arguments.wait and not settled
    print(f"Not within {arguments.timeout:g} s: {said}" if late else said)
    return int(late)


def _limit(status: BudgetStatus, roaster: str) -> str:
    """The day's limit, or a roaster's cap, and what is left of it."""
    what, limit, left = "today's limit", status.limit, status.remaining
    if roaster in status.roaster_limits_usd:
        limit = status.roaster_limits_usd[roaster]
        what, left = f"{roaster}'s cap of today", limit - status.by_roaster.get(roaster, 0)
    rest = f"{shown(left)} of it is left" if left >= 0 else f"it is overspent by {shown(-left)}"
    return f"By this exporter's books {what} is {shown(limit)}; {rest}."


def _level(receiver: str, status: BudgetStatus | None, roaster: str) -> tuple[str, bool]:
    """In force and to come, in sentences; whether it has come, by rules that know of the grant."""
    try:
        state = call("receiver", receiver, "/state")
        if status is None:
            return in_force(state), False
        level, asked = state["level"], {*state["wanted"]}
        known = {*state["levels"][1:]} <= asked | {*state["not_wanted"]}
        of_the_grant = state["epochs"].get(status.ledger, -1) >= status.epoch
        highest = [one for one in ("none", *state["levels"]) if one in {"none", *asked}][-1]
        own = [{one for one in state[key] if roaster and one.partition("/")[2] == roaster}
               for key in ("tunings", "wanted", "not_wanted")]  # fmt: skip
        follows = own[1] <= own[0] and not own[0] & own[2]
        settled = known and of_the_grant and level == highest and follows
        said = f" In force for {roaster}: {', '.join(sorted(own[0])) or 'nothing'}." * bool(roaster)
        return f"{in_force(state)}{said}{'' if settled else _to_come(status, state)}", settled
    except UserError as error:
        return f"The level is not known: {error}", False
    except (LookupError, TypeError, AttributeError):
        return f"The level is not known: {receiver} is no receiver of this version", False


def _to_come(status: BudgetStatus, state: dict[str, Any]) -> str:
    """The level that follows from what is spent, and when; empty: it is in force."""
    level, now, rank = level_at(status.utilization), state["level"], state["levels"].index
    if level == now or level not in state["levels"]:
        return ""
    when = "at the next scrape and evaluation"
    if (said := state["override"]) and (said["mode"] == "pin" or rank(level) < rank(now)):
        when = f"once what {said['author']} says has ended (`llm-budget release`)"
    elif rank(level) < rank(now):
        if rank(state["alerts_ask_for"]) > rank(level):  # by which alerts the state does not say
            when += " unless an alert asks for more that is not about today's money"
        if lasting := [*not_live(state), *held(state, "hold", "evidence_missing")]:
            pin = f"`llm-budget pin {level} --until +2h --reason WHY` does not wait"
            when = f"but not before this ends: {' '.join(lasting)} {pin}"
        elif not state["confirmed"]:
            when = f"after the hold of {state['hold_seconds']:.0f} s: no Prometheus is asked"
    return f" To come, by this exporter's books: {level}, {when}."
