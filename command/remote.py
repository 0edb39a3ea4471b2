"""Talking to the services from the command line: one JSON call, one sentence when it fails."""

from typing import Any

import requests

from common.auth import read_token
from common.errors import UserError

TIMEOUT_SECONDS = 10.0
EXPORTER_URL = "http://127.0.0.1:8000"
RECEIVER_URL = "http://127.0.0.1:8001"
PROMETHEUS_URL = "http://127.0.0.1:9090"


class UnreachableError(UserError):
    """The service gave no answer, or not its own."""


def call(
    what: str,
    url: str,
    *,
    method: str = "GET",
    token: str | None = None,
    body: Any = None,
    params: dict[str, str] | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> Any:
    """The JSON answer of a service.

    what: its name for people, e.g. "the exporter". Raises UnreachableError when it does not
    answer with JSON, UserError with the service's own sentence when it refuses.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with requests.Session() as session:
            session.trust_env = False  # a proxy or .netrc of the environment is for other traffic
            answer = session.request(
                method, url, headers=headers, json=body, params=params, timeout=timeout
            )
    except requests.RequestException as error:
        raise UnreachableError(
            f"cannot reach {what} at {url} ({_cause(error)}); is it running?"
        ) from error
    try:
        content = answer.json()
    except requests.JSONDecodeError as error:
        raise UnreachableError(
            f"{url} answered {answer.status_code} without JSON; is {what} listening there?"
        ) from error
    if answer.status_code >= 400:
        reason = content.get("error", content) if isinstance(content, dict) else content
        raise UserError(f"{what} refused with {answer.status_code}: {reason}")
    return content


def exporter_status(url: str) -> Any:
    """An exporter's /api/v1/status, with the metrics token of the environment. Raises UserError."""
    return call("the exporter", f"{url}/api/v1/status", token=read_token("metrics"))


def _cause(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return "connection refused" if "refused" in str(error) else type(error).__name__
