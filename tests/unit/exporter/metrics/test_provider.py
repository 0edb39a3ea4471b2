"""The provider's balance, polled: from the fake provider, and from answers that are none."""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from command.stack.processes import Child, free_port
from common.errors import UserError
from exporter.config import Provider, load_config
from exporter.metrics.provider import ProviderPoller
from tests.support.exporters import Exporter
from tests.support.waiting import until

KEY = "sk-0123456789abcdef"


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_BUDGET_PROVIDER_TOKEN", KEY)


class Answers:
    """A provider on loopback that gives one answer, and remembers what it was asked."""

    def __init__(self) -> None:
        self.status, self.body = 200, b""
        self.asked: list[str | None] = []
        answers = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answers.asked.append(self.headers.get("Authorization"))
                self.send_response(answers.status)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", str(len(answers.body)))
                self.end_headers()
                self.wfile.write(answers.body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/user/balance"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def answers() -> Iterator[Answers]:
    answers = Answers()
    yield answers
    answers.server.shutdown()
    answers.server.server_close()


class Polled:
    """A poller in a registry, asked by hand."""

    def __init__(self, provider: Provider) -> None:
        self.registry = CollectorRegistry()
        self.kept: list[dict[str, tuple[int, ...]]] = []
        self.poller = ProviderPoller(lambda: provider, self.kept.append)
        self.registry.register(self.poller)
        self.poller.poll(provider)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def body(currency: str = "USD", available: str = "true") -> bytes:
    text = (
        f'{{"is_available": {available}, "balance_infos": [{{"currency": "{currency}", '
        '"total_balance": "110.00", "granted_balance": "10.00", "topped_up_balance": "100.00"}]}'
    )
    return text.encode()


@pytest.mark.usefixtures("key")
def test_the_balance_is_published_by_kind(answers: Answers) -> None:
    answers.body = body()
    polled = Polled(Provider(balance_url=answers.url))
    assert polled.value("llm_provider_available") == 1
    assert polled.value("llm_provider_balance_usd", kind="total") == 110
    assert polled.value("llm_provider_balance_usd", kind="granted") == 10
    assert polled.value("llm_provider_balance_usd", kind="topped_up") == 100
    assert answers.asked == [f"Bearer {KEY}"]


def row(currency: str, total: str) -> dict[str, str]:
    return {"currency": currency, "total_balance": total}


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(
    ("rows", "dollars", "others"),
    [
        ([row("CNY", "110.00")], None, {"CNY": 110}),
        ([row("USD", "12.34")], 12.34, {}),
        ([row("USD", "0.00"), row("CNY", "71.46")], None, {"CNY": 71.46}),
        ([row("CNY", "-1"), row("USD", "0")], None, {"CNY": -1}),
        ([row("CNY", "110"), row("USD", "12.34")], 12.34, {"CNY": 110}),
        ([row("CNY", "0.00"), row("USD", "0.00")], 0, {"CNY": 0}),
        ([row("USD", "-0.42")], -0.42, {}),
        ([row("EUR", "3"), row("EUR", "4")], None, {"EUR": 7}),
        ([row("USD", "0"), row('C"\n}', "5")], None, {'C"\n}': None}),  # funded, but no label
        ([row("USD", "1"), row("yuan", "5")], 1, {"yuan": None}),
        ([], None, {}),
    ],
)
def test_dollars_are_shown_only_where_the_money_is_in_dollars(
    answers: Answers,
    rows: list[dict[str, str]],
    dollars: float | None,
    others: dict[str, float | None],
) -> None:
    answers.body = json.dumps({"is_available": True, "balance_infos": rows}).encode()
    polled = Polled(Provider(balance_url=answers.url))
    assert polled.value("llm_provider_balance_usd", kind="total") == dollars
    for currency, total in others.items():
        labels = {"currency": currency, "kind": "total"}
        assert polled.value("llm_provider_balance", **labels) == total


@pytest.mark.usefixtures("key")
def test_currencies_without_end_do_not_become_series_without_end(answers: Answers) -> None:
    rows = [row(f"{a}{b}X", "1") for a in "ABCDEF" for b in "ABCDEF"]
    answers.body = json.dumps({"is_available": True, "balance_infos": rows}).encode()
    polled = Polled(Provider(balance_url=answers.url))
    found = [m for m in polled.registry.collect() if m.name == "llm_provider_balance"]
    assert len(found[0].samples) == 3 * 8


@pytest.mark.usefixtures("key")
def test_an_empty_account_is_not_available_and_another_currency_is_no_balance(
    answers: Answers,
) -> None:
    answers.body = body("CNY", "false")
    polled = Polled(Provider(balance_url=answers.url))
    assert polled.value("llm_provider_available") == 0
    assert polled.value("llm_provider_balance_usd", kind="total") is None


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize(
    ("status", "content"),
    [
        (401, b"{}"),
        (302, b""),
        (200, b"<html>"),
        (200, b'{"is_available": true}'),
        (
            200,
            b'{"is_available": true, "balance_infos": [{"currency":"USD","total_balance":"NaN"}]}',
        ),
        (200, b'{"is_available": true, "balance_infos": [' + b" " * (64 << 10) + b"]}"),
    ],
    ids=["refused", "redirect", "no JSON", "no balance", "no number", "too large"],
)
def test_what_is_no_answer_is_not_available_and_keeps_no_old_balance(
    answers: Answers, caplog: pytest.LogCaptureFixture, status: int, content: bytes
) -> None:
    answers.body = body()
    provider = Provider(balance_url=answers.url)
    polled = Polled(provider)
    answers.status, answers.body = status, content
    for _ in range(2):
        polled.poller.poll(provider)
    assert polled.value("llm_provider_available") == 0
    assert polled.value("llm_provider_balance_usd", kind="total") is None
    assert len(caplog.records) == 1, "said once, not at every poll"
    assert KEY not in caplog.text
    assert len(answers.asked) == 3, "a redirect is not followed"


@pytest.mark.usefixtures("key")
def test_nobody_there_is_not_available() -> None:
    polled = Polled(Provider(balance_url=f"http://127.0.0.1:{free_port()}/"))
    assert polled.value("llm_provider_available") == 0


def test_without_a_key_nobody_is_asked(answers: Answers, caplog: pytest.LogCaptureFixture) -> None:
    polled = Polled(Provider(balance_url=answers.url))
    assert polled.value("llm_provider_available") == 0
    assert "provider.key_file" in caplog.text
    assert not answers.asked


def test_the_key_goes_over_https_or_stays_here(tmp_path: Path) -> None:
    for url in ("http://example.com/", "ftp://example.com/", "user/balance"):
        with pytest.raises(UserError, match="balance_url must be https"):
            Provider(balance_url=url)
    path = tmp_path / "budget.yml"
    path.write_text('provider: {balance_url: "http://example.com/"}')
    with pytest.raises(UserError, match=r"budget\.yml.*balance_url"):
        load_config(path)


def test_without_the_section_nothing_is_published(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        assert not any(name.startswith("llm_provider") for name, _ in exporter.page())


def test_an_exporter_asks_the_fake_provider_by_itself(tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "demo.provider", "--listen", f"127.0.0.1:{port}"]
    url = f"http://127.0.0.1:{port}"
    child = Child("provider", [*argv, "--balance", "42"], tmp_path / "log", f"{url}/health")
    child.start()
    (tmp_path / "key").write_text(KEY)
    text = f'provider: {{balance_url: "{url}/user/balance", key_file: key}}'
    try:
        child.wait_ready()
        with Exporter(tmp_path, text) as exporter:
            exporter.parts.provider.start()
            until(
                lambda: exporter.value("llm_provider_balance_usd", kind="total") == 42,
                what="the balance on the page",
            )
            exporter.parts.provider.stop()
    finally:
        child.stop()
