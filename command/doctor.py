"""`llm-budget doctor`: does the loop that runs work, from call to config, and what to do if not?"""

import argparse
from functools import partial

from rich.text import Text

from command.check import COLOURS
from command.diagnosis.answers import Answers
from command.diagnosis.checks import CHECKS
from command.flags import command, json_flag, print_json, print_table, service
from command.remote import token_of
from common.errors import UserError
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
    for one, url in urls.items():
        if not url.startswith(("http://", "https://")):
            raise UserError(f"--{one} {url!r} is not a URL like http://127.0.0.1:8000")
    answers = Answers(
        urls, partial(token_of, data=arguments.data), Gateway.from_flags(arguments).options()
    )
    findings = {name: judge(answers) for name, judge in CHECKS.items()}
    if arguments.json:
        print_json([{"check": name, **one._asdict()} for name, one in findings.items()])
    else:
        colours = COLOURS | {"unknown": "yellow"}
        rows = ((name, Text(one.status, colours[one.status]), "\n→ ".join(filter(None, one[1:])))
                for name, one in findings.items())  # fmt: skip
        print_table(("check", "", "found → what to do"), rows)
    return int(any(one.status == "error" for one in findings.values()))
