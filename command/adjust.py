"""`llm-budget grant`, `reset` and `revoke`: today's money, and what becomes of the level."""

import argparse
import sys
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

from rich.console import Console
from rich.text import Text

from alertmanager.receiver.ladder.ladder import NONE
from command.degrade import held, in_force
from command.flags import EXPORTER, RECEIVER, author, command, flag, why
from command.remote import UnreachableError, call, exporter_status, post
from command.thresholds import level_at
from common import signals
from common.budget_status import BudgetStatus
from common.errors import UserError
from common.money import picodollars, usd
from exporter.ledger.adjustments import Grant, Reset, Revoke
from exporter.ledger.ledger import Ledger

POLL_SECONDS = 0.5
COMMON = (
    *why(),
    flag("--id", metavar="ID", help="the same id counts once, however often sent"),
    flag("--wait", action="store_true", help="until the level follows; exit status 1: not in time"),
    flag("--timeout", type=float, default=120.0, metavar="SECONDS", help="of --wait; default 120"),
    *(RECEIVER, *EXPORTER),
)
State = dict[str, Any]  # the receiver's /state
T = TypeVar("T")


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
    if not 0 < arguments.timeout < 1e9:
        raise UserError(f"--timeout {arguments.timeout:g} must be above 0 seconds")
    name, who = arguments.id or uuid.uuid4().hex, author(arguments)
    asked = kind(reason=arguments.reason, author=who, id=name)

    def offline(ledger: Ledger) -> dict[str, Any]:
        booked = ledger.adjust(asked).result()
        print("The exporter is down: written into its ledger.")
        return booked.report()

    try:
        booked = post(arguments, f"/api/v1/{asked.kind}s", asked, offline)
    except UnreachableError as error:  # it may have been booked all the same
        raise UserError(f"{error}; then try again with --id {asked.id}") from error
    print(_done(booked, asked))
    return _outcome(arguments, booked.get("roaster", ""))


def _done(booked: dict[str, Any], asked: Reset) -> str:
    """A sentence."""
    number, money = booked.get("number"), f"${booked['usd']} for {booked['day']}"
    if booked["duplicate"]:
        return f"Nothing new: the id {asked.id} was booked before{number and f', as {number}'}."
    if isinstance(asked, Revoke):
        return f"Revoked {asked.number}, a {booked['undone']} of {money}."
    done = "Granted" if asked.kind == "grant" else "Wrote off"
    to = f" to {booked['roaster']} alone" if booked.get("roaster") else ""
    return f"{done} {money}{to}." + (f" Its number is {number}." if number else "")


def _outcome(arguments: argparse.Namespace, roaster: str) -> int:
    """Print limit and level, now and to come; wait for it if asked to. The exit status."""

    def ask(what: Callable[[], T]) -> T | None:
        try:
            return what()
        except UserError as error:
            print(f"llm-budget {arguments.command}: {error}", file=sys.stderr)
            return None

    status = ask(lambda: exporter_status(arguments.exporter))
    state: State | None = ask(lambda: _state(arguments))
    if status:
        several = state and len(state["ledgers"]) > 1
        print(f"{'By this exporter alone: ' if several else ''}{_limit(status, roaster)}")
    if state:
        print(in_force(state))
    if status and state and (line := ask(lambda: _to_come(status, state))):
        print(line)
    if not arguments.wait:
        return 0
    return _wait(arguments, status) if status else 1


def _state(arguments: argparse.Namespace) -> State:
    state = call("receiver", arguments.receiver, "/state")
    if not isinstance(state, dict) or "evidence_keeps" not in state:
        raise UserError(f"{arguments.receiver}/state is not that of a receiver of this version")
    return state


def _limit(status: BudgetStatus, roaster: str) -> str:
    """The day's limit, or a roaster's cap, and what is left of it."""
    what, limit, left = "Today's limit", status.limit, status.remaining
    if roaster in status.roaster_limits_usd:
        limit = status.roaster_limits_usd[roaster]
        what, left = f"{roaster}'s cap of today", limit - status.by_roaster.get(roaster, 0)
    rest = f"${left:.2f} of it is left" if left >= 0 else f"it is overspent by ${-left:.2f}"
    return f"{what} is ${limit:.2f}; {rest}."


def _to_come(status: BudgetStatus, state: State) -> str:
    """The level that follows from what is spent, and when; empty: the one in force."""
    level, now, rank = level_at(status.utilization), state["level"], state["levels"].index
    if level == now or level not in state["levels"]:
        return ""
    when = "at the next scrape and evaluation"
    if rank(level) < rank(now):
        away = [one for one, status in state["ledgers"].items() if status == "away"]
        if away or (lasting := held(state, "hold", "evidence_missing")):
            why = f"ledger {', '.join(away)} is away" if away else "; ".join(lasting)
            pin = f"llm-budget pin {level} --until +2h --reason WHY"
            when = f"but it is held until this is over: {why}. `{pin}` does not wait"
        elif not state["confirmed"]:
            when = f"after the hold of {state['hold_seconds']:.0f} s: no Prometheus is asked"
    return f"To come, by what is spent: {level}, {when}."


def _wait(arguments: argparse.Namespace, status: BudgetStatus) -> int:
    """Until the level is what the rules want who know of the grant; 0, or 1 when time is up."""
    deadline = time.monotonic() + arguments.timeout
    with Console(stderr=True).status("") as shown:
        while True:
            try:
                state = _state(arguments)
                said, settled = in_force(state), _settled(state, status)
            except UserError as error:
                said, settled = str(error), False
            if settled or time.monotonic() > deadline:
                break
            shown.update(Text(said))
            signals.sleep(POLL_SECONDS)
    late = "" if settled else f"The level did not follow within {arguments.timeout:g} s. "
    print(late + said)
    return int(not settled)


def _settled(state: State, status: BudgetStatus) -> bool:
    """Whether the rules know of the exporter's epoch, and what they want is in force."""
    wanted = {*state["wanted"]}
    known = {*state["levels"][1:]} <= {*state["not_wanted"]} | wanted
    highest = max({NONE, *state["levels"]} & {NONE, *wanted}, key=state["levels"].index)
    of_the_grant = state["epochs"].get(status.ledger, -1) >= status.epoch
    return known and of_the_grant and state["level"] == highest
