"""`llm-budget backup` and `restore`: the ledger into one file, and back."""

import argparse
import sys

from rich.console import Console
from rich.progress import Progress

from command.flags import command, file_flag, flag
from command.paths import LEDGER
from exporter.ledger import backup as ledgers

FILES = (file_flag("file"), file_flag("--ledger", LEDGER))


@command(
    "copy the ledger into one file, also while the exporter runs",
    *FILES,
    flag("--force", action="store_true", help="overwrite FILE"),
)
def backup(arguments: argparse.Namespace) -> int:
    """Copies the ledger as of one moment. What it means to restore: docs/backup.md."""
    # A bar on a terminal's standard error; silence elsewhere.
    with Progress(console=Console(file=sys.stderr), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("copying", total=None)

        def progress(_: int, left: int, total: int) -> None:
            bar.update(task, completed=total - left, total=total)

        ledgers.backup(arguments.ledger, arguments.file, force=arguments.force, progress=progress)
    size = arguments.file.stat().st_size
    print(f"Backed up {arguments.ledger} to {arguments.file} ({size / 1e6:.1f} MB).")
    return 0


@command(
    "put a backup in the ledger's place; the exporter must be down",
    *FILES,
    flag("--force", action="store_true", help="put a ledger that is there aside"),
)
def restore(arguments: argparse.Namespace) -> int:
    """Checks a backup and puts it in the ledger's place. See docs/backup.md first."""
    aside = ledgers.restore(arguments.file, arguments.ledger, force=arguments.force)
    if aside:
        print(f"The ledger that was there is now {aside}.")
    print(f"Restored {arguments.ledger}. Start the exporter; it reads its logs again from there.")
    return 0
