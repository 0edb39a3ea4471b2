"""The llm-budget command: signals first, then the imports, which take half a second."""

import os
import sys
from importlib import import_module

from common import signals
from common.errors import UserError
from common.startup import settle


def main(argv: list[str] | None = None) -> int:
    """Run a command; its exit status. A UserError is one sentence on standard error, status 2.

    Of `status`, which monitors run, it is 3.
    """
    from command.commands import parser
    from command.remote import settle as settle_services

    settle()
    asked = sys.argv[1:] if argv is None else argv
    refused = 3 if asked[:1] == ["status"] else 2  # to a monitor 2 is CRITICAL, and 3 unknown
    try:
        arguments = parser().parse_args(asked)
    except SystemExit as ended:  # argparse has said why
        raise SystemExit(ended.code and refused) from None
    try:
        settle_services(arguments)
        status = arguments.run(arguments)
        sys.stdout.flush()
        return int(status)
    except UserError as error:  # it may quote what another program printed: no control characters
        text = "".join(one if one.isprintable() else " " for one in str(error))
        print(f"llm-budget {arguments.command}: {text}", file=sys.stderr)
        return refused
    except BrokenPipeError:  # `llm-budget … | head`: the reader has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def entry() -> int:
    """The process of the command: SIGINT or SIGTERM ends it at any moment, without a traceback."""
    signals.end_at_once()
    import_module("command.commands")
    return signals.run(main)


if __name__ == "__main__":
    sys.exit(entry())
