"""Talking to the services from the command line: one JSON call, one sentence when it fails."""

from typing import Any

import msgspec

from common.auth import read_token
from common.budget_status import BudgetStatus
from common.errors import UserError
from common.fetch import FetchError, fetch

EXPORTER_URL = "http://127.0.0.1:8000"
RECEIVER_URL = "http://127.0.0.1:8001"


class UnreachableError(UserError):
    """The service gave no answer, or not its own."""


def call(service: str, base: str, path: str, **asked: Any) -> Any:
    """The JSON answer of a service to GET, or to POST with content.

    service: exporter or receiver. base: its URL. asked: token, params, content, as fetch has them.
    Raises UnreachableError when it does not answer with JSON, UserError with its own sentence when
    it refuses.
    """
    url = base.rstrip("/") + path
    try:
        answer = fetch(url, **asked)
    except FetchError as error:
        raise UnreachableError(
            f"cannot reach the {service} at {url} ({error.cause}); is it running?"
        ) from error
    try:
        found = msgspec.json.decode(answer.body)
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
