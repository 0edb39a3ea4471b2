"""`llm-budget degrade`, `pin`, `release`, `retire`: what a person tells the receiver."""

import argparse
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from command.flags import add_json, add_receiver, add_why, author, print_json
from command.offline import admin_token
from command.remote import call
from common.clock import SystemClock, iso8601
from common.errors import UserError

_RELATIVE = re.compile(r"\+(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add the degrade, pin, release and retire commands."""
    degrade = subparsers.add_parser(
        "degrade",
        help="set a floor: at least this level until released",
        description="A floor under what the alerts ask for. It ends with release or --until.",
    )
    pin = subparsers.add_parser(
        "pin",
        help="set the level exactly, lower too, until a time",
        description="Exactly this level, whatever the alerts ask for: none switches protection "
        "off. It ends with release or at --until.",
    )
    release = subparsers.add_parser(
        "release",
        help="end degrade or pin: the alerts decide again",
        description="Ends what degrade or pin has set; the level the alerts ask for applies.",
    )
    retire = subparsers.add_parser(
        "retire",
        help="let levels fall without a ledger that is gone, until the budget day ends",
        description="For a ledger that is away and will not be back today (LLMLedgerAway): its "
        "evidence is waived, its spend still counts. Ends with the budget day, or when it is back.",
    )
    retire.add_argument("ledger", metavar="LEDGER", help="its id, or the beginning of it")
    for command in (degrade, pin):
        command.add_argument(
            "level", metavar="LEVEL", help="of alertmanager/degradation.yml, or none"
        )
        command.add_argument(
            "--until",
            required=command is pin,
            metavar="WHEN",
            help="+30m, +2h, +1d, or ISO 8601 with its zone, like 2026-11-24T18:00Z",
        )
    for command in (degrade, pin, release, retire):
        add_why(command)
        add_receiver(command)
        add_json(command, "for programs: the receiver's state")
        command.set_defaults(run=run, mode=command.prog.split()[-1])


def run(arguments: argparse.Namespace) -> int:
    """Set or end the override, or retire; print what is in force now."""
    body = {"mode": arguments.mode}
    body |= {key: vars(arguments)[key] for key in ("level", "ledger") if key in arguments}
    if "until" in arguments and arguments.until:
        body["until"] = iso8601(parse_time(arguments.until, SystemClock().now()))
    state = set_override(arguments, body)
    if arguments.json:
        print_json(state)
    else:
        print(in_force(state))
    return 0


def set_override(arguments: argparse.Namespace, body: dict[str, str]) -> dict[str, Any]:
    """The receiver's state after an override. Raises UserError with its own sentence."""
    token = admin_token()
    if token is None:
        raise UserError("no admin token: name its file in LLM_BUDGET_ADMIN_TOKEN_FILE")
    content = {**body, "reason": arguments.reason, "author": author(arguments)}
    url = arguments.receiver.rstrip("/") + "/api/v1/override"
    return dict(call("the receiver", url, token=token, content=content))


def in_force(state: dict[str, Any]) -> str:
    """What is in force, what the alerts ask for, the override, ledgers that are not there."""
    text = f"In force: {state['level']}. The alerts ask for: {state['alerts_ask_for']}."
    override = state.get("override")
    if override:
        until = override.get("until")
        end = f"until {iso8601(until)}" if until else "until released"
        text += f" {override['author']} says {override['mode']} {override['level']}, {end}."
    return " ".join([text, *not_live(state)])


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
