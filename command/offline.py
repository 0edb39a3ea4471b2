"""A change of the ledger: through the exporter, or directly when the exporter is down."""

import argparse
from collections.abc import Callable
from contextlib import closing
from typing import Any

import msgspec

from command.paths import DATA
from command.remote import UnreachableError, call
from common.auth import read_token
from common.clock import SystemClock
from common.errors import UserError
from exporter.config import load_config
from exporter.ledger.ledger import Ledger
from exporter.ledger.writer import LedgerUnavailableError


def admin_token() -> str | None:
    """The admin token of the environment, else the one that `make up` wrote. Raises UserError."""
    made = DATA / "secrets" / "admin_token"
    return read_token("admin") or (read_token("admin", made) if made.exists() else None)


def post(
    arguments: argparse.Namespace,
    path: str,
    wish: msgspec.Struct,
    offline: Callable[[Ledger], dict[str, Any]],
) -> dict[str, Any]:
    """The exporter's answer to a wish; when it is down, what offline makes of its ledger.

    Raises UserError when it is refused; UnreachableError when the exporter is down, and there is no
    ledger or an exporter holds it.
    """
    content = msgspec.to_builtins(wish)
    try:
        return dict(
            call("exporter", arguments.exporter, path, token=admin_token(), content=content)
        )
    except UnreachableError as error:
        away = str(error).partition(";")[0]
    if not arguments.ledger.exists():
        raise UnreachableError(
            f"{away}, and there is no ledger at {arguments.ledger}; "
            "start the exporter or name its ledger with --ledger"
        )
    try:
        ledger = Ledger(arguments.ledger, load_config(arguments.config), SystemClock())
    except UserError as error:
        raise UnreachableError(f"{away}, nor can its ledger be opened: {error}") from error
    with closing(ledger):
        try:
            return offline(ledger)
        except LedgerUnavailableError as error:
            raise UserError(str(error)) from error
