"""How a command is declared, and what several commands share: their flags, and how they print."""

import argparse
import getpass
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from command.paths import BUDGET
from command.stack.configs import Ports
from common.errors import UserError

# What a terminal would obey: all but line ends, and what turns the direction of writing.
_CONTROL = re.compile("[\0-\t\v-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
Flag = Callable[[argparse._ActionsContainer], object]  # adds itself to a parser or a group


class Command(NamedTuple):
    """A subcommand; run returns its exit status, its name and docstring are the command's."""

    summary: str
    flags: tuple[Flag, ...]
    run: Callable[[argparse.Namespace], int]


def command(summary: str, *flags: Flag) -> Callable[[Callable[..., int]], Command]:
    """Make a function of the parsed flags a subcommand."""
    return partial(Command, summary, flags)


def flag(*names: str, **options: Any) -> Flag:
    """A flag or a positional argument, as ArgumentParser.add_argument has it."""
    return methodcaller("add_argument", *names, **options)


def one_of(*flags: Flag, required: bool = False) -> Flag:
    """Flags that exclude each other."""

    def add(parser: argparse._ActionsContainer) -> None:
        group = parser.add_mutually_exclusive_group(required=required)
        for add_flag in flags:
            add_flag(group)

    return add


def why(*, required: bool = True, default: str | None = None) -> tuple[Flag, Flag]:
    """--reason and --author: what the audit trail keeps."""
    return (
        flag("--reason", required=required, default=default, metavar="TEXT"),
        flag("--author", metavar="NAME", help="default: who is logged in"),
    )


def json_flag(what: str = "for programs") -> Flag:
    """--json."""
    return flag("--json", action="store_true", help=what)


def file_flag(name: str, default: Path | None = None, **options: Any) -> Flag:
    """The path of a file."""
    return flag(name, type=Path, default=default, metavar="FILE", **options)


def service(name: str, **options: Any) -> Flag:
    """The URL of a service; without it remote.settle() knows whom the command talks to."""
    text = f"default: LLM_BUDGET_{name.upper()}, else that of --data"
    return flag(f"--{name}", metavar="URL", **{"help": text, **options})


RECEIVER, PROMETHEUS = service("receiver"), service("prometheus")
# Where the exporter is, and where its files are when it is down.
EXPORTER = (
    service("exporter"),
    file_flag("--config", BUDGET),
    file_flag("--ledger", help="write to this ledger when its exporter is down"),
)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 1 to 65535")
    return int(text)


PORTS = tuple(
    flag(f"--{service}-port", type=_port, metavar="PORT", help=f"usually {port}")
    for service, port in asdict(Ports()).items()
)


def ports(arguments: argparse.Namespace, usual: Ports | None = None) -> Ports:
    """What the flags say of the bundle's ports; usual: those that no flag names."""
    known = asdict(usual or Ports()).items()
    return Ports(**{name: getattr(arguments, f"{name}_port") or port for name, port in known})


def author(arguments: argparse.Namespace) -> str:
    """--author, or who is logged in. Raises UserError when nobody is."""
    try:
        return arguments.author or getpass.getuser()
    except (KeyError, OSError) as error:
        raise UserError("your user name is not known; say --author NAME") from error


def print_json(document: Any) -> None:
    """For programs."""
    print(json.dumps(document, indent=2))


class Out(Console):
    """Standard output. A reader that ends early is told to main(), which is content."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def print_lines(*lines: str | Text) -> None:
    """For people, each as long as it is. A string is no markup, and no command to the terminal."""
    console = Out(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(safe(line))


def safe(cell: str | Text) -> Text:
    """A string without what a terminal would obey, and without markup."""
    return Text(_CONTROL.sub("\ufffd", cell)) if isinstance(cell, str) else cell


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    console: Console | None = None,
) -> None:
    """For people. A string is no markup, and no command to the terminal."""
    table = Table(*columns, box=None)
    for column in table.columns:
        column.overflow = "fold"  # on narrow terminals, too: what ends in "…" is no figure, no path
    for row in rows:
        table.add_row(*map(safe, row))
    (console or Out()).print(table)
