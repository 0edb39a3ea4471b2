"""`llm-budget optimize`: the tunings of the ladder; apply one, release it again."""

import argparse
from collections.abc import Iterator
from typing import Any

from command.degrade import set_override
from command.flags import add_json, add_receiver, add_why, print_json, print_table
from command.remote import call
from common.errors import UserError


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add the optimize command."""
    command = subparsers.add_parser(
        "optimize",
        help="list the tunings; apply or release one",
        description="Without flags: the tunings of degradation.yml and which are in force.",
    )
    one = command.add_mutually_exclusive_group()
    one.add_argument(
        "--apply", metavar="TUNING", help="for example prompt_trim, field_threshold/notes"
    )
    one.add_argument("--release", metavar="TUNING")
    add_why(command, required=False)
    add_receiver(command)
    add_json(command)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Apply or release, then list."""
    state = _state(arguments)
    if arguments.json:
        print_json({key: state[key] for key in ("known_tunings", "tunings")})
    else:
        print_table(("tuning", "follows", "in force"), _rows(state))
    return 0


def _state(arguments: argparse.Namespace) -> dict[str, Any]:
    tuning = arguments.apply or arguments.release
    if tuning is None:
        return dict(call("the receiver", arguments.receiver.rstrip("/") + "/state"))
    if not arguments.reason:
        raise UserError("say why with --reason TEXT; it is kept in the audit trail")
    mode = "tune" if arguments.apply else "untune"
    return set_override(arguments, {"mode": mode, "tuning": tuning})


def _rows(state: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for known in state["known_tunings"]:
        name = known["tuning"].partition("/")[0]
        active = [entry for entry in state["tunings"] if entry.partition("/")[0] == name]
        yield known["tuning"], "its alert" if known["automatic"] else "people", ", ".join(active)
