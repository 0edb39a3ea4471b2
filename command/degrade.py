"""`llm-budget degrade`, `pin`, `release`, `retire`: what a person tells the receiver."""

import argparse
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from command.flags import RECEIVER, author, command, flag, json_flag, print_json, service, why
from command.remote import call, token_of
from common.clock import SystemClock, iso8601
from common.errors import UserError

_RELATIVE = re.compile(r"\+(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

LEVEL = flag("level", metavar="LEVEL", help="of alertmanager/degradation.yml, or none")
UNTIL = partial(
    flag,
    "--until",
    metavar="WHEN",
    help="+30m, +2h, +1d, or ISO 8601 with its zone, like 2026-11-24T18:00Z",
)
COMMON = (*why(), RECEIVER, json_flag("for programs: the receiver's state"))


@command("set a floor: at least this level until released", LEVEL, UNTIL(), *COMMON)
def degrade(arguments: argparse.Namespace) -> int:
    """A floor under what the alerts ask for. It ends with release or --until."""
    return _tell(arguments)


@command("set the level exactly, lower too, until a time", LEVEL, UNTIL(required=True), *COMMON)
def pin(arguments: argparse.Namespace) -> int:
    """Exactly this level, whatever the alerts ask for: none switches protection off. It ends with
    release or at --until.
    """
    return _tell(arguments)


@command("end degrade or pin: the alerts decide again", *COMMON)
def release(arguments: argparse.Namespace) -> int:
    """Ends what degrade or pin has set; what the alerts ask for applies, and what is held."""
    return _tell(arguments)


@command(
    "let levels fall without a ledger that is gone, until the budget day ends",
    flag("ledger", metavar="LEDGER", help="its id, or the beginning of it"),
    service("exporter", help="answers for its month from now"),
    *COMMON,
)
def retire(arguments: argparse.Namespace) -> int:
    """For a ledger that is away and will not be back today (LLMLedgerAway): its evidence is waived,
    its spend still counts. Ends with the budget day, or when it is back. With a month's budget, a
    living exporter's ledger takes over what it had spent of the month.
    """
    return _tell(arguments, _hand_over)


def _hand_over(arguments: argparse.Namespace, state: dict[str, Any]) -> None:
    """What a retired ledger had spent of the month, to a ledger that lives. Raises UserError."""
    told = {"reason": arguments.reason, "author": author(arguments)}
    for key, spent in state.get("months", {}).items():
        month, _, ledger = key.partition("/")
        if ledger.startswith(arguments.ledger):
            asked = {**told, "ledger": ledger, "month": month, "amount_usd": f"{spent:.9f}"}
            url = arguments.exporter
            call(
                "exporter",
                url,
                "/api/v1/carry",
                token=token_of("admin", url, arguments.data),
                content=asked,
            )
            print(f"{url} now counts ${spent:.2f} of {month} for {ledger}.", file=sys.stderr)


def _tell(
    arguments: argparse.Namespace, then: Callable[[argparse.Namespace, Any], None] | None = None
) -> int:
    """Set or end the override, or retire; print what is in force now."""
    given = vars(arguments)
    asked: dict[str, str] = {key: given[key] for key in ("level", "ledger") if key in given}
    if until := given.get("until"):
        asked["until"] = iso8601(parse_time(until, SystemClock().now()))
    state = override(arguments, arguments.command, **asked)
    print_json(state) if arguments.json else print(in_force(state))
    if then:
        then(arguments, state)
    return 0


def override(arguments: argparse.Namespace, mode: str, **asked: str) -> dict[str, Any]:
    """The receiver's state after an override. Raises UserError with its own sentence."""
    token = token_of("admin", arguments.receiver, arguments.data)
    if token is None:
        raise UserError("no admin token: name its file in LLM_BUDGET_ADMIN_TOKEN_FILE")
    content = {"mode": mode, **asked, "reason": arguments.reason, "author": author(arguments)}
    path = "/api/v1/override"
    return dict(call("receiver", arguments.receiver, path, token=token, content=content))


def in_force(state: dict[str, Any]) -> str:
    """In force, asked for now, held and until when, the override, ledgers that are not there."""
    text = f"In force: {state['level']}. The alerts ask for: {state['alerts_ask_for']}."
    return " ".join([text, *overridden(state), *held(state), *not_live(state)])


def overridden(state: dict[str, Any]) -> list[str]:
    """Who set which level until when, in a sentence; or nothing."""
    if not (said := state.get("override")):
        return []
    end = f"until {iso8601(said['until'])}" if said.get("until") else "until released"
    return [f"{said['author']} says {said['mode']} {said['level']}, {end}."]


def held(state: dict[str, Any], *but: str) -> list[str]:
    """Why level and backstop are not lowered, in sentences; but: reasons to leave out."""
    return [
        "{entry} is held{until}: {detail}.".format(
            **{**hold, "until": hold["until"] and f" until {hold['until'][:19]}Z"}
        )
        for hold in state.get("holds", ())
        if hold["entry"] in (state.get("evidence_keeps"), "backstop")
        and hold["reason"] not in ("wanted", *but)
    ]


def not_live(state: dict[str, Any]) -> list[str]:
    """A sentence for each of today's ledgers that is away or retired."""
    ledgers = state.get("ledgers", {}).items()
    return [f"Ledger {ledger} is {status}." for ledger, status in ledgers if status != "live"]


def parse_time(text: str, now: float) -> float:
    """ "+2h" or an ISO 8601 time as Unix seconds. Raises UserError."""
    relative = _RELATIVE.fullmatch(text)
    if relative:
        return now + timedelta(**{_UNITS[relative[2]]: int(relative[1])}).total_seconds()
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise UserError(f"--until {text!r} has no time zone; end it with Z for UTC, or +05:30")
        return at.astimezone(UTC).timestamp()
    except (ValueError, OverflowError) as error:
        raise UserError(f"--until {text!r} is neither like +2h nor ISO 8601") from error
