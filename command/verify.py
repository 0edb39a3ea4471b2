"""`llm-budget verify`: does the deterministic parser work, before it is needed?"""

import argparse

from alertmanager.receiver.hooks import run_action
from alertmanager.receiver.ladder.ladder import parse_ladder
from command.flags import command, file_flag
from command.paths import LADDER
from common import signals
from common.errors import UserError
from common.yamlfile import read_raw


@command("run the ladder's verify step now", file_flag("--ladder", LADDER))
def verify(arguments: argparse.Namespace) -> int:
    """What the receiver runs on entering the last level. Status 1: it fails, 2: there is none."""
    ladder = parse_ladder(read_raw(arguments.ladder), arguments.ladder)
    if ladder.verify is None:
        example = "verify: {url: 'http://127.0.0.1:8080/health'}"
        raise UserError(f"{arguments.ladder} has no verify step; add one, such as {example}")
    with signals.noted():
        problem = run_action(ladder.verify, ladder.names[-1], signals.sleep, None)
    print(f"The verify step failed: {problem}" if problem else "The verify step works.")
    return int(problem is not None)
