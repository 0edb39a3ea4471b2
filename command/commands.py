"""The llm-budget command line: every command."""

import argparse

from command import adjust, backtest, backup, check, degrade, history, optimize, reprice, status, up
from command.plan import plan
from command.rehearse import rehearse
from command.report import report
from command.verify import verify
from exporter import __version__

COMMANDS = (
    *(status.status, report, plan, adjust.grant, adjust.reset, adjust.revoke, reprice.reprice),
    *(degrade.degrade, degrade.pin, degrade.release, degrade.retire, optimize.optimize),
    *(rehearse, verify),
    *(history.history, backtest.backtest, backup.backup, backup.restore, check.check, up.up),
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
