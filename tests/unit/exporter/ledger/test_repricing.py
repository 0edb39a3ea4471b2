"""llm-budget reprice: withheld cost is booked later, exactly, once, with its audit."""

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command.main import main
from exporter.config import load_config
from exporter.ledger.repricing import Reprice
from exporter.ledger.schema import MIGRATIONS, connect, m001_initial, migrate
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

MIDNIGHT = NOON - 43_200  # 2027-01-15T00:00:00Z, a Friday
DAY = 86_400
# Per million: 2.00 in, 1.00 cached, 4.00 out; from 16:30 to 00:30 UTC half of it.
PRICED = """
prices:
  house-model:
    input_usd_per_1k: 0.002
    cached_input_usd_per_1k: 0.001
    output_usd_per_1k: 0.004
    extras_usd_per_1k: {cache_write: 0.0025, output_audio: 0.009}
    windows:
      - from_utc: 16:30
        to_utc: 00:30
        input_usd_per_1k: 0.001
        cached_input_usd_per_1k: 0.0005
        output_usd_per_1k: 0.002
        extras_usd_per_1k: {cache_write: 0.00125, output_audio: 0.009}
"""
SERIES = {"roaster": "blue-tokai", "field": "notes", "model": "house-model"}


def call(at: float, prompt: int = 1000, completion: int = 0, cached: int = 0, **more: Any) -> Any:
    return event(prompt, completion, cached, at=at, model="house-model", **more)


def reprice(exporter: Exporter, **body: Any) -> dict[str, Any]:
    asked = {"author": "ada", "reason": "list arrived", **body}
    headers = {"Authorization": f"Bearer {ADMIN}"}
    answer = exporter.http.post("/api/v1/reprice", json=asked, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def book(exporter: Exporter, *events: Any) -> None:
    answer = exporter.post(list(events), Authorization=f"Bearer {INGEST}")
    assert answer.json()["rejected"] == []


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        return db.execute(query).fetchall()


@pytest.fixture
def unpriced(tmp_path: Path) -> Path:
    """A folder whose ledger holds three calls of a model without a price: on two days.

    By hand, at PRICED: yesterday 16:29:59 1,000 in = 0.002; yesterday 16:30:00 1,000 in = 0.001;
    today 00:30:00 1,000 in, 400 of them cached, 100 out = 0.0012 + 0.0004 + 0.0004 = 0.002.
    """
    with Exporter(tmp_path, now=NOON) as exporter:
        yesterday = MIDNIGHT - DAY
        exporter.book(
            call(yesterday + 59_399, id="a"),
            call(yesterday + 59_400),
            call(MIDNIGHT + 1800, 1000, 100, 400),
        )
        assert exporter.spend() == 0
        assert exporter.status()["unpriced_tokens"] == 3100
    return tmp_path


@pytest.fixture
def priced(unpriced: Path) -> Iterator[Exporter]:
    with Exporter(unpriced, PRICED, tokens=True) as exporter:
        yield exporter


def test_each_call_is_priced_at_its_own_minute_on_its_own_day(priced: Exporter) -> None:
    report = reprice(priced)
    assert report["added_usd"] == "0.005"
    assert [(x["day"], x["before_usd"], x["after_usd"], x["tokens"]) for x in report["lines"]] == [
        ("2027-01-14", "0", "0.003", 2000),
        ("2027-01-15", "0", "0.002", 1100),
    ]
    assert {price["source"] for line in report["lines"] for price in line["prices"]} == {
        "budget.yml",
        "budget.yml 16:30-00:30 UTC",
    }
    assert priced.spend() == Decimal("0.002")


def test_an_earlier_day_moves_the_day_start_and_today_the_spend(priced: Exporter) -> None:
    before = priced.value("llm_cost_usd_total", **SERIES)
    assert before == priced.value("llm_cost_usd_at_day_start", **SERIES) == 0
    reprice(priced)
    assert priced.value("llm_cost_usd_total", **SERIES) == 0.005
    assert priced.value("llm_cost_usd_at_day_start", **SERIES) == 0.003
    assert priced.value("llm_late_cost_usd_total") == 0, "a reprice is no late event"


def test_tokens_and_requests_stay_and_the_pending_gauge_clears(priced: Exporter) -> None:
    names = ("llm_requests_total", "llm_tokens_total", "llm_unpriced_tokens_total")

    def counts() -> dict[Any, float]:
        return {key: value for key, value in priced.page().items() if key[0] in names}

    before = counts()
    assert priced.value("llm_unpriced_pending_tokens", model="house-model") == 3100
    reprice(priced)
    assert counts() == before, "counters never fall"
    assert priced.value("llm_unpriced_pending_tokens", model="house-model") == 0
    assert priced.status()["unpriced_tokens"] == 0


def test_a_second_run_finds_nothing(priced: Exporter) -> None:
    reprice(priced)
    page = priced.http.get("/metrics").text
    again = reprice(priced)
    assert (again["lines"], again["withheld"], again["added_usd"]) == ([], [], "0")
    assert priced.http.get("/metrics").text == page


def test_a_dry_run_shows_the_same_and_changes_nothing(priced: Exporter) -> None:
    page = priced.http.get("/metrics").text
    shown = reprice(priced, dry_run=True)
    assert priced.http.get("/metrics").text == page
    assert reprice(priced) == shown | {"dry_run": False}


def test_one_model_at_a_time_and_what_has_no_price_is_named(priced: Exporter) -> None:
    book(priced, event(model="nobody-knows", provider="acme"))
    assert reprice(priced, model="nobody-knows")["added_usd"] == "0"
    report = reprice(priced, model="house-model")
    assert (report["added_usd"], report["withheld"]) == ("0.005", [])
    assert reprice(priced)["withheld"] == [
        {"model": "nobody-knows", "provider": "acme", "tokens": 1100}
    ]


def test_a_restart_shows_the_same_page(priced: Exporter) -> None:
    reprice(priced)
    page = priced.http.get("/metrics").text.split("# HELP llm_ingest")[0]
    counted = priced.value("llm_unpriced_tokens_total", model="house-model")
    priced.close()
    with Exporter(priced.folder, PRICED) as again:
        assert again.http.get("/metrics").text.split("# HELP llm_ingest")[0] == page
        assert again.value("llm_unpriced_tokens_total", model="house-model") == counted == 3100
        assert again.book(call(MIDNIGHT - DAY + 59_399, id="a"))["duplicate"] == 1


def test_the_audit_says_who_when_why_and_from_which_price(priced: Exporter) -> None:
    reprice(priced)
    query = (
        "SELECT author, reason, time, day, source, validity, cost_picodollars, input, input_tokens "
        "FROM reprices JOIN prices ON version = price_version ORDER BY cost_picodollars, day"
    )
    night = ("budget.yml", "16:30-00:30 UTC")
    assert rows(priced.folder, query) == [
        ("ada", "list arrived", NOON, "2027-01-14", *night, 10**9, 1_000_000, 1000),
        ("ada", "list arrived", NOON, "2027-01-14", "budget.yml", "", 2 * 10**9, 2_000_000, 1000),
        ("ada", "list arrived", NOON, "2027-01-15", "budget.yml", "", 2 * 10**9, 2_000_000, 600),
    ]


def test_estimated_usage_stays_marked(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.book(call(NOON - 1, estimated=True), call(NOON - 1))
    with Exporter(tmp_path, PRICED, tokens=True) as exporter:
        reprice(exporter)
        assert exporter.spend() == Decimal("0.004")
        assert exporter.value("llm_estimated_cost_usd_total", model="house-model") == 0.002


def test_a_free_model_clears_the_alert_and_costs_nothing(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.book(call(NOON - 1))
    free = "prices: {house-model: {input_usd_per_1k: 0, output_usd_per_1k: 0}}"
    with Exporter(tmp_path, free, tokens=True) as exporter:
        assert reprice(exporter)["lines"][0]["after_usd"] == "0"
        assert exporter.value("llm_unpriced_pending_tokens", model="house-model") == 0


def test_prompts_whose_tier_is_not_known_singly_stay_withheld(tmp_path: Path) -> None:
    """Beyond the cap nothing is looked up, so Gemini's calls wait; a person then asks by name.

    A lone call of 200,001 tokens pays the upper tier: 200,001 x $2.50 per million. In the other
    minute one of two did, and which is not known any more.
    """
    gemini = {"model": "gemini-2.5-pro", "provider": "google"}
    with Exporter(tmp_path, "limits: {models: 1}", tokens=True) as exporter:
        book(exporter, event(), event(200_001, 0, at=NOON - 60, **gemini))
        book(exporter, *(event(size, 0, at=NOON - 120, **gemini) for size in (200_001, 5)))
        assert reprice(exporter)["lines"] == []
        report = reprice(exporter, model="gemini-2.5-pro")
        assert report["lines"][0]["model"] == "other"
        assert report["added_usd"] == "0.5000025"
        assert [item["tokens"] for item in report["withheld"]] == [200_006]


@pytest.mark.parametrize(
    ("token", "body", "status"),
    [
        (None, {"author": "a", "reason": "b"}, 401),
        ("wrong-token-0123456789", {"author": "a", "reason": "b"}, 401),
        (ADMIN, {"author": "a"}, 400),
        (ADMIN, {"author": " ", "reason": "b"}, 400),
        (ADMIN, {"author": "a", "reason": "b", "dryrun": True}, 400),
        (ADMIN, [], 400),
    ],
)
def test_a_wrong_request_books_nothing(
    priced: Exporter, token: str | None, body: Any, status: int
) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    assert priced.http.post("/api/v1/reprice", json=body, headers=headers).status_code == status
    assert priced.status()["unpriced_tokens"] == 3100


def test_a_reprice_that_fails_half_way_changed_nothing(
    priced: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    before = priced.status()["unpriced_tokens"]
    monkeypatch.setattr("exporter.ledger.repricing._audit", full_disk)
    headers = {"Authorization": f"Bearer {ADMIN}"}
    asked = {"author": "ada", "reason": "try"}
    answer = priced.http.post("/api/v1/reprice", json=asked, headers=headers)
    assert answer.status_code == 503
    assert "disk is full" in answer.json()["error"]
    monkeypatch.undo()
    assert priced.status()["unpriced_tokens"] == before
    assert reprice(priced)["added_usd"] == "0.005"


def test_two_at_once_book_it_once(priced: Exporter) -> None:
    wish = Reprice("ada", "twice")
    both = [priced.ledger.reprice(wish) for _ in range(2)]
    assert [done.result(30).report["added_usd"] for done in both] == ["0.005", "0"]
    assert priced.spend() == Decimal("0.002")


def test_killed_in_the_middle_it_books_all_or_nothing(unpriced: Path) -> None:
    """The process dies by SIGKILL after the accounts were moved and before the commit."""
    write_config(unpriced, PRICED)
    program = (
        "import os, signal, sys; from command.main import main; "
        "from exporter.ledger import repricing; "
        "repricing._audit = lambda *_: os.kill(os.getpid(), signal.SIGKILL); "
        f"main({['reprice', '--yes', *offline(unpriced)]!r})"
    )
    died = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL
    with Exporter(unpriced, PRICED, tokens=True) as exporter:
        assert exporter.status()["unpriced_tokens"] == 3100
        assert reprice(exporter)["added_usd"] == "0.005"


def test_a_price_that_a_reload_brought_is_found(unpriced: Path) -> None:
    with Exporter(unpriced, tokens=True) as exporter:
        assert reprice(exporter)["added_usd"] == "0"
        exporter.ledger.reconfigure(load_config(write_config(unpriced, PRICED))).result(30)
        assert reprice(exporter)["added_usd"] == "0.005"


# --- exactness: a reprice leaves the accounts that the price would have made at once -------------

ACCOUNTS = """
    SELECT day, roaster, field, accounts.model, source, validity, success, error, rate_limited,
        cached, fallback, input_tokens, cached_input_tokens, output_tokens, cost_picodollars,
        estimated_cost_picodollars, batch_items, batch_slots
    FROM accounts JOIN prices ON version = price_version ORDER BY 1, 2, 3, 4, 5, 6
"""
CALLS = st.lists(
    st.builds(
        lambda ago, prompt, completion, cached, extras, roaster, estimated, outcome: {
            **call(
                NOON - 60 * ago[0] - ago[1] / 1000,
                batch_items=1,
                batch_slots=2,
            ),
            "usage": {
                "prompt_tokens": prompt + cached + extras[0],
                "completion_tokens": completion + extras[1],
                "prompt_cache_hit_tokens": cached,
                "cache_creation_input_tokens": extras[0],
                "completion_tokens_details": {"audio_tokens": extras[1]},
            },
            "roaster": roaster,
            "estimated": estimated,
            "outcome": outcome,
        },
        st.tuples(
            st.integers(0, 3 * 1440) | st.sampled_from([689, 690, 1169, 1170, 2129, 2130]),
            st.integers(0, 59_999),
        ),
        st.integers(1, 10_000),
        st.integers(0, 10_000),
        st.integers(0, 10_000),
        st.tuples(*[st.sampled_from([0, 0, 700])] * 2),
        st.sampled_from("xy"),
        st.booleans(),
        st.sampled_from(["success", "error"]),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(CALLS, st.integers(0, 30))
def test_the_accounts_are_what_they_had_been_with_the_price_at_once(
    tmp_path_factory: pytest.TempPathFactory, calls: list[dict[str, Any]], known_after: int
) -> None:
    folder = tmp_path_factory.mktemp("reprice")
    with Exporter(folder / "at-once", PRICED) as exporter:
        exporter.book(*calls)
    with Exporter(folder / "later") as exporter:
        exporter.book(*calls[:known_after])
    with Exporter(folder / "later", PRICED, tokens=True) as exporter:
        book(exporter, *calls[known_after:])
        reprice(exporter)
    assert rows(folder / "later", ACCOUNTS) == rows(folder / "at-once", ACCOUNTS)
    assert rows(folder / "later", "SELECT * FROM unpriced") == []


def test_tokens_of_a_kind_without_a_price_keep_their_event_back(tmp_path: Path) -> None:
    """Cache writes first have no price, then 2.50 per million: 900 x 2 + 100 x 2.5 + 10 x 4."""
    usage = {"prompt_tokens": 1000, "completion_tokens": 10, "cache_creation_input_tokens": 100}
    plain = PRICED.replace("cache_write", "cached_video")
    with Exporter(tmp_path, plain, tokens=True) as exporter:
        book(exporter, {**call(NOON), "usage": usage}, {**call(NOON), "usage": usage})
        assert exporter.value("llm_unpriced_pending_tokens", model="house-model") == 2020
        assert reprice(exporter)["added_usd"] == "0"
    with Exporter(tmp_path, PRICED, tokens=True) as exporter:
        assert reprice(exporter)["added_usd"] == "0.00418"
        assert exporter.value("llm_unpriced_pending_tokens", model="house-model") == 0
        assert exporter.value("llm_tokens_total", type="input", **SERIES) == 2000
        assert exporter.value("llm_requests_total", outcome="success", **SERIES) == 2
    accounts = "SELECT validity, input_tokens FROM accounts JOIN prices ON version = price_version"
    assert rows(tmp_path, f"{accounts} ORDER BY 1") == [("", 1800), ("cache_write", 200)]


def test_extras_of_an_unknown_kind_from_an_older_ledger_stay_withheld(unpriced: Path) -> None:
    with closing(sqlite3.connect(unpriced / "ledger.sqlite")) as db:
        db.execute("UPDATE unpriced SET extras = 1 WHERE output_tokens > 0")
        db.commit()
    with Exporter(unpriced, PRICED, tokens=True) as exporter:
        assert reprice(exporter)["added_usd"] == "0.003"
        assert exporter.value("llm_unpriced_pending_tokens", model="house-model") == 1100


# --- the command line ---------------------------------------------------------------------------


def offline(folder: Path) -> list[str]:
    """Flags for a folder's ledger, with no exporter at the address they name."""
    files = ["--config", str(folder / "budget.yml"), "--ledger", str(folder / "ledger.sqlite")]
    return ["--exporter", "http://127.0.0.1:9", *files]


def cli(folder: Path, *flags: str) -> int:
    return main(["reprice", *offline(folder), *flags])


def test_with_the_exporter_down_the_command_writes_its_ledger(
    unpriced: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(unpriced, PRICED)
    assert cli(unpriced) == 0  # standard input is no terminal: nobody can say yes
    said = capsys.readouterr()
    assert "Would add $0.005." in said.out
    assert "say --yes" in said.out
    assert "exporter is down" in said.err
    assert rows(unpriced, "SELECT count(*) FROM reprices") == [(0,)]
    assert cli(unpriced, "--yes", "--author", "ada", "--reason", "why") == 0
    assert "Booked $0.005." in capsys.readouterr().out
    assert rows(unpriced, "SELECT DISTINCT author, reason FROM reprices") == [("ada", "why")]
    assert cli(unpriced, "--yes") == 0
    assert "No withheld cost has a price now." in capsys.readouterr().out


def test_json_is_for_programs(unpriced: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(unpriced, "--json") == 0  # not priced still
    shown = json.loads(capsys.readouterr().out)
    assert shown["withheld"] == [{"model": "house-model", "provider": "deepseek", "tokens": 3100}]
    write_config(unpriced, PRICED)
    assert cli(unpriced, "--json", "--yes") == 0
    assert json.loads(capsys.readouterr().out)["added_usd"] == "0.005"


@pytest.mark.parametrize(("answer", "booked"), [("y", 3), ("yes", 3), ("", 0), ("n", 0)])
def test_a_person_is_asked(
    unpriced: Path, monkeypatch: pytest.MonkeyPatch, answer: str, booked: int
) -> None:
    write_config(unpriced, PRICED)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    assert cli(unpriced) == 0
    assert rows(unpriced, "SELECT count(*) FROM reprices") == [(booked,)]


def test_a_running_exporters_ledger_is_not_touched(
    priced: Exporter, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(priced.folder, "--yes") == 2
    assert "an exporter already uses it" in capsys.readouterr().err
    assert priced.status()["unpriced_tokens"] == 3100


def test_through_a_running_exporter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The operator's way: usage arrives, a price is written, reloaded, and the cost booked."""
    monkeypatch.setenv("LLM_BUDGET_ADMIN_TOKEN", ADMIN)
    with exporter_process(tmp_path) as child:
        call = event(1000, 0, model="house-model")
        assert requests.post(url(child, "/v1/usage"), json=call, timeout=10).json()["accepted"] == 1
        write_config(tmp_path, PRICED.split("    windows:")[0])
        headers = {"Authorization": f"Bearer {ADMIN}"}
        reloaded = requests.post(url(child, "/-/reload"), headers=headers, timeout=10)
        assert reloaded.status_code == 200, reloaded.text
        flags = ["--exporter", url(child, ""), "--author", "ada", "--json", "--yes"]
        assert main(["reprice", *flags]) == 0
        assert json.loads(capsys.readouterr().out)["added_usd"] == "0.002"
        status = requests.get(url(child, "/api/v1/status"), timeout=10).json()
        assert (status["spend_usd"], status["unpriced_tokens"]) == ("0.002", 0)


# --- the migration ------------------------------------------------------------------------------


def test_usage_of_the_first_schema_can_be_repriced_by_its_day(tmp_path: Path) -> None:
    first = tmp_path / "ledger.sqlite"
    db = connect(first)
    migrate(db, first, (m001_initial,))
    sums = "1, 0, 0, 0, 0, 1000, 0, 100, {cost}, 0, 0, 0, 0"
    row = "INSERT INTO accounts VALUES ('2027-01-14', 'r', 'f', '{model}', {version}, {sums})"
    db.execute("INSERT INTO prices VALUES (1, 'deepseek-chat', 'budget.yml', 1, 1, 1)")
    db.execute(row.format(model="house-model", version=0, sums=sums.format(cost=0)))
    db.execute(row.format(model="deepseek-chat", version=1, sums=sums.format(cost=1100)))
    db.close()
    with Exporter(tmp_path, PRICED, tokens=True) as exporter:
        assert rows(tmp_path, "PRAGMA user_version") == [(len(MIGRATIONS),)]
        assert rows(tmp_path, "PRAGMA foreign_key_check") == []
        labels = {"roaster": "r", "field": "f", "model": "deepseek-chat"}
        assert exporter.value("llm_cost_usd_total", **labels) == 1100e-12
        # At that date's noon, which is all that is known: 1,000 x 2.00 + 100 x 4.00 per million.
        assert reprice(exporter)["added_usd"] == "0.0024"
        assert reprice(exporter)["lines"] == []
