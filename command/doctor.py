"""`llm-budget doctor`: does the loop that runs work, from call to config, and what to do if not?"""

import argparse
import os

from rich.table import Column
from rich.text import Text

from command.check import COLOURS
from command.diagnosis.answers import Answers
from command.diagnosis.checks import CHECKS
from command.flags import command, flag, json_flag, print_json, print_table
from command.remote import EXPORTER_URL, PROMETHEUS_URL, RECEIVER_URL
from common.gateway import Gateway, add_flags

URLS = {
    "exporter": EXPORTER_URL,
    "receiver": RECEIVER_URL,
    "prometheus": PROMETHEUS_URL,
    "alertmanager": "http://127.0.0.1:9093",
}


@command(
    "look at the loop that runs: what works, what does not, and what to do",
    *(
        flag(f"--{one}", metavar="URL", help=f"default: LLM_BUDGET_{one.upper()}, else {url}")
        for one, url in URLS.items()
    ),
    *(add_flags, json_flag()),
)
def doctor(arguments: argparse.Namespace) -> int:
    """Asks each part once and changes nothing. Exit status: 0 all works, 1 something is wrong, 2
    wrong usage. A warning is no reason for 1.
    """
    given = vars(arguments)
    urls = {one: given[one] or os.environ.get(f"LLM_BUDGET_{one.upper()}") or url
            for one, url in URLS.items()}  # fmt: skip
    answers = Answers(urls, Gateway.from_flags(arguments).options())
    findings = [(name, *judge(answers)) for name, judge in CHECKS.items()]
    if arguments.json:
        print_json(
            [dict(zip(("check", "status", "found", "do"), one, strict=True)) for one in findings]
        )
    else:
        colours = COLOURS | {"unknown": "yellow"}
        said = [
            (name, word, f"{found}\n→ {do}" if do else found) for name, word, found, do in findings
        ]
        rows = ((name, Text(word, colours[word]), text) for name, word, text in said)
        print_table(("check", "", Column("found → what to do", overflow="fold")), rows)
    return int(any(status == "error" for _, status, _, _ in findings))
