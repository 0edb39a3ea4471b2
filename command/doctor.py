"""`llm-budget doctor`: does the loop that runs work, from call to config, and what to do if not?"""

import argparse

from rich.text import Text

from command.check import COLOURS
from command.diagnosis.answers import Answers
from command.diagnosis.checks import CHECKS
from command.flags import command, json_flag, print_json, print_table, service
from common.gateway import Gateway, add_flags

SERVICES = ("exporter", "receiver", "prometheus", "alertmanager")


@command(
    "look at the loop that runs: what works, what does not, and what to do",
    *map(service, SERVICES),
    *(add_flags, json_flag()),
)
def doctor(arguments: argparse.Namespace) -> int:
    """Asks each part once and changes nothing. Exit status: 0 all works, 1 something is wrong, 2
    wrong usage. A warning is no reason for 1.
    """
    urls = {one: getattr(arguments, one) for one in SERVICES}
    answers = Answers(urls, arguments.data, Gateway.from_flags(arguments).options())
    findings = [(name, *judge(answers)) for name, judge in CHECKS.items()]
    if arguments.json:
        print_json(
            [dict(zip(("check", "status", "found", "do"), one, strict=True)) for one in findings]
        )
    else:
        colours = COLOURS | {"unknown": "yellow"}
        rows = ((name, Text(word, colours[word]), found, do) for name, word, found, do in findings)
        print_table(("check", "", "found", "what to do"), rows)
    return int(any(status == "error" for _, status, _, _ in findings))
