"""One HTTP call to another service: bounded in bytes and in time, one sentence when it fails.

requests bounds the wait for each piece only, so that a peer which dribbles a byte a second holds it
for ever. The call therefore runs in a thread, and its connection is cut when its time is over.
"""

import contextlib
import re
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import requests
import urllib3
from requests.adapters import HTTPAdapter

from common.errors import UserError

TIMEOUT_SECONDS = 10.0
MAX_ANSWER_BYTES = 32 << 20
T = TypeVar("T")
_CAUSES = {
    "refused": "connection refused",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not trusted",
}


class FetchError(UserError):
    """No answer, or an unusable one. reason: the sentence without the URL."""

    def __init__(self, url: str, cause: str, *, answered: bool = True) -> None:
        self.cause = cause
        wrong = f"gives a wrong answer: {cause}"
        self.reason = wrong if answered else f"cannot be reached ({cause})"
        super().__init__(f"{without_password(url)} {self.reason}")


@dataclass(frozen=True)
class Answer:
    """What the peer said, whatever its status."""

    url: str
    status: int
    body: bytes

    def decode(self, kind: type[T], *, strict: bool = True) -> T:
        """The JSON body as kind. Raises FetchError, also when the status is no success."""
        if not 200 <= self.status < 300:
            raise FetchError(self.url, f"status {self.status}")
        try:
            return msgspec.json.decode(self.body, type=kind, strict=strict)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise FetchError(self.url, str(error)[:300]) from error


def fetch(
    url: str,
    *,
    params: Mapping[str, str] | None = None,
    content: Any = None,
    token: str | None = None,
    timeout: float = TIMEOUT_SECONDS,
    max_bytes: int = MAX_ANSWER_BYTES,
    use_environment: bool = False,
    headers: Mapping[str, str] | None = None,
    ca_file: Path | None = None,
) -> Answer:
    """GET, or POST with content as JSON; redirects are not followed. Raises FetchError.

    token: a bearer token; a user and password in the URL go first. timeout: of the whole call, in
    seconds. max_bytes: of the body; 0 leaves it unread. use_environment: the environment's proxies
    and certificates apply, as they should for a peer on the internet and must not for ours.
    headers: further ones; the token, or the URL's password, goes before an Authorization of theirs.
    ca_file: whom to trust instead of the usual CAs.
    """
    future: Future[Answer] = Future()
    connection = _Connection()

    def bearer(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    def call() -> None:
        try:
            named = token and "@" not in urlsplit(url).netloc
            with requests.Session() as session:
                session.trust_env = use_environment
                session.mount("http://", connection)
                session.mount("https://", connection)
                with session.request(
                    "GET" if content is None else "POST",
                    url,
                    params=params,
                    json=content,
                    headers=headers,
                    auth=bearer if named else None,  # a .netrc cannot replace it
                    verify=str(ca_file) if ca_file else True,
                    timeout=timeout,
                    stream=True,
                    allow_redirects=False,
                ) as answer:
                    body = connection.read(answer.raw, max_bytes) if max_bytes else b""
            if len(body) > max_bytes:
                raise FetchError(url, f"more than {max_bytes >> 10} KiB")
            future.set_result(Answer(url, answer.status_code, body))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, name="fetch", daemon=True).start()
    try:
        return future.result(timeout)
    except (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise FetchError(url, "no answer in time", answered=False) from error
    except (OSError, urllib3.exceptions.HTTPError, ValueError) as error:  # requests' are OSErrors
        words = (words for sign, words in _CAUSES.items() if sign in str(error))
        cause = next(words, type(error).__name__)
        raise FetchError(url, cause, answered=False) from error
    finally:
        connection.cut()


def without_password(url: str) -> str:
    """A URL as people may see it: without user and password."""
    return re.sub(r"(?<=//)[^/?#]*@", "", url, count=1)


class _Connection(HTTPAdapter):
    """The connection of one call, which another thread may cut."""

    _made: Any = None
    _over = False

    def get_connection_with_tls_context(self, *arguments: Any, **keywords: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*arguments, **keywords)
        kind = pool.ConnectionCls

        def make(*arguments: Any, **keywords: Any) -> Any:
            self._made = kind(*arguments, **keywords)
            return self._made

        pool.ConnectionCls = make
        return pool

    def cut(self) -> None:
        """End what still reads from it; harmless when it is closed."""
        self._over = True
        if (connected := getattr(self._made, "sock", None)) is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def read(self, raw: Any, enough: int) -> bytes:
        """The body, or more than enough; http.client may have let go of the socket already."""
        body = bytearray()
        while len(body) <= enough and not self._over:
            if not (piece := raw.read1(1 << 16, decode_content=True)):
                break
            body += piece
        return bytes(body)
