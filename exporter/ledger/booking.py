"""Booking a batch of events inside one transaction: ids, prices, label caps, accounts."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any

from common.money import picodollars, usd
from common.names import OTHER, RFM, UNKNOWN
from exporter.budget.calendars import Calendars
from exporter.config import Config
from exporter.event import EventError, UsageEvent
from exporter.ledger.books import COLUMNS, UNPRICED_VERSION, AccountKey, Amounts, Books, Series
from exporter.ledger.course import Costs, add_to_slots, slot_of
from exporter.ledger.ids import KEEP_SECONDS, IdTables
from exporter.ledger.progress import LogProgress, write_progress
from exporter.ledger.retention import ADD_TO_CLOSED, closed_until
from exporter.ledger.schema import upsert
from exporter.ledger.unpriced import ADD_UNPRICED, unpriced_row
from exporter.prices.pricelist import PriceList
from exporter.prices.tokenprice import TokenPrice, TokenPrices
from sdk.client import EXTRAS

_RESERVED = {OTHER, UNKNOWN}
# What SQLite raises for a number beyond 64 bits: an account of nine million dollars.
UNSTORABLE = (OverflowError, sqlite3.IntegrityError)
MAX_STORED = (1 << 63) - 1
_ACCOUNT_KEY = "day, roaster, field, model, price_version"
_ADD_TO_ACCOUNT = upsert("accounts", _ACCOUNT_KEY, COLUMNS)
_ACCOUNT = f"SELECT {', '.join(COLUMNS)} FROM accounts WHERE ({_ACCOUNT_KEY}) = (?, ?, ?, ?, ?)"  # noqa: S608  constants
_PRICE_COLUMNS = tuple(item.name for item in fields(TokenPrice))
_VERSION = (  # of a price, in a new row where it has none
    f"INSERT INTO prices ({', '.join(_PRICE_COLUMNS)}) "  # noqa: S608  constants
    f"VALUES ({', '.join('?' * len(_PRICE_COLUMNS))}) "
    "ON CONFLICT DO UPDATE SET model = model RETURNING version"
)
Parts = list[tuple[TokenPrice | None, Amounts]]  # of a call or a minute, by price; None: no price
_GENAI_MODELS = (
    "SELECT DISTINCT accounts.model, prices.provider FROM accounts "
    "JOIN prices ON prices.version = accounts.price_version "
    "WHERE prices.provider != '' AND accounts.day > ?"
)


@dataclass
class SubmissionResult:
    """What became of one submission, by the index of its events."""

    accepted: list[int] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    rejected: list[tuple[int, EventError]] = field(default_factory=list)


@dataclass
class Submission:
    """Events to book together, or none (a probe); resolved when they are on disk."""

    events: list[UsageEvent] = field(default_factory=list)
    progress: LogProgress | None = None  # of the logs that the events come from
    future: "Future[SubmissionResult]" = field(default_factory=Future)


@dataclass
class Batch:
    """What one transaction will have booked, once it is committed. now: Unix seconds of it."""

    now: float
    today: date
    carefully: bool  # one before it held what the tables cannot hold
    results: list[SubmissionResult] = field(default_factory=list)
    accounts: dict[AccountKey, Amounts] = field(default_factory=lambda: defaultdict(Amounts))
    overflowed: Counter[str] = field(default_factory=Counter)  # label -> events put under `other`
    time_adjusted: int = 0
    live: Counter[Series] = field(default_factory=Counter)  # calls, as Books.live
    unpriced: list[tuple[Any, ...]] = field(default_factory=list)
    costs: Costs = field(default_factory=Counter)


class Booking:
    """Books submissions; the caller opens and commits the transaction."""

    def __init__(
        self,
        db: sqlite3.Connection,
        books: Books,
        prices: PriceList,
        config: Config,
        calendars: Callable[[], Calendars],
    ) -> None:
        self._db = db
        self._books = books
        self.calendars = calendars
        self.ids = IdTables(db)
        self._versions: dict[TokenPrice, int] = {}
        # label -> provider; shown with today's prices
        self.genai_models = dict[str, str](db.execute(_GENAI_MODELS, (closed_until(db),)))
        self.use(prices, config)

    def use(self, prices: PriceList, config: Config) -> None:
        """From now on; labels that are known stay, also beyond their limits."""
        self.prices = prices
        self._limits = limits = config.limits
        self._label_caps = (limits.roasters, limits.fields, limits.models)
        capped = (config.budget.roasters, config.budget.fields, ())
        self._reserved = [_RESERVED.union(names) for names in capped]
        self._call_picodollars = picodollars(limits.call_usd)
        self._read_labels()

    def _read_labels(self) -> None:
        """The label values that are booked. Reserved ones are known, and take no room."""
        booked = zip(*self._books.totals, strict=True) if self._books.totals else ((),) * len(RFM)
        self._labels = [names.union(one) for names, one in zip(self._reserved, booked, strict=True)]

    def rolled_back(self) -> None:
        """Forget what a failed transaction seemed to have done; touches no disk, cannot fail."""
        self._read_labels()
        self._versions.clear()
        self.ids.reload()

    def book(self, group: list[Submission], now: float, carefully: bool) -> Batch:
        """Book submissions and their progress; a refused event does not touch the others.

        carefully: refuse what the tables cannot hold, too.
        """
        batch = Batch(now, self.calendars().at(now).date, carefully)
        for submission in group:
            batch.results.append(result := SubmissionResult())
            for index, event in enumerate(submission.events):
                try:
                    fresh = self._book_one(event, batch)
                    (result.accepted if fresh else result.duplicates).append(index)
                except EventError as error:
                    error.success = event.outcome == "success"
                    result.rejected.append((index, error))
            if submission.progress:
                write_progress(self._db, submission.progress, now)
        self.add_accounts(batch.accounts.items())
        add_to_slots(self._db, batch.costs)
        self._db.executemany(ADD_UNPRICED, batch.unpriced)
        self.ids.drop_expired(now)
        return batch

    def add_accounts(self, accounts: Iterable[tuple[AccountKey, Amounts]]) -> None:
        """Add to rows, which appear when they are missing, and to the sum of closed days."""
        rows: list[tuple[Any, ...]] = [
            (day.isoformat(), *series, version, *amounts.values())
            for (day, series, version), amounts in accounts
        ]
        self._db.executemany(_ADD_TO_ACCOUNT, rows)
        last = closed_until(self._db)
        closed = [(*row[1:4], min(row[4], 1), *row[5:]) for row in rows if row[0] <= last]
        self._db.executemany(ADD_TO_CLOSED, closed)

    def _book_one(self, event: UsageEvent, batch: Batch) -> bool:
        """False: it is known. Raises EventError."""
        if event.time < batch.now - KEEP_SECONDS:
            raise EventError("too_old", "older than 35 days - at `$.time`")
        if event.digest is not None and self._is_known(event.digest, event.content):
            return False
        self._check_size(event)
        series = self._admit(event, batch)
        call = (event.product, event.provider, event.time, event.prompt_tokens, event.count)
        # Models beyond the cap are not looked up.
        prices = self.prices.find(*call, look_up=series.model == event.model)
        whole = Amounts(
            input_tokens=event.input_tokens,
            cached_input_tokens=event.cached_input_tokens,
            output_tokens=event.output_tokens,
            batch_items=event.batch_items,
            batch_slots=event.batch_slots,
            **{event.outcome: event.count},
        )
        parts = priced(whole, dict(event.extras), prices, event.estimated)
        cost = sum(amounts.cost_picodollars for _, amounts in parts)
        self._check_cost(event, cost)
        found = self.calendars().at(event.time)
        day = found.date
        if batch.carefully:
            self._check_room(day, series, parts, batch)
        if event.digest is not None:
            self.ids.add(event.digest, event.content, max(event.claimed, batch.now), batch.now)
        for price, amounts in parts:
            if price is None and event.tokens:
                batch.unpriced.append(unpriced_row(event, day, series, amounts))
            elif price and price.provider:
                self.genai_models[event.model] = price.provider
            amounts.late_cost_picodollars = amounts.cost_picodollars if day < batch.today else 0
            batch.accounts[AccountKey(day, series, self.version(price))].add(amounts)
        batch.costs[day, slot_of(found, event.time)] += cost
        batch.time_adjusted += event.claimed > event.time
        paid = event.outcome in ("success", "error")
        batch.live[series] += event.count * (event.live and paid)
        return True

    def _is_known(self, digest: bytes, content: bytes) -> bool:
        booked = self.ids.find(digest)
        if booked not in (None, content):
            raise EventError("conflict", "this id was booked with different content - at `$.id`")
        return booked is not None

    def _check_size(self, event: UsageEvent) -> None:
        for what, number in (("calls", event.count), ("tokens", event.tokens)):
            most = getattr(self._limits, f"event_{what}")
            if number > most:
                raise EventError("implausible", f"{number} {what}; limits.event_{what} is {most}")

    def _check_cost(self, event: UsageEvent, cost: int) -> None:
        if cost > self._call_picodollars * event.count:
            rule = f"limits.call_usd is {self._limits.call_usd:f}"
            raise EventError("implausible", f"{usd(cost // event.count)} USD a call; {rule}")

    def _check_room(self, day: date, series: Series, parts: Parts, batch: Batch) -> None:
        for price, amounts in parts:
            key = AccountKey(day, series, self.version(price))
            row = (day.isoformat(), *series, key.price_version)
            stored = self._db.execute(_ACCOUNT, row).fetchone() or Amounts().values()
            new = batch.accounts.get(key, Amounts()).values()
            if max(map(sum, zip(stored, new, amounts.values(), strict=True))) > MAX_STORED:
                full = "its account would pass 64 bits (9.2 million USD a day)"
                raise EventError("unstorable", full)

    def _admit(self, event: UsageEvent, batch: Batch) -> Series:
        """The event's series, with `other` where a label has as many values as it may have."""
        values = []
        bounds = zip(RFM, self._labels, self._label_caps, self._reserved, strict=True)
        for name, known, cap, reserved in bounds:
            value = getattr(event, name)
            if value not in known and len(known) - len(reserved) >= cap:
                batch.overflowed[name] += 1
                value = OTHER
            known.add(value)
            values.append(value)
        return Series(*values)

    def version(self, price: TokenPrice | None) -> int:
        """The row of a price in its table; without a price that of unpriced usage."""
        if price is None:
            return UNPRICED_VERSION
        if price not in self._versions:
            row = tuple(getattr(price, name) for name in _PRICE_COLUMNS)
            (self._versions[price],) = self._db.execute(_VERSION, row).fetchone()
        return self._versions[price]


def priced(
    whole: Amounts, extras: Mapping[str, int], prices: TokenPrices, estimated: bool
) -> Parts:
    """The amounts by price, with their cost: the calls with plain tokens, and each kind of extras.

    Where one of the prices is missing they stay whole, and cost nothing yet.
    """
    if not prices.keys() >= {"", *extras}:
        return [(None, whole)]
    parts = [(prices[""], whole)]
    for kind, tokens in extras.items():
        column = f"{EXTRAS[kind]}_tokens"
        setattr(whole, column, getattr(whole, column) - tokens)
        parts.append((prices[kind], Amounts(**{column: tokens})))
    for price, part in parts:
        part.cost_picodollars = price.cost(
            part.input_tokens, part.cached_input_tokens, part.output_tokens
        )
        part.estimated_cost_picodollars = part.cost_picodollars if estimated else 0
    return [*parts]
