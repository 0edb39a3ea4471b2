"""Grants and resets over HTTP, under the admin token."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.exporters import ADMIN, INGEST, Exporter, event

WHO = {"reason": "launch day", "author": "asha"}


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    with Exporter(tmp_path, tokens=True) as running:
        yield running


def post(exporter: Exporter, path: str, body: Any, token: str = ADMIN, **headers: str) -> Any:
    headers = {"Authorization": f"Bearer {token}", **headers}
    return exporter.http.post(f"/api/v1/{path}", json=body, headers=headers)


def listed(exporter: Exporter, path: str) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {ADMIN}"}
    return list(exporter.http.get(f"/api/v1/{path}", headers=headers).json()[path])


def spend(exporter: Exporter, *events: dict[str, Any]) -> None:
    answer = exporter.post(list(events), Authorization=f"Bearer {INGEST}")
    assert answer.json()["accepted"] == len(events)


def money(exporter: Exporter) -> tuple[str, str, str]:
    status = exporter.status()
    return status["spend_usd"], status["written_off_usd"], status["granted_usd"]


def test_a_grant_adds_up_exactly_and_is_audited(exporter: Exporter) -> None:
    for amount in ("12.5", "0.000000000001"):
        answer = post(exporter, "grants", {"amount_usd": amount, **WHO})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "day": "2027-01-15", "kind": "grant", "usd": amount, "duplicate": False
        }  # fmt: skip
    assert post(exporter, "grants", {"amount_usd": 0.1, **WHO}).json()["usd"] == "0.1"
    assert money(exporter) == ("0", "0", "12.600000000001")
    assert exporter.value("llm_budget_granted_usd") == pytest.approx(12.6)
    (first, *_) = listed(exporter, "grants")
    assert first == {
        "kind": "grant", "usd": "12.5", "time": "2027-01-15T12:00:00.000Z", **WHO
    }  # fmt: skip
    assert listed(exporter, "resets") == []


def test_a_reset_writes_off_the_spend_so_far_and_moves_no_total(exporter: Exporter) -> None:
    spend(exporter, event())
    assert post(exporter, "resets", WHO).json()["usd"] == "0.00038"
    assert post(exporter, "resets", WHO).json()["usd"] == "0"  # twice the same is harmless
    assert money(exporter) == ("0.00038", "0.00038", "0")
    assert len(listed(exporter, "resets")) == 1
    spend(exporter, event(2000))
    assert exporter.status()["utilization"] == pytest.approx(0.00065 / 100)
    assert post(exporter, "resets", WHO).json()["usd"] == "0.00065"
    assert money(exporter) == ("0.00103", "0.00103", "0")
    labels = {"roaster": "blue-tokai", "field": "notes", "model": "deepseek-chat"}
    assert exporter.value("llm_cost_usd_total", **labels) == 0.00103
    assert exporter.value("llm_cost_usd_at_day_start", **labels) == 0


def test_a_reset_leaves_other_days_alone(exporter: Exporter) -> None:
    spend(exporter, event(at=exporter.clock.now() - 86_400))
    assert post(exporter, "resets", WHO).json()["usd"] == "0"


def test_both_end_with_the_day_and_survive_a_restart(exporter: Exporter, tmp_path: Path) -> None:
    spend(exporter, event())
    post(exporter, "resets", WHO)
    post(exporter, "grants", {"amount_usd": "5", **WHO})
    exporter.close()
    with Exporter(tmp_path, tokens=True) as again:
        assert money(again) == ("0.00038", "0.00038", "5")
        again.clock.advance(43_200)
        assert money(again) == ("0", "0", "0")
        assert listed(again, "grants") == []


def test_a_page_rendered_as_the_day_turns_is_of_one_day(exporter: Exporter) -> None:
    """Yesterday's spend without yesterday's write-off would look like an exhausted budget."""
    yesterday = exporter.ledger.today()
    spend(exporter, event())
    post(exporter, "resets", WHO)
    post(exporter, "grants", {"amount_usd": "5", **WHO})
    exporter.clock.set(yesterday.end)
    page = exporter.parts.page.render(yesterday).decode()
    labels = 'roaster="blue-tokai",field="notes",model="deepseek-chat"'
    day = f'day="{yesterday.start}",ledger="{exporter.ledger.books.ledger_id}"'
    for line in (
        f"llm_cost_usd_at_day_start{{{labels}}} 0",
        f"llm_ledger_spend_usd{{{day}}} 0.00038",
        f"llm_budget_written_off_usd{{{day}}} 0.00038",
        f"llm_budget_granted_usd{{{day}}} 5.0",
    ):
        assert f"\n{line}\n" in page
    (end,) = re.findall(r"\nllm_budget_day_end_timestamp_seconds\{\S+ (\S+)", page)
    assert float(end) == yesterday.end
    assert exporter.value("llm_budget_written_off_usd") == 0


def test_each_grant_and_reset_begins_an_epoch_that_a_restart_keeps(tmp_path: Path) -> None:
    """Page and status show it beside the limit that it made."""
    with Exporter(tmp_path, tokens=True) as exporter:
        assert (exporter.status()["epoch"], exporter.value("llm_ledger_epoch")) == (0, 0)
        post(exporter, "resets", WHO)  # there is nothing to write off
        assert exporter.status()["epoch"] == 0
        post(exporter, "grants", {"amount_usd": "5", "id": "a", **WHO})
        post(exporter, "grants", {"amount_usd": "5", "id": "a", **WHO})
        assert (exporter.status()["epoch"], exporter.status()["granted_usd"]) == (1, "5")
        spend(exporter, event())
        post(exporter, "resets", WHO)
        assert (exporter.status()["epoch"], exporter.value("llm_ledger_epoch")) == (2, 2)
    with Exporter(tmp_path, tokens=True) as again:
        assert again.status()["epoch"] == 2
        again.clock.advance(86_400)
        assert again.value("llm_ledger_epoch") == 2, "the next day does not begin anew"


def test_the_same_id_grants_once_also_on_the_next_day(exporter: Exporter) -> None:
    asked = {"amount_usd": "5", "id": "a", **WHO}
    assert post(exporter, "grants", asked).json()["duplicate"] is False
    exporter.clock.advance(86_400)
    assert post(exporter, "grants", asked).json()["duplicate"] is True
    assert money(exporter) == ("0", "0", "0")
    answer = post(exporter, "grants", asked | {"amount_usd": "6"})
    assert answer.status_code == 400
    assert answer.json()["error"] == "the id 'a' was used for a different grant"
    assert post(exporter, "resets", {"id": "a", **WHO}).json()["duplicate"] is False


def test_an_id_of_a_grant_is_no_id_of_an_event(exporter: Exporter) -> None:
    post(exporter, "grants", {"amount_usd": "5", "id": "a", **WHO})
    spend(exporter, event(id="a"), event(id="grant\0a", provider=""))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({**WHO}, "amount_usd"),
        ({"amount_usd": "5", "author": "a"}, "reason"),
        ({"amount_usd": "5", "reason": "r"}, "author"),
        ({"amount_usd": "5", "reason": "", "author": "a"}, "$.reason"),
        ({"amount_usd": "5", "reason": "  ", "author": "a"}, "needs a reason"),
        ({"amount_usd": "5", "reason": "r" * 501, "author": "a"}, "$.reason"),
        ({"amount_usd": "0", **WHO}, "above 0"),
        ({"amount_usd": "-5", **WHO}, "above 0"),
        ({"amount_usd": "1000001", **WHO}, "at most 1,000,000"),
        ({"amount_usd": "1e999999", **WHO}, "more than anybody has"),
        ({"amount_usd": "NaN", **WHO}, "not an amount"),
        ({"amount_usd": "five", **WHO}, "amount_usd"),
        ({"amount_usd": "0.0000000000001", **WHO}, "finer than 1 pico"),
        ({"amount_usd": "5", "currency": "EUR", **WHO}, "currency"),
        ([], "object"),
    ],
)
def test_a_wrong_grant_is_refused_in_a_sentence(exporter: Exporter, body: Any, words: str) -> None:
    answer = post(exporter, "grants", body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert money(exporter) == ("0", "0", "0")


@pytest.mark.parametrize("path", ["grants", "resets"])
def test_only_the_admin_token_opens_the_admin_endpoints(exporter: Exporter, path: str) -> None:
    for token in ("", INGEST, ADMIN[:-1]):
        assert post(exporter, path, WHO, token).status_code == 401
    assert exporter.http.get(f"/api/v1/{path}").status_code == 401


def test_without_an_admin_token_nobody_may(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        answer = post(exporter, "grants", {"amount_usd": "5", **WHO})
        assert answer.status_code == 403
        assert "LLM_BUDGET_ADMIN_TOKEN_FILE" in answer.json()["error"]


def test_the_audit_and_the_sums_tell_the_same(exporter: Exporter, tmp_path: Path) -> None:
    spend(exporter, event())
    post(exporter, "resets", WHO)
    post(exporter, "grants", {"amount_usd": "5", **WHO})
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        rows = db.execute("SELECT kind, picodollars, author FROM adjustments").fetchall()
    assert rows == [("reset", 380_000_000, "asha"), ("grant", 5 * 10**12, "asha")]
