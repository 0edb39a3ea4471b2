"""Asking the sources: every answer that cannot be used is unknown, and says why."""

import gzip
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from alertmanager.receiver.evidence.observations import (
    AlertmanagerAnswer,
    ExporterAnswer,
    NoAnswer,
    Observations,
    PrometheusAnswer,
)
from alertmanager.receiver.evidence.sources import Sources
from common.clock import iso8601
from common.gateway import Gateway
from tests.support.clock import ManualClock
from tests.support.ladders import shipped_ladder
from tests.support.prometheus_answers import (
    CONTROL,
    NOW,
    all_rules,
    facts,
    nothing_wanted,
    rule,
    rules,
    wanted,
)
from tests.support.receivers import Receiver, alert

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
        {"labels": {"tuning": "roaster", "scope": "subko"}, "state": "firing"},
        {"labels": {"tuning": "roaster", "roaster": "rumi"}, "state": "pending"},
    ])  # fmt: skip
    fallback = {"degradation": "fallback"}
    alarm(
        peer,
        rules(rule(alerts=firing, age=2), *map(rule, ("conserve", "emergency", "fallback")), tuned),
        wanted((CONTROL, 1, 0), (fallback, 0, 3), ({"tuning": "roaster", "roaster": "rumi"}, 0, 1)),
    )
    answer = ask("prometheus", peer.url)
    assert isinstance(answer, PrometheusAnswer)
    assert answer.claimed == {"control", "roaster/naivo", "roaster/subko"}
    assert (answer.wanted, answer.not_wanted) == ({"control"}, {"fallback", "roaster/rumi"})
    assert answer.evaluated_at == NOW - 3  # the oldest of all
    missing = {name: f"no alert rule asks for {name}" for name in ("roaster_stop", "field_stop")}
    assert answer.unhealthy == missing, "of rules from before there were caps"


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
    day = {"start": NOW, "timezone": "Asia/Tokyo", "day_starts_at": "06:00"}
    status = {"day": day, "ledger": "a1", "limit_usd": "100", "writable": False}
    status |= figures
    peer.answers["/api/v1/status"] = status
    answer = ask("exporter", peer.url)
    assert isinstance(answer, ExporterAnswer)
    assert (answer.figures.spend_usd, answer.writable) == (Decimal("1.000000000001"), False)
    assert (answer.ledger, answer.calendar) == ("a1", "Asia/Tokyo from 06:00")


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
        (rules(), "no alert rule with a degradation label"),
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


# A source that lies: it is unknown for the round, the others count, and nothing is lowered.

STATUS = {"spend_usd": "1", "written_off_usd": "0", "granted_usd": "0", "limit_usd": "100",
          "day": {"start": NOW - 60}, "writable": True, "ledger": "a1"}  # fmt: skip
TRUTHS: dict[str, Any] = {
    "/api/v2/alerts": [],
    "/api/v1/rules": all_rules(),
    "/api/v1/query": nothing_wanted(facts(day=NOW - 60, spent="aa")),
    "/api/v1/status": STATUS,
}


def sampled(*value: Any) -> dict[str, Any]:
    """A query's answer whose sample for the highest level has this value."""
    answer = nothing_wanted()
    answer["data"]["result"][-1]["value"] = list(value)
    return answer


def labelled(**labels: str) -> dict[str, Any]:
    answer = nothing_wanted()
    answer["data"]["result"][-1]["metric"] |= labels
    return answer


def headed(body: bytes, **headers: str) -> Callable[[Any], None]:
    def say(handler: Any) -> None:
        handler.send_response(200)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return say


def zipped(times: int) -> bytes:
    body = bytes(8 << 20)
    for _ in range(times):
        body = gzip.compress(body, 1)
    return body


LIES: list[tuple[str, Any]] = [
    ("/api/v1/query", sampled(NOW, "NaN")),
    ("/api/v1/query", sampled(NOW, "1e999")),
    ("/api/v1/query", sampled(NOW, "-Inf")),
    ("/api/v1/query", sampled(NOW, "soon")),
    ("/api/v1/query", sampled(NOW, NOW)),
    ("/api/v1/query", sampled(NOW)),
    ("/api/v1/query", labelled(wanted="NaN")),
    ("/api/v1/query", {**nothing_wanted(), "status": "error"}),
    ("/api/v1/query", {"status": "error", "errorType": "timeout", "error": "too slow"}),
    ("/api/v1/query", {**nothing_wanted(), "warnings": ["a store did not answer"]}),
    ("/api/v1/query", {**nothing_wanted(), "infos": ["a store did not answer"]}),
    ("/api/v1/query", {"status": "success", "data": {"resultType": "scalar", "result": [0, "0"]}}),
    ("/api/v1/query", {"status": "success", "data": None}),
    ("/api/v1/rules", {**all_rules(), "status": "error"}),
    ("/api/v1/rules", {**all_rules(), "warnings": ["a ruler did not answer"]}),
    ("/api/v1/rules", {**all_rules(), "data": {**all_rules()["data"], "groupNextToken": "x"}}),
    ("/api/v1/rules", all_rules(interval=1e300)),
    ("/api/v1/rules", all_rules(interval=0)),
    ("/api/v1/rules", all_rules(interval=-5)),
    ("/api/v1/rules", rules(rule("fallback", lastEvaluation="soon"))),
    ("/api/v1/rules", rules(rule("fallback", labels={"degradation": 1}))),
    ("/api/v1/rules", json.dumps(all_rules()).replace('l": 5', 'l": 1e999').encode()),
    ("/api/v2/alerts", {"status": "success", "data": []}),
    ("/api/v2/alerts", [{"labels": {"degradation": None}}]),
    ("/api/v2/alerts", [[]]),
    ("/api/v2/alerts", 302),
    ("/api/v2/alerts", 204),
    ("/api/v2/alerts", endless),
    ("/api/v2/alerts", headed(b"[", Content_Length="1000000")),
    ("/api/v2/alerts", headed(zipped(1), Content_Encoding="gzip")),
    ("/api/v2/alerts", headed(zipped(2), Content_Encoding="gzip, gzip")),
    ("/api/v2/alerts", headed(b"no gzip", Content_Encoding="gzip")),
    ("/api/v1/status", {**STATUS, "day": {"start": 1e308}}),
    ("/api/v1/status", {**STATUS, "day": {"start": NOW + 6}}),
    ("/api/v1/status", {**STATUS, "day": {"start": -1}}),
    ("/api/v1/status", {**STATUS, "day": {"start": "today"}}),
    ("/api/v1/status", {**STATUS, "limit_usd": "1e999"}),
    ("/api/v1/status", {**STATUS, "spend_usd": "NaN"}),
    ("/api/v1/status", {**STATUS, "spend_usd": "-5"}),
    ("/api/v1/status", {**STATUS, "writable": "yes"}),
    ("/api/v1/status", {"status": "error"}),
]


@pytest.mark.parametrize(("path", "lie"), LIES)
def test_a_source_that_lies_is_unknown_the_others_count_and_nothing_is_lowered(
    path: str, lie: Any, peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alertmanager.receiver.evidence.sources.MAX_ANSWER_BYTES", 4 << 20)
    receiver = Receiver(tmp_path, now=NOW - 50)
    receiver.webhook(alert("fallback", start=NOW - 100))
    receiver.webhook(alert("fallback", "resolved", start=NOW - 100, end=NOW - 50))
    receiver.clock.set(NOW)
    receiver.controller.hold_seconds = 0
    peer.answers = {**TRUTHS, path: lie}
    urls = [peer.url]
    receiver.controller.sources.close()
    receiver.controller.sources = Sources(lambda: LADDER, ManualClock(NOW), urls, urls, urls)
    receiver.controller.reconcile()
    seen = receiver.controller.observed
    kinds = {"/api/v2/alerts": seen.alertmanagers, "/api/v1/status": seen.exporters}
    liar = kinds.get(path, seen.prometheuses)
    for answers in (seen.alertmanagers, seen.prometheuses, seen.exporters):
        assert [isinstance(one, NoAnswer) for one in answers] == [answers is liar], answers
    assert receiver.level() == "fallback"
    reason = "exporter_unknown" if path == "/api/v1/status" else "source_unknown"
    assert reason in {hold.reason for hold in receiver.controller.announcer.holds}
    assert seen.earliest_day() == (None if liar is seen.exporters else NOW - 60)
    peer.answers = TRUTHS
    for _ in range(2):  # the hold is three evaluations at least
        receiver.controller.reconcile()
        receiver.clock.advance(15)
    assert receiver.level() == "emergency"
    receiver.close()


def test_a_level_that_no_rule_asks_for_is_not_lowered(peer: Peer, ask: Ask) -> None:
    found = all_rules()
    del found["data"]["groups"][0]["rules"][3]
    alarm(peer, found, nothing_wanted())
    answer = ask("prometheus", peer.url)
    assert answer.unhealthy == {"fallback": "no alert rule asks for fallback"}
    assert Observations((), (answer,)).blockers({"fallback"}) == [
        ("rule_unknown", f"{peer.url}: no alert rule asks for fallback")
    ]


def test_a_rule_evaluated_in_the_year_10000_is_sick_and_can_be_shown(peer: Peer, ask: Ask) -> None:
    alarm(peer, rules(rule("fallback", lastEvaluation="9999-12-31T23:59:59-12:00")))
    answer = ask("prometheus", peer.url)
    assert "in the future" in answer.unhealthy["fallback"]
    assert iso8601(answer.evaluated_at) < "2100"


def test_headers_go_to_every_source_and_are_read_anew(
    peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = []

    def say(handler: Any) -> None:
        came.append((handler.path.partition("?")[0], handler.headers["X-Scope-OrgID"]))
        headed(json.dumps(TRUTHS[came[-1][0]]).encode())(handler)

    peer.answers = dict.fromkeys(TRUTHS, say)
    tenant = tmp_path / "tenant"
    tenant.write_text("team-a\n")
    gateway = Gateway({"X-Scope-OrgID": tenant})
    urls = [peer.url]
    sources = Sources(lambda: LADDER, ManualClock(NOW), urls, urls, urls, gateway=gateway)
    sources.ask()
    tenant.write_text("team-b\n")
    sources.ask()
    assert sorted(came) == sorted((path, team) for team in ("team-a", "team-b") for path in TRUTHS)
    tenant.unlink()
    (lost,) = sources.ask().alertmanagers
    assert isinstance(lost, NoAnswer)
    assert lost.reason.startswith(f"cannot read {tenant} of --header X-Scope-OrgID: No such file")
    sources.close()
