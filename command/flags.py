"""What several commands share: their flags, and how they print."""

import argparse
import getpass
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from command.paths import BUDGET, LEDGER
from command.remote import EXPORTER_URL, RECEIVER_URL
from common.errors import UserError


def add_why(
    command: argparse.ArgumentParser, *, required: bool = True, default: str | None = None
) -> None:
    """--reason and --author: what the audit trail keeps."""
    command.add_argument("--reason", required=required, default=default, metavar="TEXT")
    command.add_argument("--author", metavar="NAME", help="default: who is logged in")


def add_ledger(command: argparse.ArgumentParser) -> None:
    """Where the exporter is, and where its files are when it is down."""
    command.add_argument("--exporter", default=EXPORTER_URL, metavar="URL")
    command.add_argument("--config", type=Path, default=BUDGET, metavar="FILE")
    command.add_argument(
        "--ledger", type=Path, default=LEDGER, metavar="FILE", help="used when the exporter is down"
    )


def add_receiver(command: argparse.ArgumentParser) -> None:
    """Where the receiver is."""
    command.add_argument("--receiver", default=RECEIVER_URL, metavar="URL")


def add_json(command: argparse.ArgumentParser, what: str = "for programs") -> None:
    """--json."""
    command.add_argument("--json", action="store_true", help=what)


def author(arguments: argparse.Namespace) -> str:
    """--author, or who is logged in. Raises UserError when nobody is."""
    try:
        return arguments.author or getpass.getuser()
    except (KeyError, OSError) as error:
        raise UserError("your user name is not known; say --author NAME") from error


def print_json(document: Any) -> None:
    """For programs."""
    print(json.dumps(document, indent=2))


def print_table(
    columns: Sequence[str | Column],
    rows: Iterable[Sequence[str | Text]],
    console: Console | None = None,
) -> None:
    """For people. A string is plain text: a model's name or a person's reason is no markup."""
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    (console or Console()).print(table)
