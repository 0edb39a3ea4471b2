"""A state machine that does whatever can happen to a ledger, and the reference model beside it.

The model is a list of what was booked. tests/properties runs the machine briefly, tests/long/faults
for an hour.
"""

import logging
import shutil
import sqlite3
import tempfile
from collections import Counter
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from common.clock import iso8601
from exporter.ledger import schema
from exporter.ledger.course import REMEMBERED_DAYS, read_courses
from tests.support.exporters import ADMIN, INGEST, Exporter, event
from tests.support.faulty_sqlite import FaultyConnection, connect_faulty

ZONE = ZoneInfo("Europe/Berlin")
START = datetime(2027, 3, 27, 22, 30, tzinfo=ZONE).timestamp()  # the night of a 23-hour day
DAY = 86_400
KEEP = 35 * DAY
PRICES = {"deepseek-chat": (270_000, 70_000, 1_100_000), "priced-model": (3_000_000, 1, 7)}
CONFIG = """
budget: {{timezone: Europe/Berlin}}
limits: {{roasters: {cap}, fields: 2, models: 3}}
prices:
  deepseek-chat:
    {{input_usd_per_1k: 0.00027, cached_input_usd_per_1k: 0.00007, output_usd_per_1k: 0.00110}}
  priced-model:
    {{input_usd_per_1k: 0.003, cached_input_usd_per_1k: 1e-9, output_usd_per_1k: 7e-9}}
"""
TYPES = ("input", "cached_input", "output")
Key = tuple[str, ...]


class Model:
    """The reference: every booked call in a list, every id in a dict, sums made when asked."""

    def __init__(self, cap: int) -> None:
        self.caps = [cap, 2, 3]
        self.labels: list[set[str]] = [set(), set(), set()]
        self.ids: dict[tuple[str, str], tuple[Any, float]] = {}  # content, kept until
        self.calls: list[dict[str, Any]] = []
        self.adjustments: list[tuple[date, str, int]] = []  # as numbered; a revoke is negative
        self.revoked: set[int] = set()

    def day(self, timestamp: float) -> date:
        return datetime.fromtimestamp(timestamp, ZONE).date()

    def book(self, call: dict[str, Any], claimed: float | None, now: float) -> str:
        """accepted, duplicate or rejected. claimed: the call's own time."""
        at = now if claimed is None else min(claimed, now)
        if at < now - KEEP:
            return "rejected"
        if call["id"]:
            identity = (call["provider"] or "deepseek", call["id"])
            content = {**call, "claimed": claimed}
            if identity in self.ids:
                return "duplicate" if self.ids[identity][0] == content else "rejected"
            self.ids[identity] = (content, max(claimed or 0, now) + KEEP)
        price = PRICES.get(call["model"])
        usage = call["usage"]
        cached = usage["prompt_cache_hit_tokens"]
        tokens = (usage["prompt_tokens"] - cached, cached, usage["completion_tokens"])
        cost = sum(n * p for n, p in zip(tokens, price, strict=True)) if price else 0
        self.calls.append(
            {
                "day": self.day(at),
                "at": at,
                "late": self.day(at) < self.day(now),
                "series": self.admit(call),
                "outcome": call["outcome"],
                "tokens": tokens,
                "cost": cost,
                "priced": price is not None,
                "estimated": call["estimated"],
            }
        )
        return "accepted"

    def admit(self, call: dict[str, Any]) -> Key:
        series = []
        for number, name in enumerate(("roaster", "field", "model")):
            value, known = call[name] or "unknown", self.labels[number]
            if value not in known | {"other", "unknown"}:
                if len(known) < self.caps[number]:
                    known.add(value)
                else:
                    value = "other"
            series.append(value)
        return tuple(series)

    def families(self, now: float) -> dict[str, Counter[Key]]:
        today = self.day(now)
        sums: dict[str, Counter[Key]] = {name: Counter() for name in FAMILIES}
        for call in self.calls:
            series = call["series"]
            sums["llm_requests_total"][*series, call["outcome"]] += 1
            for kind, count in zip(TYPES, call["tokens"], strict=True):
                sums["llm_tokens_total"][*series, kind] += count
            sums["llm_cost_usd_total"][series] += call["cost"]
            before = call["cost"] if call["day"] < today else 0
            sums["llm_cost_usd_at_day_start"][series] += before
            sums["llm_late_cost_usd_total"][()] += call["cost"] if call["late"] else 0
            estimated = call["cost"] if call["estimated"] else 0
            sums["llm_estimated_cost_usd_total"][series[2:]] += estimated
            if not call["priced"]:
                sums["llm_unpriced_tokens_total"][series[2:]] += sum(call["tokens"])
        return sums

    def course(self, day: date) -> Counter[int]:
        """A day's cost by slots of five minutes of elapsed time, counted from its midnight."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=ZONE).timestamp()
        slots: Counter[int] = Counter()
        for call in self.calls:
            if call["day"] == day:
                slots[int(call["at"] - midnight) // 300] += call["cost"]
        return slots

    def spend(self, today: date) -> int:
        return sum(call["cost"] for call in self.calls if call["day"] >= today)

    def adjusted(self, today: date, kind: str) -> int:
        return sum(amount for day, what, amount in self.adjustments if (day, what) == (today, kind))


FAMILIES = {
    "llm_requests_total": 1,
    "llm_tokens_total": 1,
    "llm_cost_usd_total": 10**12,
    "llm_cost_usd_at_day_start": 10**12,
    "llm_late_cost_usd_total": 10**12,
    "llm_estimated_cost_usd_total": 10**12,
    "llm_unpriced_tokens_total": 1,
}


def published(page: str) -> dict[str, Counter[Key]]:
    """The families of a page in their smallest unit, read without a parser of ours or theirs."""
    sums: dict[str, Counter[Key]] = {name: Counter() for name in FAMILIES}
    for line in page.splitlines():
        name, value = line.rsplit(" ", 1)
        name, _, labels = name.partition("{")
        if name in FAMILIES:
            pairs = [pair.split("=") for pair in labels.rstrip("}").split(",") if pair]
            key = tuple(value.strip('"') for label, value in pairs if label != "ledger")
            sums[name][key] = round(Decimal(value) * FAMILIES[name])
    return sums


OFFSETS = st.one_of(
    st.none(),
    st.sampled_from([0, -1, -DAY, -KEEP, -KEEP - 1, -KEEP + 1, 1, DAY, 40 * DAY]),
    st.integers(-3 * DAY, 3600),
)
CALLS = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["", None, "a", "b", "c", "c#notes", "d"]),
        "provider": st.sampled_from([None, "openai"]),
        "roaster": st.sampled_from([None, "r1", "r2", "r3", "r4", "other", "unknown"]),
        "field": st.sampled_from(["f1", "f2", "f3", "other"]),
        "model": st.sampled_from(["deepseek-chat", "priced-model", "nobody-prices-this", "m4"]),
        "outcome": st.sampled_from(["success", "error"]),
        "estimated": st.booleans(),
        "usage": st.builds(
            lambda prompt, cached, output: {
                "prompt_tokens": prompt + cached,
                "prompt_cache_hit_tokens": cached,
                "completion_tokens": output,
            },
            st.integers(1, 3),
            st.integers(0, 3),
            st.sampled_from([0, 1, 9_999_999]),
        ),
    }
)
BATCHES = st.lists(st.tuples(CALLS, OFFSETS), min_size=1, max_size=5)


class LedgerMachine(RuleBasedStateMachine):
    """Events, repeats, conflicts, days, clocks, restarts, failures, grants, resets and revokes."""

    @initialize(cap=st.integers(1, 3))
    def begin(self, cap: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.model = Model(cap)
        self.latest = START
        self.sent: list[tuple[dict[str, Any], float | None]] = []
        self.exporter = Exporter(self.folder, CONFIG.format(cap=cap), START, tokens=True)

    @property
    def now(self) -> float:
        return self.exporter.clock.now()

    def post(self, calls: list[tuple[dict[str, Any], float | None]]) -> Any:
        raw = [
            {**event(), **call, **({} if at is None else {"time": iso8601(at)})}
            for call, at in calls
        ]
        return self.exporter.post(raw, Authorization=f"Bearer {INGEST}")

    def certain(self, call: dict[str, Any]) -> bool:
        """Past its 35 days an id may be known for some weeks more: nothing is promised then."""
        known = self.model.ids.get((call["provider"] or "deepseek", call["id"] or ""))
        return known is None or known[1] > self.latest

    def send(self, calls: list[tuple[dict[str, Any], float | None]]) -> None:
        calls = [(call, at) for call, at in calls if self.certain(call)]
        got = self.post(calls)
        assert got.status_code == 200
        results = [self.model.book(call, at, self.now) for call, at in calls]
        answer = got.json()
        assert answer["accepted"] == results.count("accepted")
        assert answer["duplicate"] == results.count("duplicate")
        rejected = [index for index, result in enumerate(results) if result == "rejected"]
        assert [item["index"] for item in answer["rejected"]] == rejected
        self.sent += calls

    @rule(batch=BATCHES)
    def new_calls(self, batch: list[tuple[dict[str, Any], float | None]]) -> None:
        self.send([(call, None if at is None else self.now + at) for call, at in batch])

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        calls = data.draw(st.lists(st.sampled_from(self.sent), min_size=1, max_size=4))
        self.send([(call, at) for call, at in calls if call["id"]])

    @rule(batch=BATCHES, statement=st.integers(0, 12))
    def fail(self, batch: list[tuple[dict[str, Any], float | None]], statement: int) -> None:
        """A disk that fails somewhere in the transaction: nothing of it may be seen."""
        db = self.exporter.ledger.writer.db
        assert isinstance(db, FaultyConnection)
        calls = [(call, None) for call, _ in batch if self.certain(call)]
        db.arm(statement, 1)
        answer = self.post(calls)
        db.disarm()
        if answer.status_code == 200:  # it was over before that statement
            for call, at in calls:
                self.model.book(call, at, self.now)

    @rule(
        seconds=st.one_of(
            st.integers(-2 * DAY, 3 * DAY), st.sampled_from([5399, 5400, -5401, 20 * DAY])
        )
    )
    def turn_the_clock(self, seconds: int) -> None:
        self.exporter.clock.advance(seconds)
        self.latest = max(self.latest, self.now)

    @rule(cap=st.integers(1, 3))
    def restart(self, cap: int) -> None:
        """Also with a lower cap: what the ledger knows stays."""
        now = self.now
        self.exporter.close()
        self.exporter = Exporter(self.folder, CONFIG.format(cap=cap), now, tokens=True)
        self.model.caps[0] = cap

    @rule(kind=st.sampled_from(["grants", "resets"]), amount=st.integers(1, 10**12))
    def adjust(self, kind: str, amount: int) -> None:
        today = self.model.day(self.now)
        body = {"reason": "a test", "author": "hypothesis"}
        if kind == "grants":
            body["amount_usd"] = f"{Decimal(amount).scaleb(-12):f}"
        else:
            amount = max(0, self.model.spend(today) - self.model.adjusted(today, "resets"))
        answer = self.tell(kind, body)
        assert answer.status_code == 200, answer.text
        if amount:
            self.model.adjustments.append((today, kind, amount))

    @rule(number=st.integers(1, 8))
    def revoke(self, number: int) -> None:
        """What was granted or written off today, is no revoke, and was not revoked before."""
        today, booked = self.model.day(self.now), self.model.adjustments
        known = booked[number - 1] if number <= len(booked) else None
        can = known and known[0] == today and known[2] > 0 and number not in self.model.revoked
        answer = self.tell("revokes", {"number": number, "reason": "r", "author": "a"})
        assert answer.status_code == (200 if can else 400), answer.text
        if known and can:
            self.model.revoked.add(number)
            booked.append((today, known[1], -known[2]))

    def tell(self, what: str, body: dict[str, Any]) -> Any:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        return self.exporter.http.post(f"/api/v1/{what}", json=body, headers=headers)

    @invariant()
    def books_agree(self) -> None:
        page = published(self.exporter.http.get("/metrics").text)
        expected = self.model.families(self.now)
        for name, counter in expected.items():
            assert +page[name] == +counter, name
        assert page["llm_cost_usd_total"].keys() == expected["llm_cost_usd_total"].keys()
        assert page["llm_cost_usd_at_day_start"].keys() == page["llm_cost_usd_total"].keys()
        today = self.model.day(self.now)
        status = self.exporter.status()
        assert Decimal(status["spend_usd"]) * 10**12 == self.model.spend(today)
        assert Decimal(status["granted_usd"]) * 10**12 == self.model.adjusted(today, "grants")
        assert Decimal(status["written_off_usd"]) * 10**12 == self.model.adjusted(today, "resets")
        assert status["epoch"] == len(self.model.adjustments)

    @invariant()
    def courses_agree(self) -> None:
        """Of each day that an event can still reach, in memory and on disk, and nothing beside."""
        reached = {call["day"] for call in self.model.calls if call["at"] > self.latest - KEEP}
        books, db = self.exporter.ledger.books, self.exporter.ledger.writer.db
        stored = read_courses(db, "")
        for day in sorted(reached)[-REMEMBERED_DAYS:]:
            expected = +self.model.course(day)
            assert +books.courses.get(day, Counter()) == expected
            assert +stored[day] == expected  # no cost without a slot: the slots sum to the day

    def teardown(self) -> None:
        if hasattr(self, "exporter"):
            self.exporter.close()
            shutil.rmtree(self.folder)


def connect(path: Path) -> sqlite3.Connection:
    """Faulty, and fast: no power is cut here."""
    db = connect_faulty(path)
    db.execute("PRAGMA synchronous = OFF")
    return db


def run_ledger_machine(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many sequences of thirty steps each; fails with the shortest that differs."""
    monkeypatch.setattr(schema, "connect", connect)
    logging.getLogger("exporter").setLevel(logging.ERROR)
    case = LedgerMachine.TestCase
    case.settings = settings(
        max_examples=count,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    case("runTest").runTest()
