"""`llm-budget backup` and `restore`: the ledger into one file, and back."""

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from command.paths import LEDGER
from exporter.ledger import backup as ledgers


def add_parser(subparsers: "argparse._SubParsersAction[Any]") -> None:
    """Add the backup and restore commands."""
    save = subparsers.add_parser(
        "backup",
        help="copy the ledger into one file, also while the exporter runs",
        description="Copies the ledger as of one moment. What it means to restore: docs/backup.md.",
    )
    save.set_defaults(run=run_backup)
    restore = subparsers.add_parser(
        "restore",
        help="put a backup in the ledger's place; the exporter must be down",
        description="Checks a backup and puts it in the ledger's place. See docs/backup.md first.",
    )
    restore.set_defaults(run=run_restore)
    for command in (save, restore):
        command.add_argument("file", type=Path, metavar="FILE")
        command.add_argument("--ledger", type=Path, default=LEDGER, metavar="FILE")
    save.add_argument("--force", action="store_true", help="overwrite FILE")
    restore.add_argument("--force", action="store_true", help="put a ledger that is there aside")


def run_backup(arguments: argparse.Namespace) -> int:
    """Copy the ledger into FILE."""
    with _progress() as progress:
        ledgers.backup(arguments.ledger, arguments.file, force=arguments.force, progress=progress)
    size = arguments.file.stat().st_size
    print(f"Backed up {arguments.ledger} to {arguments.file} ({size / 1e6:.1f} MB).")
    return 0


def run_restore(arguments: argparse.Namespace) -> int:
    """Put FILE in the ledger's place."""
    aside = ledgers.restore(arguments.file, arguments.ledger, force=arguments.force)
    if aside:
        print(f"The ledger that was there is now {aside}.")
    print(f"Restored {arguments.ledger}. Start the exporter; it reads its logs again from there.")
    return 0


@contextlib.contextmanager
def _progress() -> Iterator[ledgers.Progress]:
    """A bar on a terminal's standard error; silence elsewhere."""
    with Progress(console=Console(file=sys.stderr), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("copying", total=None)
        yield lambda _, left, total: bar.update(task, completed=total - left, total=total)
