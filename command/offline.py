"""A change of the ledger: through the exporter, or directly when the exporter is down."""

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from command.paths import DATA
from command.remote import UnreachableError, call
from common.auth import read_token
from common.clock import SystemClock
from common.errors import UserError
from exporter.config import load_config
from exporter.ledger.ledger import Ledger
from exporter.ledger.writer import LedgerUnavailableError

T = TypeVar("T")


def admin_token() -> str | None:
    """The admin token of the environment, else the one that `make up` wrote. Raises UserError."""
    made = DATA / "secrets" / "admin_token"
    return read_token("admin") or (read_token("admin", made) if made.exists() else None)


def post(
    arguments: argparse.Namespace, path: str, body: Any, offline: Callable[[Ledger], T]
) -> Any | T:
    """The exporter's answer to a POST; when it is down, what offline makes of its ledger.

    Raises UserError when the exporter refuses, or when neither way is possible.
    """
    try:
        url = arguments.exporter.rstrip("/") + path
        return call("the exporter", url, token=admin_token(), content=body)
    except UnreachableError as away:
        with open_ledger(arguments, str(away)) as ledger:
            return offline(ledger)


@contextmanager
def open_ledger(arguments: argparse.Namespace, why: str) -> Iterator[Ledger]:
    """The ledger itself, under the exporter's lock. why: what kept us from asking the exporter.

    Raises UnreachableError when there is no ledger, or an exporter holds it.
    """
    away = why.partition(";")[0]
    if not arguments.ledger.exists():
        raise UnreachableError(
            f"{away}, and there is no ledger at {arguments.ledger}; "
            "start the exporter or name its ledger with --ledger"
        )
    try:
        ledger = Ledger(arguments.ledger, load_config(arguments.config), SystemClock())
    except UserError as error:
        raise UnreachableError(f"{away}, nor can its ledger be opened: {error}") from error
    try:
        yield ledger
    finally:
        ledger.close()


def wait(future: "Future[T]") -> T:
    """The result of the ledger's work. Raises UserError when it cannot be written."""
    try:
        return future.result()
    except LedgerUnavailableError as error:
        raise UserError(str(error)) from error
