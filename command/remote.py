"""Talking to the services: one JSON call, one sentence when it fails; or to the ledger itself."""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from command.paths import ADDRESSES, LEDGER
from command.stack.configs import LOOPBACK, Ports
from common.auth import read_token
from common.budget_status import BudgetStatus
from common.clock import SystemClock
from common.errors import UserError
from common.fetch import FetchError, fetch, without_password
from common.http import is_loopback
from common.yamlfile import read_as
from exporter.config import load_config
from exporter.ledger.ledger import Ledger
from exporter.ledger.writer import LedgerUnavailableError

DEFAULTS = {name: f"http://{LOOPBACK}:{port}" for name, port in asdict(Ports()).items()}
NOT_TOLD = (
    "{0} refused with 401: {1}; name the file of its {2} token in LLM_BUDGET_{3}_TOKEN_FILE ({4})"
)
KEPT = {
    "admin": "`llm-budget up` keeps its own in --data DIR, under secrets",
    "metrics": "that of access.metrics_token_file in its budget.yml",
}


class UnreachableError(UserError):
    """The service gave no answer, or not its own."""


def call(service: str, base: str, path: str, **asked: Any) -> Any:
    """The JSON answer of a service to GET, or to POST with content.

    service: what follows "the". base: its URL. asked: token, params, content, as fetch has them.
    Raises UnreachableError when it does not answer with JSON, UserError with its own sentence when
    it refuses.
    """
    if not base.startswith(("http://", "https://")):
        raise UserError(f"the {service}'s URL must begin with http:// or https://")
    url = base.rstrip("/") + path
    named = without_password(url)
    try:
        answer = fetch(url, **asked)
        found = msgspec.json.decode(answer.body)
    except FetchError as error:
        raise UnreachableError(
            f"cannot reach the {service} at {named} ({error.cause}); is it running?"
        ) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UnreachableError(
            f"{named} answered {answer.status} without JSON; is the {service} listening there?"
        ) from error
    if answer.status >= 400:
        reason = found.get("error", found) if isinstance(found, dict) else found
        if answer.status == 401:
            kind = "admin" if "content" in asked else "metrics"
            raise UserError(
                NOT_TOLD.format(f"the {service}", reason, kind, kind.upper(), KEPT[kind])
            )
        raise UserError(f"the {service} refused with {answer.status}: {reason}")
    return found


def exporter_status(url: str, **asked: Any) -> BudgetStatus:
    """An exporter's /api/v1/status, with the metrics token of the environment. Raises UserError."""
    found = call("exporter", url, "/api/v1/status", token=read_token("metrics"), **asked)
    try:
        return msgspec.convert(found, BudgetStatus)
    except msgspec.ValidationError as error:
        raise UserError(
            f"{url}: the answer is not an exporter's status ({error}); "
            "is another program, or version, listening?"
        ) from error


def settle(arguments: argparse.Namespace) -> None:
    """Whom a command talks to: its flags, else LLM_BUDGET_EXPORTER and so on, else what `up` runs.

    Raises UserError.
    """
    for service in DEFAULTS:
        if service in arguments and getattr(arguments, service) is None:
            setattr(arguments, service, address(service, arguments.data))
    if "ledger" in arguments and arguments.ledger is LEDGER:  # the default, relative to --data
        arguments.ledger = arguments.data / LEDGER


def address(service: str, data: Path) -> str:
    """The URL in LLM_BUDGET_EXPORTER and so on, else that of what `up` runs. Raises UserError."""
    return os.environ.get(f"LLM_BUDGET_{service.upper()}") or running(data)[service]


def running(data: Path) -> dict[str, str]:
    """URLs by service: what `up` wrote to the data folder, else the usual. Raises UserError."""
    file = data / ADDRESSES
    return DEFAULTS | (read_as(file, dict[str, str]) if file.exists() else {})


def token_of(name: str, url: str, data: Path) -> str | None:
    """A token of the environment, else the one that `up` made, if we may read it.

    The latter is for what `up` runs: no service elsewhere is told it. Raises UserError.
    """
    made = data / "secrets" / f"{name}_token"
    here = is_loopback(urlsplit(url).hostname or "") or url in running(data).values()
    usable = here and os.access(made, os.R_OK)
    return read_token(name) or (read_token(name, made) if usable else None)


def post(
    arguments: argparse.Namespace,
    path: str,
    wish: msgspec.Struct,
    offline: Callable[[Ledger], dict[str, Any]],
) -> dict[str, Any]:
    """The exporter's answer to a wish; when it is down, what offline makes of the ledger --ledger.

    No other ledger is guessed: an exporter at another address may be the one that runs. Raises
    UserError when it is refused; UnreachableError when the exporter is down, and no ledger is named
    or there, or an exporter holds it.
    """
    asked = {
        "token": token_of("admin", arguments.exporter, arguments.data),
        "content": msgspec.to_builtins(wish),
    }
    try:
        return dict(call("exporter", arguments.exporter, path, **asked))
    except UnreachableError as error:
        away = str(error).partition(";")[0]
    if not arguments.ledger:
        usual = arguments.data / LEDGER
        named = f" (that of `llm-budget up` is {usual})" * usual.exists()
        raise UnreachableError(
            f"{away}; name its address with --exporter, or if it is down its ledger with --ledger "
            f"FILE{named}"
        )
    if not arguments.ledger.exists():
        raise UnreachableError(f"{away}, and there is no ledger at {arguments.ledger}")
    try:
        ledger = Ledger(arguments.ledger, load_config(arguments.config), SystemClock())
    except UserError as error:
        raise UnreachableError(f"{away}, nor can its ledger be opened: {error}") from error
    which = f"{arguments.ledger} ({ledger.books.ledger_id})"
    print(f"The exporter is down: using the ledger {which}.", file=sys.stderr)
    with closing(ledger):
        try:
            return offline(ledger)
        except LedgerUnavailableError as error:
            raise UserError(str(error)) from error
