"""`llm-budget optimize`: the tunings of the ladder; apply one, release it again."""

import argparse
import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from command.degrade import add_word_flags, tell
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
    add_word_flags(command, required=False)
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Apply or release, then list."""
    state = _state(arguments)
    if arguments.json:
        print(json.dumps({key: state[key] for key in ("known_tunings", "tunings")}, indent=2))
    else:
        Console().print(_table(state))
    return 0


def _state(arguments: argparse.Namespace) -> dict[str, Any]:
    tuning = arguments.apply or arguments.release
    if tuning is None:
        return dict(call("the receiver", arguments.receiver.rstrip("/") + "/state"))
    if not arguments.reason:
        raise UserError("say why with --reason TEXT; it is kept in the audit trail")
    mode = "tune" if arguments.apply else "untune"
    return tell(arguments, {"mode": mode, "tuning": tuning})


def _table(state: dict[str, Any]) -> Table:
    table = Table("tuning", "follows", "in force", box=None)
    for known in state["known_tunings"]:
        name = known["tuning"].partition("/")[0]
        active = [entry for entry in state["tunings"] if entry.partition("/")[0] == name]
        follows = "its alert" if known["automatic"] else "people"
        table.add_row(Text(known["tuning"]), follows, Text(", ".join(active)))
    return table
