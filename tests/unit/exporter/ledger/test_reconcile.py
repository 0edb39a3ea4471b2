"""The balance as polled against the books: exact, by UTC's days; what is not known is said."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from common.clock import iso8601
from exporter.ledger import balances
from tests.support.api_schemas import Reconciliation
from tests.support.exporters import NOON, Exporter, event

DAY, HOUR, MINUTE = 86_400, 3600, 60
MIDNIGHT = NOON - 12 * HOUR
# 1,000,000 input tokens at the runbook's price of $0.00027 a thousand: $0.27.
CALL, COST = {"prompt": 1_000_000, "completion": 0}, Decimal("0.27")
POLLED = "provider: {}"


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    with Exporter(tmp_path, POLLED, NOON) as exporter:
        yield exporter


def polled(exporter: Exporter, total: str, granted: str = "0", currency: str = "USD") -> None:
    """A poll, now."""
    found = {currency: tuple(int(Decimal(text) * 10**6) for text in (total, granted))}
    exporter.ledger.keep_balances(found).result(30)


def live(
    exporter: Exporter, minutes: int, start: str, calls: int = 0, price: Decimal = COST
) -> str:
    """Polls each minute, after each of the first so many a call that costs price; the balance."""
    balance = Decimal(start)
    for minute in range(minutes):
        polled(exporter, f"{balance}")
        if minute < calls:
            exporter.book(event(**CALL))
            balance -= price
        exporter.clock.advance(MINUTE)
    polled(exporter, f"{balance}")
    return f"{balance}"


def asked(exporter: Exporter, since: str = "7d", **more: str) -> Reconciliation:
    answer = exporter.http.get("/api/v1/reconcile", params={"since": since, **more})
    assert answer.status_code == 200, answer.text
    return msgspec.convert(answer.json(), Reconciliation)


def figures(found: Reconciliation) -> tuple[str | None, ...]:
    total = found.total
    amounts = (total.charged_usd, total.topped_up_usd, total.booked_usd, total.difference_usd)
    return tuple(None if amount is None else f"{amount:f}" for amount in amounts)


def rows(folder: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        return db.execute("SELECT * FROM balances ORDER BY id").fetchall()


def test_what_was_booked_and_charged_alike_makes_no_difference(exporter: Exporter) -> None:
    live(exporter, 12, "10", calls=10)
    found = asked(exporter)
    assert figures(found) == ("2.7", "0", "2.7", "0")
    assert (found.problem, found.causes) == ("", [])
    assert (found.since, found.until) == (iso8601(NOON), iso8601(NOON + 12 * MINUTE))
    assert [day.day for day in found.days] == ["2027-01-15"]


def test_what_is_booked_within_five_minutes_of_the_first_and_last_poll_counts(
    exporter: Exporter,
) -> None:
    exporter.clock.advance(100)  # amid a slot
    live(exporter, 1, "10", calls=1)
    assert figures(asked(exporter)) == ("0.27", "0", "0.27", "0")
    exporter.clock.advance(DAY)  # while nobody polled
    assert figures(asked(exporter)) == ("0.27", "0", "0.27", "0")


def test_a_row_is_kept_for_each_change_and_says_until_when_it_held(
    exporter: Exporter, tmp_path: Path
) -> None:
    live(exporter, 5, "10", calls=1)
    held = [(10_000_000, NOON, NOON), (9_730_000, NOON + MINUTE, NOON + 5 * MINUTE)]
    assert [(row[2], *row[4:]) for row in rows(tmp_path)] == held
    with Exporter(tmp_path / "copy", POLLED):
        pass  # another ledger has its own
    exporter.close()
    with Exporter(tmp_path, POLLED, NOON + 6 * MINUTE) as again:
        polled(again, "9.73")
        assert [row[5] for row in rows(tmp_path)] == [NOON, NOON + 6 * MINUTE]


def test_the_last_changes_are_kept_and_each_currency_s_newest(
    exporter: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balances, "KEPT", 3)
    for number in range(9):
        found = {"EUR": (5_000_000, 0), "USD": (number * 1_000_000, 0)}
        exporter.ledger.keep_balances(found).result(30)
        exporter.clock.advance(MINUTE)
    assert [(row[1], row[2]) for row in rows(tmp_path)] == [
        ("EUR", 5_000_000), ("USD", 6_000_000), ("USD", 7_000_000), ("USD", 8_000_000),
    ]  # fmt: skip


def test_a_top_up_is_a_rise_and_no_negative_charge(exporter: Exporter) -> None:
    balance = live(exporter, 3, "1", calls=2)
    live(exporter, 3, f"{Decimal(balance) + 50}", calls=2)
    found = asked(exporter)
    assert figures(found)[:2] == ("1.08", "50")
    assert found.causes == []


def test_days_are_utc_s_whatever_zone_the_budget_has(tmp_path: Path) -> None:
    zone = "\nbudget: {timezone: Asia/Kolkata}"
    with Exporter(tmp_path, POLLED + zone, MIDNIGHT - 5 * MINUTE) as exporter:
        live(exporter, 10, "10", calls=10)
        found = asked(exporter)
    days = {day.day: (f"{day.charged_usd}", f"{day.booked_usd}") for day in found.days}
    # A call at 23:59 is charged a minute later.
    assert days == {"2027-01-14": ("1.08", "1.35"), "2027-01-15": ("1.62", "1.35")}
    assert figures(found) == ("2.7", "0", "2.7", "0")


def test_calls_that_nobody_reported_are_a_difference_with_its_day(exporter: Exporter) -> None:
    live(exporter, 3, "10", calls=3)
    exporter.clock.advance(DAY)
    polled(exporter, "9.19")
    exporter.clock.advance(MINUTE)
    polled(exporter, "4.19")
    found = asked(exporter)
    assert figures(found) == ("5.81", "0", "0.81", "5")
    assert len(found.causes) == 1
    assert "More was charged than booked, most of it on 2027-01-16: a caller" in found.causes[0]


def test_the_same_part_on_each_day_is_a_price(exporter: Exporter) -> None:
    balance = "100"
    for _ in range(3):
        balance = live(exporter, 12, balance, calls=10, price=Decimal("0.297"))
        exporter.clock.advance(DAY - 12 * MINUTE)
        polled(exporter, balance)
    assert asked(exporter).causes == ["Each day is off by about +10.0%: are the prices right?"]


def test_more_booked_than_charged_is_said_too(exporter: Exporter) -> None:
    live(exporter, 3, "10", calls=3, price=Decimal(0))
    found = asked(exporter)
    assert figures(found) == ("0", "0", "0.81", "-0.81")
    assert "More was booked than charged: prices that are too high" in found.causes[0]


def test_a_fall_with_a_top_up_in_between_is_one_sentence(exporter: Exporter) -> None:
    polled(exporter, "20")
    for _ in range(60):
        exporter.book(event(**CALL))
    exporter.clock.advance(HOUR)
    polled(exporter, "13.8")  # spent 16.2, topped up 10
    said = [text for text in asked(exporter).causes if "not polled" in text]
    assert said == [
        f"The balance was not polled from {iso8601(NOON)} to {iso8601(NOON + HOUR)}, when it fell "
        "by $6.2 and $16.2 was booked; was it topped up in between?"
    ]


def test_silences_without_a_difference_and_rare_polls_are_not_told(tmp_path: Path) -> None:
    with Exporter(tmp_path, "provider: {every_seconds: 3600}") as exporter:
        for balance in ("9", "8", "7"):
            polled(exporter, balance)
            exporter.clock.advance(HOUR)
        assert not [text for text in asked(exporter).causes if "not polled" in text]


def test_what_was_granted_and_expires_is_no_call(exporter: Exporter) -> None:
    polled(exporter, "15", "5")
    exporter.clock.advance(MINUTE)
    polled(exporter, "10", "0")
    assert "fell by $5 and $0 was booked; did a grant expire?" in asked(exporter).causes[0]


def test_tokens_without_a_price_and_estimates_are_likely_causes(exporter: Exporter) -> None:
    polled(exporter, "10")
    exporter.book(event(model="none-such"), event(**CALL, estimated=True))
    exporter.clock.advance(MINUTE)
    polled(exporter, "9")
    causes = " ".join(asked(exporter).causes)
    assert "1100 tokens have no price and no cost yet (llm-budget reprice)." in causes
    assert "$0.27 of the books is estimated" in causes


def test_another_currency_needs_a_rate(tmp_path: Path) -> None:
    with Exporter(tmp_path, POLLED) as exporter:
        polled(exporter, "0")
        polled(exporter, "71.46", currency="CNY")
        exporter.clock.advance(MINUTE)
        polled(exporter, "70.46", currency="CNY")
        found = asked(exporter)
        assert found.problem == (
            "the account is in CNY: set provider.usd_per_unit, the USD for a CNY"
        )
        assert figures(found) == (None, None, "0", None)
        assert exporter.status()["balance"]["amounts"] == {"CNY": "70.46"}
        assert exporter.status()["balance"]["usd"] is None
    with Exporter(tmp_path, "provider: {usd_per_unit: 0.14}", NOON + MINUTE) as exporter:
        assert figures(asked(exporter)) == ("0.14", "0", "0", "0.14")
        assert exporter.status()["balance"]["usd"] == "9.8644"
        polled(exporter, "3", currency="EUR")
        assert "the account is in CNY and EUR" in asked(exporter).problem


def test_no_balance_polled_yet_is_one_sentence_and_the_books_are_told(exporter: Exporter) -> None:
    exporter.book(event(**CALL, at=NOON - DAY))
    found = asked(exporter)
    assert found.problem == "no balance was polled yet: set `provider:` in budget.yml, and its key"
    assert figures(found) == (None, None, "0.27", None)
    assert len(found.days) == 8


@pytest.mark.parametrize("since", ["", "week", "2026", "2027-01-16", "2025-01-01", "25:00", "401d"])
def test_a_time_that_is_none_is_one_sentence(exporter: Exporter, since: str) -> None:
    answer = exporter.http.get("/api/v1/reconcile", params={"since": since})
    assert answer.status_code == 400
    assert repr(since) in answer.json()["error"]


def test_a_part_of_a_day_begins_at_an_instant_of_any_zone(exporter: Exporter) -> None:
    live(exporter, 10, "10", calls=10)
    found = asked(exporter, iso8601(NOON + 5 * MINUTE).replace("Z", "+00:00"))
    assert figures(found)[2] == "1.35"
    assert asked(exporter, "2027-01-15T17:35:00+05:30").since == found.since


def test_a_clock_that_jumped_and_went_back_ends_no_reconciliation(exporter: Exporter) -> None:
    polled(exporter, "10")
    exporter.clock.advance(40 * DAY)
    polled(exporter, "9")
    exporter.clock.advance(-39 * DAY)
    polled(exporter, "8")
    assert asked(exporter).problem == ""


def test_a_ledger_that_cannot_be_written_loses_a_poll_and_says_nothing_false(
    exporter: Exporter, tmp_path: Path
) -> None:
    polled(exporter, "10")
    exporter.ledger.writer.db.execute("PRAGMA query_only = ON")
    exporter.clock.advance(MINUTE)
    future = exporter.ledger.keep_balances({"USD": (9_000_000, 0)})
    with pytest.raises(Exception, match="cannot be written"):
        future.result(30)
    exporter.ledger.writer.db.execute("PRAGMA query_only = OFF")
    assert exporter.ledger.books.balances["USD"].total == 10_000_000
    polled(exporter, "9")
    assert figures(asked(exporter))[0] == "1"


def test_the_status_tells_how_many_usual_days_are_left(tmp_path: Path) -> None:
    with Exporter(tmp_path, POLLED, NOON - 3 * DAY) as exporter:
        assert exporter.status()["balance"] is None
        for calls in (0, 2, 4):
            polled(exporter, "12")
            assert exporter.status()["balance"]["days_left"] in (None, 22.2)
            for _ in range(calls):
                exporter.book(event(**CALL))
            exporter.clock.advance(DAY)
        polled(exporter, "8.1")
        balance = exporter.status()["balance"]
    assert balance == {
        "amounts": {"USD": "8.1"}, "polled": NOON, "usd": "8.1", "usual_day_usd": "0.81",
        "days_left": 10.0,
    }  # fmt: skip
    with Exporter(tmp_path, "", NOON) as exporter:
        assert exporter.status()["balance"] is None, "it is not polled any more"
