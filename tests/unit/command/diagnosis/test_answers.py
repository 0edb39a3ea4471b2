"""Asking parts that are not what they should be: bounded, and no token where none is wanted."""

import threading
from collections.abc import Iterator
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from command.diagnosis.answers import QUESTIONS, Answers
from command.remote import token_of
from common.clock import SystemClock
from common.errors import UserError

Asked = list[tuple[str, str | None]]  # path and Authorization


@pytest.fixture
def asked() -> Asked:
    return []


@pytest.fixture
def url(asked: Asked) -> Iterator[str]:
    """A server that answers everything with a page, ten seconds ahead."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path.partition("?")[0], self.headers["Authorization"]))
            self.send_response_only(200)
            self.send_header("Date", formatdate(SystemClock().now() + 10, usegmt=True))
            self.end_headers()
            self.wfile.write(b"<html>" + b"[" * 100_000)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


NOTHING = Path("/nonexistent")  # a data folder


def everywhere(url: str) -> dict[str, str]:
    return dict.fromkeys({one.service for one in QUESTIONS.values()}, url)


def test_a_page_is_no_answer_and_its_clock_is_noted(url: str, asked: Asked) -> None:
    answers = Answers(everywhere(url), partial(token_of, data=NOTHING))
    for question in ("status", "state", "facts", "routing"):
        with pytest.raises(UserError, match="gives a wrong answer"):
            answers.json(question)
    assert all(8.5 < offset < 11 for offset in answers.offsets.values()), answers.offsets
    assert len(answers.offsets) == 4


def test_without_a_token_what_needs_one_is_not_asked(url: str, asked: Asked) -> None:
    answers = Answers(everywhere(url), partial(token_of, data=NOTHING))
    assert {token for _, token in asked} == {None}
    assert not {path for path, _ in asked} & {"/v1/usage", "/api/v1/override", "/watchdog"}
    with pytest.raises(UserError, match="no webhook token here"):
        answers.raw("webhook")


def test_each_token_goes_to_its_own_service_only(
    url: str, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("INGEST", "ADMIN", "WEBHOOK", "METRICS"):
        monkeypatch.setenv(f"LLM_BUDGET_{name}_TOKEN", f"{name}-0123456789abcdef")
    Answers(everywhere(url), partial(token_of, data=NOTHING))
    sent = {path: token.split()[1].split("-")[0] for path, token in asked if token}
    assert sent == {
        "/api/v1/status": "METRICS",
        "/v1/usage": "INGEST",
        "/api/v1/grants": "ADMIN",
        "/api/v1/override": "ADMIN",
        "/watchdog": "WEBHOOK",
    }
