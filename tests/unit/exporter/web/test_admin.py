"""Grants and resets over HTTP, under the admin token."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.ledger.adjustments import Revoke
from exporter.ledger.backup import backup, restore
from tests.support.exporters import ADMIN, INGEST, Exporter, event, write_config

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
    for number, amount in enumerate(("12.5", "0.000000000001"), 1):
        answer = post(exporter, "grants", {"amount_usd": amount, **WHO})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "number": number, "day": "2027-01-15", "kind": "grant", "undone": "", "usd": amount,
            "roaster": "", "duplicate": False,
        }  # fmt: skip
    assert post(exporter, "grants", {"amount_usd": 0.1, **WHO}).json()["usd"] == "0.1"
    assert money(exporter) == ("0", "0", "12.600000000001")
    assert exporter.value("llm_budget_granted_usd") == pytest.approx(12.6)
    (first, *_) = listed(exporter, "grants")
    assert first == {
        "number": 1, "kind": "grant", "usd": "12.5", "roaster": "", "revokes": None,
        "revoked_by": None, "time": "2027-01-15T12:00:00.000Z", **WHO,
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
        (
            {"amount_usd": "1000.01", **WHO},
            "$1000.01 is more than 10 times the daily limit of $100",
        ),
        ({"amount_usd": "1000.01", "yes": False, **WHO}, 'say --yes (over HTTP: "yes": true)'),
        (
            {"amount_usd": "5", "roaster": "naivo", **WHO},
            "'naivo' has no cap in budget.yml",
        ),
        ({"amount_usd": "5", "roaster": None, **WHO}, "roaster"),
        ([], "object"),
    ],
)
def test_a_wrong_grant_is_refused_in_a_sentence(exporter: Exporter, body: Any, words: str) -> None:
    answer = post(exporter, "grants", body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert money(exporter) == ("0", "0", "0")


def test_what_is_unusual_is_granted_when_it_is_meant(exporter: Exporter) -> None:
    assert post(exporter, "grants", {"amount_usd": "1000", **WHO}).status_code == 200
    unusual = {"amount_usd": "1000.01", "yes": True, **WHO}
    assert post(exporter, "grants", unusual).status_code == 200
    assert money(exporter) == ("0", "0", "2000.01")


def revoke(exporter: Exporter, number: int, **more: str) -> Any:
    return post(exporter, "revokes", {"number": number, **WHO, **more})


def test_a_grant_and_a_reset_are_revoked_once_and_the_trail_says_so(exporter: Exporter) -> None:
    spend(exporter, event())
    post(exporter, "grants", {"amount_usd": "5", **WHO})
    post(exporter, "resets", WHO)
    assert revoke(exporter, 1).json() == {
        "number": 3, "day": "2027-01-15", "kind": "revoke", "undone": "grant", "usd": "5",
        "roaster": "", "duplicate": False,
    }  # fmt: skip
    assert revoke(exporter, 2).json()["undone"] == "reset"
    assert money(exporter) == ("0.00038", "0", "0")
    assert (exporter.status()["epoch"], exporter.value("llm_ledger_epoch")) == (4, 4)
    assert exporter.value("llm_budget_written_off_usd") == 0
    assert [one["revoked_by"] for one in listed(exporter, "grants")] == [3]
    assert [(one["revokes"], one["usd"]) for one in listed(exporter, "revokes")] == [
        (1, "5"), (2, "0.00038")
    ]  # fmt: skip
    assert post(exporter, "resets", WHO).json()["usd"] == "0.00038", "it is spend again"
    assert exporter.value("llm_budget_grants") == 1, "one was made, revoked or not"


def test_a_grant_revoked_after_it_was_spent_leaves_the_day_overspent(tmp_path: Path) -> None:
    with Exporter(tmp_path, "budget: {daily_limit_usd: 0.0002}", tokens=True) as exporter:
        post(exporter, "grants", {"amount_usd": "0.001", **WHO})
        spend(exporter, event())
        assert revoke(exporter, 1).status_code == 200
        status = exporter.status()
        assert (status["limit_usd"], status["granted_usd"]) == ("0.0002", "0")
        assert status["utilization"] == pytest.approx(1.9)


def test_what_cannot_be_revoked_is_one_sentence_and_changes_nothing(exporter: Exporter) -> None:
    post(exporter, "grants", {"amount_usd": "5", **WHO})
    exporter.clock.advance(43_200)  # midnight comes between a grant and its revoke
    post(exporter, "grants", {"amount_usd": "7", **WHO})
    post(exporter, "grants", {"amount_usd": "9", **WHO})
    revoke(exporter, 3)
    before = money(exporter), exporter.status()["epoch"]
    for number, words in (
        (1, "1 is a grant of 2027-01-15: it ended with that day"),
        (3, "3 was revoked before, by 4"),
        (4, "4 is no grant or reset"),  # but of a revoke
        (5, "5 is no grant or reset"),
        (0, "0 is no grant or reset"),
        (10**30, "0 is no grant or reset"),
    ):
        answer = revoke(exporter, number)
        assert (answer.status_code, words in answer.json()["error"]) == (400, True), answer.text
    assert (money(exporter), exporter.status()["epoch"]) == before == (("0", "0", "7"), 4)


def test_of_revokes_at_the_same_time_one_counts(exporter: Exporter) -> None:
    post(exporter, "grants", {"amount_usd": "5", **WHO})
    asked = [Revoke(number=1, id=name, **WHO) for name in ("", "", "a", "a", "b")]
    futures = [exporter.ledger.adjust(one) for one in asked]  # the writer takes them in turn
    refused = [str(future.exception()) for future in futures if future.exception()]
    assert refused == ["1 was revoked before, by 2"] * 4
    assert money(exporter) == ("0", "0", "0")


def test_a_revoke_whose_answer_was_lost_is_known_by_its_id(
    exporter: Exporter, tmp_path: Path
) -> None:
    """Killed between the write and the answer: the same request again says what it did."""
    post(exporter, "grants", {"amount_usd": "5", "id": "g", **WHO})
    revoke(exporter, 1, id="r")
    exporter.close()
    with Exporter(tmp_path, tokens=True) as again:
        assert money(again) == ("0", "0", "0")
        answer = revoke(again, 1, id="r").json()
        assert (answer["duplicate"], answer["number"], answer["undone"]) == (True, 2, "grant")
        grant = post(again, "grants", {"amount_usd": "5", "id": "g", **WHO}).json()
        assert (grant["duplicate"], grant["number"]) == (True, 1)
        assert (money(again), again.status()["epoch"]) == (("0", "0", "0"), 2)


def test_a_restored_ledger_does_not_know_what_was_granted_since(
    exporter: Exporter, tmp_path: Path
) -> None:
    post(exporter, "grants", {"amount_usd": "5", **WHO})
    backup(tmp_path / "ledger.sqlite", tmp_path / "copy", force=False)
    post(exporter, "grants", {"amount_usd": "7", **WHO})
    exporter.close()
    restore(tmp_path / "copy", tmp_path / "ledger.sqlite", force=True)
    with Exporter(tmp_path, tokens=True) as again:
        assert "2 is no grant or reset" in revoke(again, 2).json()["error"]
        assert revoke(again, 1).json()["number"] == 2
        assert (money(again), again.status()["epoch"]) == (("0", "0", "0"), 2)


def test_a_grant_for_a_roaster_raises_its_own_cap_only(tmp_path: Path) -> None:
    config = "budget: {roasters: {naivo: 2, subko: 1}}"
    with Exporter(tmp_path, config, tokens=True) as exporter:
        asked = {"amount_usd": "5", "roaster": "naivo", "id": "a", **WHO}
        assert exporter.value("llm_budget_roaster_granted_usd", roaster="naivo") is None
        assert post(exporter, "grants", asked).json()["roaster"] == "naivo"
        assert post(exporter, "grants", {**asked, "roaster": "subko"}).status_code == 400
        assert money(exporter) == ("0", "0", "0")
        assert exporter.value("llm_budget_granted_usd") == 0
        assert exporter.value("llm_budget_grants") == 1
        assert listed(exporter, "grants")[0]["roaster"] == "naivo"
        assert exporter.status()["roaster_limits_usd"] == {"naivo": "7", "subko": "1"}
        assert exporter.status()["epoch"] == 1
        assert revoke(exporter, 1).json()["roaster"] == "naivo"
        post(exporter, "grants", {**asked, "id": "b", "amount_usd": "0.5"})
    with Exporter(tmp_path, config, tokens=True) as again:
        assert again.value("llm_budget_roaster_granted_usd", roaster="naivo") == 0.5
        assert again.value("llm_budget_roaster_granted_usd", roaster="subko") is None
        again.clock.advance(86_400)
        assert again.value("llm_budget_roaster_granted_usd", roaster="naivo") is None
    with Exporter(tmp_path, tokens=True) as uncapped:  # the cap is gone; what was booked stays
        assert post(uncapped, "grants", asked).json()["duplicate"] is True


def test_a_reload_takes_caps_and_limit_for_the_next_grant(exporter: Exporter) -> None:
    for change in ("{roasters: {naivo: 2}}", "{daily_limit_usd: 0.4}"):
        write_config(exporter.folder, f"budget: {change}")
        headers = {"Authorization": f"Bearer {ADMIN}"}
        assert exporter.http.post("/-/reload", headers=headers).status_code == 200
        answer = post(exporter, "grants", {"amount_usd": "5", "roaster": "naivo", **WHO})
        assert answer.status_code == (200 if "naivo" in change else 400)
    assert "more than 10 times" in post(exporter, "grants", {"amount_usd": "5", **WHO}).text


@pytest.mark.parametrize("path", ["grants", "resets", "revokes"])
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
