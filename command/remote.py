"""Talking to the services: one JSON call, one sentence when it fails; or to the ledger itself."""

import argparse
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import msgspec

from command.paths import DATA
from common.auth import read_token
from common.budget_status import BudgetStatus
from common.clock import SystemClock
from common.errors import UserError
from common.fetch import FetchError, fetch
from exporter.config import load_config
from exporter.ledger.ledger import Ledger
from exporter.ledger.writer import LedgerUnavailableError

EXPORTER_URL = "http://127.0.0.1:8000"
RECEIVER_URL = "http://127.0.0.1:8001"
PROMETHEUS_URL = "http://127.0.0.1:9090"


class UnreachableError(UserError):
    """The service gave no answer, or not its own."""


def call(service: str, base: str, path: str, **asked: Any) -> Any:
    """The JSON answer of a service to GET, or to POST with content.

    service: what follows "the". base: its URL. asked: token, params, content, as fetch has them.
    Raises UnreachableError when it does not answer with JSON, UserError with its own sentence when
    it refuses.
    """
    url = base.rstrip("/") + path
    try:
        answer = fetch(url, **asked)
        found = msgspec.json.decode(answer.body)
    except FetchError as error:
        raise UnreachableError(
            f"cannot reach the {service} at {url} ({error.cause}); is it running?"
        ) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UnreachableError(
            f"{url} answered {answer.status} without JSON; is the {service} listening there?"
        ) from error
    if answer.status >= 400:
        reason = found.get("error", found) if isinstance(found, dict) else found
        raise UserError(f"the {service} refused with {answer.status}: {reason}")
    return found


def exporter_status(url: str) -> BudgetStatus:
    """An exporter's /api/v1/status, with the metrics token of the environment. Raises UserError."""
    found = call("exporter", url, "/api/v1/status", token=read_token("metrics"))
    try:
        return msgspec.convert(found, BudgetStatus)
    except msgspec.ValidationError as error:
        raise UserError(
            f"{url}: the answer is not an exporter's status ({error}); "
            "is another program, or version, listening?"
        ) from error


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
    asked = {"token": admin_token(), "content": msgspec.to_builtins(wish)}
    try:
        return dict(call("exporter", arguments.exporter, path, **asked))
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
    print("The exporter is down: using its ledger.", file=sys.stderr)
    with closing(ledger):
        try:
            return offline(ledger)
        except LedgerUnavailableError as error:
            raise UserError(str(error)) from error
