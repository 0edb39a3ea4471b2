"""Hot reload of budget.yml and tokens: taken whole, or the old ones stay and say why."""

import os
import signal
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command.stack.processes import Child, free_port
from exporter.ledger.writer import LedgerUnavailableError
from tests.support.examples import examples
from tests.support.exporters import (
    ADMIN,
    INGEST,
    NOON,
    Exporter,
    event,
    exporter_process,
    url,
    write_config,
)
from tests.support.waiting import until


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    with Exporter(tmp_path, tokens=True) as running:
        yield running


def reload(exporter: Exporter, config: str, token: str = ADMIN) -> Any:
    write_config(exporter.folder, config)
    return exporter.http.post("/-/reload", headers={"Authorization": f"Bearer {token}"})


def book(exporter: Exporter, *events: dict[str, Any]) -> dict[str, Any]:
    return dict(exporter.post(list(events), Authorization=f"Bearer {INGEST}").json())


def test_limits_and_caps_apply_at_once(exporter: Exporter) -> None:
    config = """
        budget: {daily_limit_usd: 60.3, reserve_usd: 5, roasters: {blue-tokai: 7.5}}
        rate_limits: {minute: 7, scope: roaster}
    """
    exporter.clock.advance(60)
    assert reload(exporter, config).json() == {
        "loaded": "2027-01-15T12:01:00.000Z", "problem": None
    }  # fmt: skip
    assert exporter.status()["limit_usd"] == "60.3"
    assert exporter.value("llm_budget_daily_limit_usd") == 60.3
    assert exporter.value("llm_budget_reserve_usd") == 5
    assert exporter.value("llm_budget_roaster_limit_usd", roaster="blue-tokai") == 7.5
    assert exporter.value("llm_rate_limit_requests", window="minute", scope="roaster") == 7
    assert exporter.value("llm_config_last_reload_successful") == 1
    assert exporter.value("llm_config_last_reload_success_timestamp_seconds") == NOON + 60


def test_a_cap_of_what_never_appeared_is_a_warning_until_it_does(
    exporter: Exporter, caplog: pytest.LogCaptureFixture
) -> None:
    book(exporter, event(roaster="blue-tokai", field="notes"))
    caps = "budget: {roasters: {blue-tokai: 7.5, navio: 1}, fields: {notes: 9, tag: 2}}"
    said = [
        f"budget.{key} caps {name!r}, which no event in this ledger names yet; is it spelt as the "
        "scraper reports it?"
        for key, name in (("roasters", "navio"), ("fields", "tag"))
    ]
    assert reload(exporter, caps).status_code == 200
    assert exporter.status()["warnings"] == said
    assert [one.getMessage() for one in caplog.records if one.levelname == "WARNING"] == said
    page = exporter.http.get("/").text
    assert "caps &#39;navio&#39;, which" in page
    assert "<span>$0.00038</span> <span>of $7.50</span>" in page
    assert exporter.status()["roaster_limits_usd"] == {"blue-tokai": "7.5", "navio": "1"}
    assert exporter.value("llm_budget_field_limit_usd", field="tag") == 2
    book(exporter, event(roaster="navio", field="tag"))
    assert exporter.status()["warnings"] == []


@pytest.mark.parametrize("key", ["roasters", "fields"])
@pytest.mark.parametrize("cap", ["-1", "nan", "much", "[5]"])
def test_a_cap_that_is_no_amount_is_refused(exporter: Exporter, key: str, cap: str) -> None:
    answer = reload(exporter, f"budget: {{{key}: {{notes: {cap}}}}}")
    assert answer.status_code == 400
    assert "notes" in answer.json()["error"] or key in answer.json()["error"]
    assert exporter.status()[f"{key[:-1]}_limits_usd"] == {}


@pytest.mark.parametrize("key", ["roasters", "fields"])
@pytest.mark.parametrize("name", ["", "\\ud800", "a\\nb", "\\x1b[2J", "n" * 257])
def test_a_cap_of_a_name_that_no_event_may_have_is_refused(
    exporter: Exporter, key: str, name: str
) -> None:
    answer = reload(exporter, f'budget: {{{key}: {{"{name}": 1}}}}')
    assert answer.status_code == 400
    assert "which no event may be called" in answer.json()["error"]
    assert exporter.http.get("/metrics").status_code == 200


def test_a_cap_of_what_stands_for_many_names_is_a_warning_for_ever(exporter: Exporter) -> None:
    assert reload(exporter, "budget: {roasters: {other: 1, unknown: 0}}").status_code == 200
    book(exporter, event(roaster="other"), event(roaster=None))
    said = exporter.status()["warnings"]
    assert [one.partition(",")[0] for one in said] == [
        "budget.roasters caps 'other'", "budget.roasters caps 'unknown'"
    ]  # fmt: skip
    assert all("no stop can reach them" in one for one in said)


def test_new_prices_count_from_now_and_rewrite_nothing(exporter: Exporter) -> None:
    book(exporter, event())
    price = "{input_usd_per_1k: 0.001, output_usd_per_1k: 0.002}"
    assert reload(exporter, f"prices: {{deepseek-chat: {price}}}").status_code == 200
    book(exporter, event())
    assert exporter.spend() == Decimal("0.00038") + Decimal("0.0012")
    kind = {"model": "deepseek-chat", "type": "input"}
    assert exporter.value("llm_price_usd_per_million_tokens", **kind) == 1


def test_bounds_and_label_caps_apply_to_what_comes_next(exporter: Exporter) -> None:
    book(exporter, event(roaster="a"), event(roaster="b"))
    reload(exporter, "limits: {roasters: 1, batch_events: 2}")
    book(exporter, event(roaster="c"))
    assert set(exporter.status()["by_roaster"]) == {"a", "b", "other"}
    assert "more than 2 events" in book(exporter, event(), event(), event())["error"]
    reload(exporter, "")
    book(exporter, event(roaster="c"))
    assert "c" in exporter.status()["by_roaster"]


def test_host_names_apply_at_once_and_those_of_the_flags_stay(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter.parts, "_extra_hosts", ["by-flag"])

    def known(host: str) -> bool:
        return bool(exporter.http.get("/health", headers={"Host": host}).status_code == 200)

    assert reload(exporter, "access: {hosts: [one.internal]}").status_code == 200
    assert [known("one.internal"), known("by-flag"), known("two.internal")] == [True, True, False]
    assert reload(exporter, "access: {hosts: [two.internal]}").status_code == 200
    assert [known("one.internal"), known("by-flag"), known("two.internal")] == [False, True, True]


def test_a_new_calendar_waits_for_the_next_start_and_survives_a_restart(
    exporter: Exporter, tmp_path: Path
) -> None:
    config = 'budget: {timezone: Asia/Kolkata, day_starts_at: "06:00"}'
    before = exporter.status()["day"]
    assert reload(exporter, config).status_code == 200
    day = exporter.status()["day"]
    assert (day["date"], day["start"]) == (before["date"], before["start"])
    exporter.close()
    with Exporter(tmp_path, config, now=day["end"]) as again:
        assert again.status()["day"]["timezone"] == "Asia/Kolkata"
        assert again.status()["day"]["start"] == day["end"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("budget: {daily_limit_usd: 0}", "daily_limit_usd must be above 0"),
        ("budget: {timezone: Mars/Base}", "Mars/Base"),
        ("prices: {m: {input_usd_per_1k: -1, output_usd_per_1k: 0}}", "not between 0 and 10"),
        ("surprise: 1", "surprise"),
        ("budget: [", "not valid"),
        ("budget: !!bool no?", "not valid"),
        ('log: [{path: "a\\0"}]', "not a path"),
    ],
)
def test_a_bad_file_keeps_the_old_one_and_says_why(
    exporter: Exporter, config: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    reload(exporter, "budget: {daily_limit_usd: 50}")
    exporter.clock.advance(60)
    answer = reload(exporter, config)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert words in caplog.text
    status = exporter.status()
    assert words in status["config"]["problem"]
    assert status["limit_usd"] == "50"
    assert words in exporter.http.get("/").text.replace("&#39;", "'")
    assert exporter.value("llm_config_last_reload_successful") == 0
    assert exporter.value("llm_config_last_reload_success_timestamp_seconds") == NOON
    assert reload(exporter, "").status_code == 200
    assert exporter.status()["config"]["problem"] is None
    assert exporter.value("llm_config_last_reload_successful") == 1


def test_a_missing_file_keeps_the_old_one(exporter: Exporter, tmp_path: Path) -> None:
    (tmp_path / "budget.yml").unlink()
    answer = exporter.http.post("/-/reload", headers={"Authorization": f"Bearer {ADMIN}"})
    assert answer.status_code == 400
    assert "cannot read" in answer.json()["error"]


def test_a_ledger_that_cannot_be_written_keeps_the_old_config(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> object:
        raise LedgerUnavailableError("the ledger cannot be written: disk full")

    monkeypatch.setattr(exporter.ledger, "reconfigure", fail)
    answer = reload(exporter, "budget: {daily_limit_usd: 50}")
    assert answer.status_code == 503
    assert exporter.status()["limit_usd"] == "100"
    assert "disk full" in exporter.status()["config"]["problem"]


def test_what_nobody_foresaw_keeps_the_old_config_and_is_in_the_status(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> object:
        raise RuntimeError

    monkeypatch.setattr(exporter.parts, "_load", fail)
    with pytest.raises(RuntimeError):
        reload(exporter, "budget: {daily_limit_usd: 50}")
    assert exporter.status()["limit_usd"] == "100"
    assert exporter.status()["config"]["problem"] == "RuntimeError"
    assert exporter.value("llm_config_last_reload_successful") == 0
    assert "Traceback" in caplog.text


def test_only_the_admin_token_reloads(exporter: Exporter, tmp_path: Path) -> None:
    assert reload(exporter, "", token=INGEST).status_code == 401
    assert exporter.http.get("/-/reload").status_code == 405
    with Exporter(tmp_path / "open") as without:
        assert reload(without, "").status_code == 403


@settings(
    max_examples=examples(20),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.sampled_from(("10", "20", "30", "0")), min_size=1, max_size=6))
def test_the_last_good_file_is_in_force(exporter: Exporter, limits: list[str]) -> None:
    reload(exporter, "")
    good = "100"
    for limit in limits:
        reload(exporter, f"budget: {{daily_limit_usd: {limit}}}")
        good = limit if limit != "0" else good
        assert exporter.status()["limit_usd"] == good
    assert (exporter.status()["config"]["problem"] is None) == (limits[-1] != "0")


# The process.


def test_sighup_reloads_limits_and_a_token_file_that_changed(tmp_path: Path) -> None:
    token = tmp_path / "ingest"
    token.write_text("first-token-0123456789")
    config = f"{{access: {{ingest_token_file: {token}}}, budget: {{daily_limit_usd: %d}}}}"
    with exporter_process(tmp_path, config % 10) as child:

        def limit() -> str:
            return str(requests.get(url(child, "/api/v1/status"), timeout=10).json()["limit_usd"])

        def post(text: str) -> int:
            headers = {"Authorization": f"Bearer {text}"}
            where = url(child, "/v1/usage")
            return requests.post(where, json=event(), headers=headers, timeout=10).status_code

        assert post("first-token-0123456789") == 200
        token.write_text("second-token-0123456789")
        write_config(tmp_path, config % 20)
        assert limit() == "10"
        os.kill(child.pid, signal.SIGHUP)
        until(lambda: limit() == "20", what="the new limit")
        assert post("first-token-0123456789") == 401
        assert post("second-token-0123456789") == 200
        token.write_text("short")
        os.kill(child.pid, signal.SIGHUP)
        failed = "llm_config_last_reload_successful 0.0"
        until(
            lambda: failed in requests.get(url(child, "/metrics"), timeout=10).text,
            what="the failed reload",
        )
        assert post("second-token-0123456789") == 200
        assert "the config was not reloaded" in child.log.read_text()
        assert "second-token" not in child.log.read_text()
        assert child.stop() == 0


def test_sighup_does_not_end_the_receiver(tmp_path: Path) -> None:
    where = f"http://127.0.0.1:{(port := free_port())}"
    argv = [sys.executable, "-m", "alertmanager.receiver", "--listen", f"127.0.0.1:{port}"]
    argv += ["--effective", str(tmp_path / "effective.yml"), "--state", str(tmp_path / "state")]
    child = Child("receiver", argv, tmp_path / "log", f"{where}/health")
    child.start()
    try:
        child.wait_ready()
        os.kill(child.pid, signal.SIGHUP)
        assert requests.get(f"{where}/state", timeout=10).status_code == 200
        assert child.stop() == 0
    finally:
        child.stop()
