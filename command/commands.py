"""The llm-budget command line: every command."""

import argparse

from command.adjust import grant, reset
from command.backtest import backtest
from command.backup import backup, restore
from command.check import check
from command.degrade import degrade, pin, release, retire
from command.history import history
from command.optimize import optimize
from command.reprice import reprice
from command.status import status
from command.up import up
from exporter import __version__

COMMANDS = (
    *(status, grant, reset, reprice, degrade, pin, release, retire, optimize, history),
    *(backtest, backup, restore, check, up),
)


def parser() -> argparse.ArgumentParser:
    """The whole command line, as --help shows it."""
    main_parser = argparse.ArgumentParser(
        prog="llm-budget", description="Keeps an LLM-using pipeline inside its daily budget."
    )
    main_parser.add_argument("--version", action="version", version=f"llm-budget {__version__}")
    subparsers = main_parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for summary, flags, run in COMMANDS:
        command = subparsers.add_parser(run.__name__, help=summary, description=run.__doc__)
        for add in flags:
            add(command)
        command.set_defaults(run=run)
    return main_parser
