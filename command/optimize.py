"""`llm-budget optimize`: the tunings of the ladder; apply one, release it again."""

import argparse
from collections.abc import Iterator
from typing import Any

from command.degrade import override
from command.flags import RECEIVER, command, flag, json_flag, one_of, print_json, print_table, why
from command.remote import call
from common.errors import UserError


@command(
    "list the tunings; apply or release one",
    one_of(
        flag("--apply", metavar="TUNING", help="for example prompt_trim, field_threshold/notes"),
        flag("--release", metavar="TUNING"),
    ),
    *(*why(required=False), RECEIVER, json_flag()),
)
def optimize(arguments: argparse.Namespace) -> int:
    """Without flags: the tunings of degradation.yml and which are in force."""
    tuning = arguments.apply or arguments.release
    if tuning is None:
        state = call("receiver", arguments.receiver, "/state")
    elif arguments.reason:
        state = override(arguments, "tune" if arguments.apply else "untune", tuning=tuning)
    else:
        raise UserError("say why with --reason TEXT; it is kept in the audit trail")
    if arguments.json:
        print_json({key: state[key] for key in ("known_tunings", "tunings")})
    else:
        print_table(("tuning", "follows", "in force"), _rows(state))
    return 0


def _rows(state: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for known in state["known_tunings"]:
        name = known["tuning"].partition("/")[0]
        active = [entry for entry in state["tunings"] if entry.partition("/")[0] == name]
        yield known["tuning"], "its alert" if known["automatic"] else "people", ", ".join(active)
