"""Asking the sources: every answer that cannot be used is unknown, and says why."""

import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from alertmanager.receiver.evidence.observations import (
    AlertmanagerAnswer,
    ExporterAnswer,
    NoAnswer,
    PrometheusAnswer,
)
from alertmanager.receiver.evidence.sources import Sources
from tests.support.clock import ManualClock
from tests.support.ladders import shipped_ladder
from tests.support.prometheus_answers import CONTROL, NOW, rule, rules, wanted

LADDER = shipped_ladder()


class Peer:
    """Answers GET by path: a JSON document, bytes, a status, or a function of the handler."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.over = threading.Event()
        peer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                answer = peer.answers.get(self.path.partition("?")[0], 404)
                if callable(answer):
                    answer(self)
                    return
                self.send_response(answer if isinstance(answer, int) else 200)
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                if isinstance(answer, bytes):
                    self.wfile.write(answer)
                elif not isinstance(answer, int):
                    self.wfile.write(json.dumps(answer).encode())

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    built = Peer()
    yield built
    built.close()


Ask = Callable[..., Any]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """ask(kind, url) -> what that one source answers."""
    opened = []

    def answer_of(kind: str, url: str) -> Any:
        lists: dict[str, list[str]] = {"alertmanager": [], "prometheus": [], "exporter": []}
        lists[kind].append(url)
        sources = Sources(lambda: LADDER, ManualClock(NOW), *lists.values())
        opened.append(sources)
        round_ = sources.ask()
        (found,) = (*round_.alertmanagers, *round_.prometheuses, *round_.exporters)
        return found

    yield answer_of
    for sources in opened:
        sources.close()


def alarm(peer: Peer, found: dict[str, Any], vector: dict[str, Any] | None = None) -> None:
    peer.answers = {"/api/v1/rules": found, "/api/v1/query": vector or wanted()}


def test_a_prometheus_tells_what_fires_and_what_is_wanted(peer: Peer, ask: Ask) -> None:
    firing = [{"labels": {"alertname": "X", **CONTROL}, "state": "firing"}]
    tuned = rule(labels={"tuning": "roaster"}, alerts=[
        {"labels": {"tuning": "roaster", "roaster": "naivo"}, "state": "firing"},
        {"labels": {"tuning": "roaster", "roaster": "rumi"}, "state": "pending"},
    ])  # fmt: skip
    fallback = {"degradation": "fallback"}
    alarm(
        peer,
        rules(rule(alerts=firing, age=2), rule("fallback"), tuned),
        wanted((CONTROL, 1, 0), (fallback, 0, 3), ({"tuning": "roaster", "roaster": "rumi"}, 0, 1)),
    )
    answer = ask("prometheus", peer.url)
    assert isinstance(answer, PrometheusAnswer)
    assert answer.claimed == {"control", "roaster/naivo"}
    assert (answer.wanted, answer.not_wanted) == ({"control"}, {"fallback", "roaster/rumi"})
    assert answer.evaluated_at == NOW - 3  # the oldest of all
    assert answer.unhealthy == {}


def test_an_alertmanager_tells_active_and_suppressed_alike(peer: Peer, ask: Ask) -> None:
    peer.answers["/api/v2/alerts"] = [
        {"labels": CONTROL, "status": {"state": "active"}},
        {"labels": {"degradation": "fallback"}, "status": {"state": "suppressed"}},
        {"labels": {"alertname": "LLMExporterDown"}},
    ]
    assert ask("alertmanager", peer.url).claimed == {"control", "fallback"}


def test_an_exporter_tells_its_figures_exactly_and_whether_it_can_book(
    peer: Peer, ask: Ask
) -> None:
    figures = {"spend_usd": "1.000000000001", "written_off_usd": "0", "granted_usd": "2"}
    status = {"day": {"start": NOW}, "limit_usd": "100", "writable": False, **figures}
    peer.answers["/api/v1/status"] = status
    answer = ask("exporter", peer.url)
    assert isinstance(answer, ExporterAnswer)
    assert (answer.figures.spend_usd, answer.writable) == (Decimal("1.000000000001"), False)


def dribble(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    started = time.monotonic()
    while time.monotonic() < started + 8:
        try:
            handler.wfile.write(b" ")
        except OSError:
            return
        threading.Event().wait(0.2)


def hang(handler: Any) -> None:
    threading.Event().wait(4)


def endless(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"[" * (1 << 20))
    except OSError:
        return


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (500, "status 500"),
        (302, "status 302"),
        (b"<html>", "wrong answer"),
        (b"", "wrong answer"),
        (b"\xff", "wrong answer"),
        (b"[" * 100_000, "wrong answer"),
        ({"status": "error"}, "wrong answer"),
        ({"data": {"groups": []}}, "no alert rule with a degradation label"),
        ({"data": {"groups": [{"interval": "5", "rules": []}]}}, "wrong answer"),
        (hang, "no answer in time"),
        (dribble, "no answer in time"),
    ],
)
def test_a_wrong_a_hanging_or_a_dribbling_answer_is_unknown(
    answer: Any, words: str, peer: Peer, ask: Ask
) -> None:
    alarm(peer, answer)
    answer = ask("prometheus", peer.url)
    assert isinstance(answer, NoAnswer)
    assert words in answer.reason


def test_an_endless_answer_ends_at_a_bound(
    peer: Peer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alertmanager.receiver.evidence.sources.MAX_ANSWER_BYTES", 4 << 20)
    peer.answers["/api/v2/alerts"] = endless
    answer = ask("alertmanager", peer.url)
    assert isinstance(answer, NoAnswer)


def test_a_refused_connection_is_unknown(ask: Ask) -> None:
    assert "cannot be reached" in ask("alertmanager", "http://127.0.0.1:1").reason


def test_a_peer_that_hung_is_asked_again_when_it_answers(peer: Peer) -> None:
    sources = Sources(lambda: LADDER, ManualClock(NOW), [peer.url], [], [])
    peer.answers["/api/v2/alerts"] = hang
    assert isinstance(sources.ask().alertmanagers[0], NoAnswer)
    peer.answers["/api/v2/alerts"] = [{"labels": CONTROL}]
    assert isinstance(sources.ask().alertmanagers[0], AlertmanagerAnswer)
    sources.close()


def test_a_password_in_an_address_is_never_shown(ask: Ask) -> None:
    assert ask("alertmanager", "http://ann:secret@127.0.0.1:1").url == "http://127.0.0.1:1"
