"""The llm-budget command line: every command, and how errors are reported."""

import argparse
import os
import sys
from types import ModuleType

from command import adjust, backtest, backup, check, degrade, history, optimize, reprice, status, up
from common.errors import UserError
from common.startup import settle
from exporter import __version__

COMMANDS: tuple[ModuleType, ...] = (
    status,
    adjust,
    reprice,
    degrade,
    optimize,
    history,
    backtest,
    backup,
    check,
    up,
)
EXIT_USAGE = 2


def parser() -> argparse.ArgumentParser:
    """The whole command line; the modules in COMMANDS each add their own part."""
    main_parser = argparse.ArgumentParser(
        prog="llm-budget", description="Keeps an LLM-using pipeline inside its daily budget."
    )
    main_parser.add_argument("--version", action="version", version=f"llm-budget {__version__}")
    subparsers = main_parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return main_parser


def main(argv: list[str] | None = None) -> int:
    """Run a command; its exit status. A UserError is one sentence on standard error, status 2."""
    settle()
    arguments = parser().parse_args(argv)
    try:
        result = arguments.run(arguments)
        sys.stdout.flush()
    except UserError as error:
        print(f"llm-budget {arguments.command}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:  # `llm-budget … | head`: the reader has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return int(result)
