"""A month's budget in the ledger: exact over years, by the date of the budget day."""

import random
from calendar import monthrange
from collections import Counter
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from common.budget_status import MonthFigures
from common.errors import UserError
from common.money import usd
from exporter.config import Budget, Config
from exporter.event import parse_event
from exporter.ledger.adjustments import Grant, Reset
from exporter.ledger.ledger import Ledger
from exporter.ledger.month import month_of
from exporter.ledger.repricing import Reprice
from tests.support.clock import ManualClock
from tests.support.days import unix
from tests.support.exporters import ADMIN, NOON, Exporter, event

DAY = 86_400
PRICE = 270_001  # pico-dollars a token of deepseek-chat, of whatever type
BERLIN = {"monthly_limit_usd": Decimal(900), "timezone": "Europe/Berlin", "day_starts_at": "06:00"}
NEW_YORK = {**BERLIN, "timezone": "America/New_York", "day_starts_at": "00:00"}


def config(budget: dict[str, Any], *models: str) -> Config:
    price = {f"{kind}_usd_per_1k": usd(PRICE * 1000) for kind in ("input", "output")}
    prices = dict.fromkeys(("deepseek-chat", *models), price)
    return msgspec.convert({"budget": budget, "prices": prices}, Config, strict=False)


def figures(ledger: Ledger, budget: Budget) -> MonthFigures:
    found = month_of(budget, ledger.books, ledger.calendars, ledger.today())
    assert found is not None
    return found


def test_two_years_are_exact_through_all_that_moves_cost(tmp_path: Path) -> None:
    """Leap day, clock changes, late and unpriced calls, grants, another zone, a clock set back."""
    chance, clock = random.Random(24), ManualClock(unix("2027-01-01T04:59:00Z"))
    settings, path = config(BERLIN), tmp_path / "ledger.sqlite"
    ledger = Ledger(path, settings, clock)
    cost: Counter[date] = Counter()  # what each budget day cost
    withheld: Counter[date] = Counter()  # of the calls that are not priced yet
    months, back = set(), 0

    def spend() -> None:
        calls = []
        for late in (0, 0, chance.randrange(34 * DAY)):
            at, tokens = clock.now() - late - chance.random() * DAY / 3, chance.randrange(1, 10**6)
            priced = chance.random() < 0.9
            model = "deepseek-chat" if priced else "a-model-to-come"
            calls.append(parse_event(event(tokens, 0, at=at) | {"model": model}, clock.now()))
            (cost if priced else withheld)[ledger.day_of(calls[-1].time)] += tokens * PRICE
        ledger.submit(calls).result()

    while ledger.today().date < date(2029, 1, 2):
        spend()
        day = ledger.today().date
        if chance.random() < 0.05:
            ledger.adjust(Grant(author="a", reason="b", amount_usd=Decimal(7))).result()
            ledger.adjust(Reset(author="a", reason="b")).result()
        if day.day == 28:
            settings = config(NEW_YORK if day > date(2028, 3, 27) else BERLIN, "a-model-to-come")
            ledger.reconfigure(settings).result()
            ledger.reprice(Reprice(author="a", reason="b")).result()
            cost.update(withheld)
            withheld.clear()
            settings = config(NEW_YORK if day > date(2028, 3, 27) else BERLIN)
            ledger.reconfigure(settings).result()
        if day.day == 1:
            ledger.close()
            ledger = Ledger(path, settings, clock)
            months.add(day)
        if day.day == 1 and day.month in (1, 7) and back < 4:
            back += 1
            clock.advance(-DAY)  # over midnight, and the end of the month
            day = ledger.today().date
        before = sum(c for d, c in cost.items() if date(day.year, day.month, 1) <= d < day)
        found = figures(ledger, settings.budget)
        assert found.month == f"{day:%Y-%m}"
        assert found.spent_usd == Decimal(usd(before)), day
        assert found.days_left == monthrange(day.year, day.month)[1] - day.day + 1
        clock.advance(DAY)
    ledger.close()
    assert len(months) == 25
    assert back == 4
    assert date(2028, 2, 29) in cost


def said(exporter: Exporter) -> str:
    return str(exporter.status()["month_text"])


def month(exporter: Exporter) -> dict[str, Any]:
    return dict(exporter.status()["month"])


def test_a_first_month_counts_from_the_first_day_and_says_so(tmp_path: Path) -> None:
    """NOON is the 15th of 31 days: 17 of them count."""
    with Exporter(tmp_path, "budget: {monthly_limit_usd: 310}") as exporter:
        found = month(exporter)
        assert (found["month"], found["days"], found["seen_days"]) == ("2027-01", 31, 17)
        assert exporter.value("llm_month_seen_ratio", month="2027-01") == 17 / 31
        assert exporter.status()["limit_today_usd"] == "100"
        assert "Month 2027-01: $0.00 of $170.00; it counts from day 15 on" in said(exporter)
        page = exporter.http.get("/").text
        assert "of $170.00, from day 15 on" in page
        assert "$100.00 of it may be spent today; 17 days left" in page
        exporter.clock.advance(17 * DAY)
        assert month(exporter)["seen_days"] == 28
    with Exporter(tmp_path, "budget: {monthly_limit_usd: 310}", NOON + 18 * DAY) as exporter:
        assert (month(exporter)["seen_days"], month(exporter)["days_left"]) == (28, 27)


def test_an_older_event_shows_that_the_ledger_knows_more_of_the_month(tmp_path: Path) -> None:
    for _ in range(2):  # and after a restart
        with Exporter(tmp_path, "budget: {monthly_limit_usd: 310}") as exporter:
            exporter.book(event(id="a", at=NOON - 5 * DAY))
            assert month(exporter)["seen_days"] == 22
            assert month(exporter)["spent_usd"] == "0.00038"


def test_an_opening_balance_makes_its_month_whole_and_ends_with_it(tmp_path: Path) -> None:
    text = """budget: {monthly_limit_usd: 310, monthly_spread: even, daily_limit_usd: 10,
        month_opening_usd: {2027-01: 208.000000000001}}"""
    with Exporter(tmp_path, text) as exporter:
        found = month(exporter)
        assert (found["seen_days"], found["spent_usd"]) == (31, "208.000000000001")
        assert exporter.status()["limit_today_usd"] == "6"  # 102 by 17 days
        assert exporter.value("llm_month_start_timestamp_seconds", month="2027-01") is None
        exporter.clock.advance(17 * DAY)
        assert month(exporter)["spent_usd"] == "0"
        assert exporter.value("llm_month_start_timestamp_seconds", month="2027-02") == 1801440000


def test_a_month_is_of_budget_days_and_a_date_that_does_not_exist_is_none(tmp_path: Path) -> None:
    text = "budget: {monthly_limit_usd: 300, timezone: Pacific/Apia}"
    with Exporter(tmp_path, text, unix("2011-12-29T20:00:00Z")) as exporter:  # 10:00 of the 29th
        assert month(exporter)["days_left"] == 2  # there was no 30th
    with Exporter(tmp_path / "2", text, unix("2026-12-31T10:59:59Z")) as exporter:  # + 13 h
        assert (month(exporter)["month"], month(exporter)["days_left"]) == ("2026-12", 1)
        exporter.clock.advance(1)
        assert (month(exporter)["month"], month(exporter)["days_left"]) == ("2027-01", 31)


def test_without_a_limit_there_is_no_month(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        assert exporter.status()["month"] is None
        assert "llm_month" not in exporter.http.get("/metrics").text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("monthly_limit_usd: 0", "monthly_limit_usd must be above 0"),
        ("monthly_limit_usd: -5", "monthly_limit_usd must be above 0"),
        ("monthly_spread: even", "need a monthly_limit_usd"),
        ("month_opening_usd: {2027-01: 5}", "need a monthly_limit_usd"),
        (
            "monthly_limit_usd: 9, month_opening_usd: {2027-01: -1}",
            "2027-01 must be an amount, and must not be negative",
        ),
        ("monthly_limit_usd: 9, month_opening_usd: {2027-13: 1}", "month_opening_usd"),
        ("monthly_limit_usd: 9, monthly_spread: weekly", "monthly_spread"),
    ],
)
def test_a_month_that_cannot_be_meant_is_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        Exporter(tmp_path, f"budget: {{{text}}}")


BB = {"ledger": "bb", "month": "2027-01", "amount_usd": "120.000000000001"}
SAID = {"reason": "its disk died", "author": "ann"}


def hand_over(exporter: Exporter, **said: Any) -> Any:
    headers = {"Authorization": f"Bearer {ADMIN}"}
    return exporter.http.post("/api/v1/carry", json={**SAID, **BB, **said}, headers=headers)


def test_a_ledger_answers_for_one_that_is_gone_once_and_through_a_restart(tmp_path: Path) -> None:
    text = "budget: {monthly_limit_usd: 310, month_opening_usd: {2027-01: 100}}"
    with Exporter(tmp_path, text) as exporter:
        exporter.book(event(id="a", at=NOON - DAY), event(id="b", at=NOON))
    with Exporter(tmp_path, text, tokens=True) as exporter:
        for amount in ("7", BB["amount_usd"], BB["amount_usd"]):  # the last one said counts
            assert hand_over(exporter, amount_usd=amount).status_code == 200
    with Exporter(tmp_path, text) as exporter:
        found = month(exporter)
        assert found["carried_usd"] == {"bb": "120.000000000001"}
        assert (found["spent_usd"], found["spend_usd"]) == ("100.00038", "220.000760000001")
        assert exporter.status()["limit_today_usd"] == "89.99962"  # to the nano-dollar
        assert exporter.value("llm_month_spent_usd", month="2027-01") == 100.00038
        page = exporter.http.get("/metrics").text
        assert 'llm_month_carried_usd{ledger="bb",month="2027-01"} 120.00' in page
        exporter.clock.advance(17 * DAY)
        assert month(exporter)["carried_usd"] == {}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"amount_usd": "-1"}, "from 0 to 1,000,000 USD"),
        ({"amount_usd": "1e7"}, "from 0 to 1,000,000 USD"),
        ({"amount_usd": "NaN"}, "not an amount"),
        ({"month": "2027-13"}, "month"),
        ({"ledger": "b b"}, "ledger"),
        ({"reason": " "}, "needs a reason"),
    ],
)
def test_a_hand_over_that_cannot_be_meant_is_refused(
    said: dict[str, str], words: str, tmp_path: Path
) -> None:
    with Exporter(tmp_path, "budget: {monthly_limit_usd: 310}", tokens=True) as exporter:
        answer = hand_over(exporter, **said)
        assert (answer.status_code, words in answer.json()["error"]) == (400, True), answer.text
        own = hand_over(exporter, ledger=exporter.ledger.books.ledger_id)
        assert "is this ledger: it counts its own spend" in own.json()["error"]
        assert month(exporter)["carried_usd"] == {}
    with Exporter(tmp_path, tokens=True) as exporter:
        assert "no monthly_limit_usd is set" in hand_over(exporter).json()["error"]
