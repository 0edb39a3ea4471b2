"""Booking a batch of events inside one transaction: ids, prices, label caps, accounts."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from datetime import date

from common.money import picodollars, usd
from common.names import OTHER, RFM, UNKNOWN
from exporter.config import Limits
from exporter.event import EventError, UsageEvent
from exporter.ledger.books import COLUMNS, UNPRICED_VERSION, AccountKey, Amounts, Books, Series
from exporter.ledger.ids import KEEP_SECONDS, IdTables
from exporter.ledger.schema import upsert
from exporter.ledger.unpriced import Unpriced, UnpricedKey, add_unpriced
from exporter.prices.pricelist import PriceList
from exporter.prices.tokenprice import TokenPrice, TokenPrices
from exporter.usage import EXTRAS

_RESERVED = {OTHER, UNKNOWN}
# What SQLite raises for a number beyond 64 bits: an account of nine million dollars.
UNSTORABLE = (OverflowError, sqlite3.IntegrityError)
_ADD_TO_ACCOUNT = upsert("accounts", "day, roaster, field, model, price_version", COLUMNS)
_PRICE_COLUMNS = tuple(item.name for item in fields(TokenPrice))
_ADD_PRICE = (
    f"INSERT OR IGNORE INTO prices ({', '.join(_PRICE_COLUMNS)}) "  # noqa: S608  constants
    f"VALUES ({', '.join('?' * len(_PRICE_COLUMNS))})"
)
_IS_PRICE = " AND ".join(f"{name} = ?" for name in _PRICE_COLUMNS)
_GENAI_MODELS = (
    "SELECT DISTINCT accounts.model, prices.provider FROM accounts "
    "JOIN prices ON prices.version = accounts.price_version WHERE prices.provider != ''"
)
_FIND_PRICE = f"SELECT version FROM prices WHERE {_IS_PRICE}"  # noqa: S608  constants


@dataclass
class SubmissionResult:
    """What became of one submission, by the index of its events."""

    accepted: list[int] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    rejected: list[tuple[int, EventError]] = field(default_factory=list)

    def add(self, part: "SubmissionResult", start: int) -> None:
        """Take over a part's result; start: the index of its first event."""
        self.accepted += [start + index for index in part.accepted]
        self.duplicates += [start + index for index in part.duplicates]
        self.rejected += [(start + index, error) for index, error in part.rejected]


@dataclass
class Batch:
    """What one transaction will have booked, once it is committed."""

    accounts: dict[AccountKey, Amounts] = field(default_factory=lambda: defaultdict(Amounts))
    overflowed: Counter[str] = field(default_factory=Counter)  # label -> events put under `other`
    time_adjusted: int = 0
    unpriced: dict[UnpricedKey, Unpriced] = field(default_factory=lambda: defaultdict(Unpriced))

    def add(self, written: "Batch") -> None:
        """Take over what another batch has written; its unpriced minutes are in their table."""
        for key, amounts in written.accounts.items():
            self.accounts[key].add(amounts)
        self.overflowed.update(written.overflowed)
        self.time_adjusted += written.time_adjusted


class Labels:
    """The distinct label values seen, capped; beyond the cap a value becomes `other`.

    `other` and `unknown`, also when a client sends them literally, are always admitted and take
    none of the room.
    """

    def __init__(self, limits: Limits, known: Iterable[Series]) -> None:
        """known: what the ledger already holds stays, whatever the cap."""
        self._known: dict[str, set[str]] = {name: set(_RESERVED) for name in RFM}
        for series in known:
            for name, value in zip(RFM, series, strict=True):
                self._known[name].add(value)
        self._new: list[tuple[str, str]] = []  # of the transaction under way
        self.cap(limits)

    def cap(self, limits: Limits) -> None:
        """New caps; what is known stays, also beyond them."""
        self._caps = dict(zip(RFM, (limits.roasters, limits.fields, limits.models), strict=True))

    def committed(self) -> None:
        """What was learned since the last commit stays."""
        self._new.clear()

    def rolled_back(self) -> None:
        """Forget what was learned since the last commit."""
        for name, value in self._new:
            self._known[name].discard(value)
        self._new.clear()

    def admit(self, event: UsageEvent, batch: Batch) -> Series:
        """The event's series, with `other` where a cap is reached."""
        return Series(*(self._admit(name, getattr(event, name), batch) for name in RFM))

    def _admit(self, name: str, value: str, batch: Batch) -> str:
        known = self._known[name]
        if value in known:
            return value
        if len(known) - len(_RESERVED) >= self._caps[name]:
            batch.overflowed[name] += 1
            return OTHER
        known.add(value)
        self._new.append((name, value))
        return value


class Booking:
    """Books submissions into a Batch; the caller opens and commits the transaction."""

    def __init__(
        self,
        db: sqlite3.Connection,
        books: Books,
        prices: PriceList,
        limits: Limits,
        day_of: Callable[[float], date],
    ) -> None:
        self._db = db
        self._day_of = day_of
        self.prices = prices
        self.ids = IdTables(db)
        self.labels = Labels(limits, books.totals)
        self.limit(limits)
        # label -> provider; shown with today's prices
        self.genai_models: dict[str, str] = dict(db.execute(_GENAI_MODELS).fetchall())
        self._versions: dict[TokenPrice, int] = {}

    def limit(self, limits: Limits) -> None:
        """New limits for the labels to come and for what one event may say."""
        self.labels.cap(limits)
        self._limits = limits
        self._call_picodollars = picodollars(limits.call_usd)

    def book(self, events: list[UsageEvent], now: float, batch: Batch) -> SubmissionResult:
        """Book events; a refused one does not touch the others."""
        result = SubmissionResult()
        today = self._day_of(now)
        for index, event in enumerate(events):
            try:
                fresh = self._book_one(event, now, today, batch)
            except EventError as error:
                error.success = event.outcome == "success"
                result.rejected.append((index, error))
                continue
            (result.accepted if fresh else result.duplicates).append(index)
        return result

    def book_storable(self, events: list[UsageEvent], now: float, batch: Batch) -> SubmissionResult:
        """Book and write at once: what the tables cannot hold is found by halving, and refused."""
        part = Batch()
        self._db.execute("SAVEPOINT part")
        try:
            result = self.book(events, now, part)
            self.write(part)
            batch.add(part)
        except UNSTORABLE:
            self._db.execute("ROLLBACK TO part")
            self._forget_rows()
            if len(events) == 1:
                full = "its account would pass 64 bits (9.2 million USD a day)"
                result = SubmissionResult(rejected=[(0, EventError("unstorable", full))])
            else:
                result, middle = SubmissionResult(), len(events) // 2
                result.add(self.book_storable(events[:middle], now, batch), 0)
                result.add(self.book_storable(events[middle:], now, batch), middle)
        self._db.execute("RELEASE part")
        return result

    def write(self, batch: Batch) -> None:
        """Put the batch's sums into their tables."""
        self.add_accounts(batch.accounts.items())
        add_unpriced(self._db, batch.unpriced)

    def add_accounts(self, accounts: Iterable[tuple[AccountKey, Amounts]]) -> None:
        """Add to rows of the accounts table, which appear when they are missing."""
        self._db.executemany(
            _ADD_TO_ACCOUNT,
            [
                (key.day.isoformat(), *key.series, key.price_version, *amounts.values())
                for key, amounts in accounts
            ],
        )

    def rolled_back(self) -> None:
        """Forget what a failed transaction seemed to have done; touches no disk, cannot fail."""
        self.labels.rolled_back()
        self._forget_rows()

    def _forget_rows(self) -> None:
        """Rows that a rollback took back are looked for again."""
        self._versions.clear()
        self.ids.reload()

    def _book_one(self, event: UsageEvent, now: float, today: date, batch: Batch) -> bool:
        """False: it is known. Raises EventError."""
        if event.time < now - KEEP_SECONDS:
            raise EventError("too_old", "older than 35 days - at `$.time`")
        if event.digest is not None and self._is_known(event.digest, event.content):
            return False
        self._check_size(event)
        series = self.labels.admit(event, batch)
        prices = self._prices(event, series)
        whole = Amounts()
        _count(whole, event)
        parts = priced(whole, event.extras, prices, event.estimated)
        self._check_cost(event, sum(amounts.cost_picodollars for _, amounts in parts))
        if event.digest is not None:
            self.ids.add(event.digest, event.content, max(event.claimed, event.time, now), now)
        day = self._day_of(event.time)
        if not prices and event.tokens:
            self._keep_minute(event, day, series, batch)
        for price, amounts in parts:
            amounts.late_cost_picodollars = amounts.cost_picodollars if day < today else 0
            batch.accounts[AccountKey(day, series, self.version(price))].add(amounts)
        batch.time_adjusted += event.time_adjusted
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

    def _prices(self, event: UsageEvent, series: Series) -> TokenPrices:
        """The prices at the event's own time; empty when one of them is missing.

        Models beyond the cap are not looked up at genai.
        """
        prices = self.prices.find_all(
            event.product,
            event.provider,
            event.time,
            event.prompt_tokens,
            event.count,
            kinds=[kind for kind, _ in event.extras],
            look_up=series.model == event.model,
        )
        if prices and prices[""].provider:
            self.genai_models[event.model] = prices[""].provider
        return prices

    def _keep_minute(self, event: UsageEvent, day: date, series: Series, batch: Batch) -> None:
        minute = int(event.time // 60)
        extras = bool(event.extras)
        key = UnpricedKey(
            day, minute, series, event.product, event.provider, event.estimated, extras
        )
        item = batch.unpriced[key]
        _count(item.amounts, event)
        item.extras.update(dict(event.extras))
        item.largest_prompt = max(item.largest_prompt, event.prompt_tokens)

    def version(self, price: TokenPrice | None) -> int:
        """The row of a price in its table; without a price that of unpriced usage."""
        if price is None:
            return UNPRICED_VERSION
        if price not in self._versions:
            row = tuple(getattr(price, name) for name in _PRICE_COLUMNS)
            self._db.execute(_ADD_PRICE, row)
            (self._versions[price],) = self._db.execute(_FIND_PRICE, row).fetchone()
        return self._versions[price]


def _count(amounts: Amounts, event: UsageEvent) -> None:
    """Add an event's counts; its money is added by the caller."""
    setattr(amounts, event.outcome, getattr(amounts, event.outcome) + event.count)
    amounts.input_tokens += event.input_tokens
    amounts.cached_input_tokens += event.cached_input_tokens
    amounts.output_tokens += event.output_tokens
    amounts.batch_items += event.batch_items
    amounts.batch_slots += event.batch_slots


def priced(
    whole: Amounts, extras: Iterable[tuple[str, int]], prices: TokenPrices, estimated: bool
) -> list[tuple[TokenPrice | None, Amounts]]:
    """The amounts by price, with their cost: the calls with plain tokens, and each kind of extras.

    Without prices they stay whole, and cost nothing yet.
    """
    if not prices:
        return [(None, whole)]
    parts = [(prices[""], whole)]
    for kind, tokens in extras:
        column = f"{EXTRAS[kind]}_tokens"
        setattr(whole, column, getattr(whole, column) - tokens)
        parts.append((prices[kind], Amounts(**{column: tokens})))
    for price, part in parts:
        part.cost_picodollars = price.cost(
            part.input_tokens, part.cached_input_tokens, part.output_tokens
        )
        part.estimated_cost_picodollars = part.cost_picodollars if estimated else 0
    return [*parts]
