"""Booking a batch of events inside one transaction: ids, prices, label caps, accounts."""

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from datetime import date

from common.names import FIELD, MODEL, OTHER, ROASTER, UNKNOWN
from exporter.config import Limits
from exporter.event import EventError, UsageEvent
from exporter.ledger.books import COLUMNS, AccountKey, Amounts, Series
from exporter.ledger.ids import KEEP_SECONDS, IdTables
from exporter.ledger.unpriced import Unpriced, UnpricedKey, add_unpriced
from exporter.prices.pricelist import PriceList
from exporter.prices.tokenprice import TokenPrice

_ADD = ", ".join(f"{name} = {name} + excluded.{name}" for name in COLUMNS)
_UPSERT = (
    f"INSERT INTO accounts VALUES ({', '.join('?' * (5 + len(COLUMNS)))}) "  # noqa: S608  constants
    f"ON CONFLICT (day, roaster, field, model, price_version) DO UPDATE SET {_ADD}"
)
_RESERVED = {OTHER, UNKNOWN}

_PRICE_COLUMNS = tuple(item.name for item in fields(TokenPrice))
_ADD_PRICE = (
    f"INSERT OR IGNORE INTO prices ({', '.join(_PRICE_COLUMNS)}) "  # noqa: S608  constants
    f"VALUES ({', '.join('?' * len(_PRICE_COLUMNS))})"
)
_IS_PRICE = " AND ".join(f"{name} = ?" for name in _PRICE_COLUMNS)
_FIND_PRICE = f"SELECT version FROM prices WHERE {_IS_PRICE}"  # noqa: S608  constants


@dataclass
class Outcome:
    """What became of one submission, by the index of its events."""

    accepted: list[int] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    rejected: list[tuple[int, EventError]] = field(default_factory=list)


@dataclass
class Batch:
    """What one transaction will have booked, once it is committed."""

    accounts: dict[AccountKey, Amounts] = field(default_factory=dict)
    overflowed: dict[str, int] = field(default_factory=dict)  # label -> events put under `other`
    adjusted: int = 0
    new_labels: list[tuple[str, str]] = field(default_factory=list)
    unpriced: dict[UnpricedKey, Unpriced] = field(default_factory=lambda: defaultdict(Unpriced))


class Labels:
    """The distinct label values seen, capped; beyond the cap a value becomes `other`.

    `other` and `unknown`, also when a client says them literally, are always admitted and take none
    of the room.
    """

    def __init__(self, limits: Limits) -> None:
        self.cap(limits)
        self._known: dict[str, set[str]] = {name: set() for name in self._caps}

    def cap(self, limits: Limits) -> None:
        """New caps; what is known stays, also beyond them."""
        self._caps = {ROASTER: limits.roasters, FIELD: limits.fields, MODEL: limits.models}

    def learn(self, series: Series) -> None:
        """What the ledger already holds stays, whatever the cap."""
        for name, value in zip((ROASTER, FIELD, MODEL), series, strict=True):
            if value not in _RESERVED:
                self._known[name].add(value)

    def forget(self, values: list[tuple[str, str]]) -> None:
        """Undo what a rolled back batch learned."""
        for name, value in values:
            self._known[name].discard(value)

    def admit(self, event: UsageEvent, batch: Batch) -> Series:
        """The event's series, with `other` where a cap is reached."""
        admitted = []
        for name, value in ((ROASTER, event.roaster), (FIELD, event.field), (MODEL, event.model)):
            known = self._known[name]
            if value not in known and value not in _RESERVED:
                if len(known) >= self._caps[name]:
                    batch.overflowed[name] = batch.overflowed.get(name, 0) + 1
                    value = OTHER
                else:
                    known.add(value)
                    batch.new_labels.append((name, value))
            admitted.append(value)
        return admitted[0], admitted[1], admitted[2]


class Booking:
    """Books submissions into a Batch; the caller opens and commits the transaction."""

    def __init__(
        self,
        db: sqlite3.Connection,
        prices: PriceList,
        limits: Limits,
        day_of: Callable[[float], date],
    ) -> None:
        self._db = db
        self._day_of = day_of
        self.prices = prices
        self.ids = IdTables(db)
        self.labels = Labels(limits)
        self.genai_models: dict[str, str] = {}  # label -> provider; shown with today's prices
        self._versions: dict[TokenPrice, int] = {}

    def book(self, events: list[UsageEvent], now: float, batch: Batch) -> Outcome:
        """Book events; a refused one does not touch the others."""
        outcome = Outcome()
        today = self._day_of(now)
        for index, event in enumerate(events):
            try:
                fresh = self._is_new(event, now)
            except EventError as error:
                outcome.rejected.append((index, error))
                continue
            if not fresh:
                outcome.duplicates.append(index)
                continue
            self._account(event, today, batch)
            outcome.accepted.append(index)
        return outcome

    def write(self, batch: Batch) -> None:
        """Put the batch's sums into their tables."""
        self.add_accounts(batch.accounts.items())
        add_unpriced(self._db, batch.unpriced)

    def add_accounts(self, accounts: Iterable[tuple[AccountKey, Amounts]]) -> None:
        """Add to rows of the accounts table, which appear when they are missing."""
        self._db.executemany(
            _UPSERT,
            [
                (key.day.isoformat(), *key.series, key.price_version, *amounts.values())
                for key, amounts in accounts
            ],
        )

    def rolled_back(self, batch: Batch) -> None:
        """Forget what a failed transaction seemed to have done; touches no disk, cannot fail."""
        self.labels.forget(batch.new_labels)
        self._versions.clear()
        self.ids.reload()

    def _is_new(self, event: UsageEvent, now: float) -> bool:
        if event.time < now - KEEP_SECONDS:
            raise EventError("too_old", "older than 35 days - at `$.time`")
        if event.digest is None:
            return True
        booked = self.ids.find(event.digest)
        if booked is None:
            self.ids.add(event.digest, event.content, max(event.claimed, event.time, now), now)
            return True
        if booked != event.content:
            raise EventError("conflict", "this id was booked with different content - at `$.id`")
        return False

    def _account(self, event: UsageEvent, today: date, batch: Batch) -> None:
        day, series = self._day_of(event.time), self.labels.admit(event, batch)
        price = self._price(event, series)
        cost = 0
        if price is not None:
            cost = price.cost(event.input_tokens, event.cached_input_tokens, event.output_tokens)
        elif event.tokens:
            self._keep_minute(event, day, series, batch)
        key = AccountKey(day, series, self.version(price))
        amounts = batch.accounts.setdefault(key, Amounts())
        _count(amounts, event)
        amounts.cost_picodollars += cost
        amounts.estimated_cost_picodollars += cost if event.estimated else 0
        amounts.late_cost_picodollars += cost if day < today else 0
        batch.adjusted += event.time_adjusted

    def _price(self, event: UsageEvent, series: Series) -> TokenPrice | None:
        """The price at the event's own time. Models beyond the cap are not looked up at genai."""
        listed = series[2] == event.model
        prompt = event.input_tokens + event.cached_input_tokens
        price = self.prices.find(
            *(event.model, event.provider, event.time, prompt, event.count),
            extras=event.extras,
            look_up=listed,
        )
        if price is not None and price.provider:
            self.genai_models[event.model] = price.provider
        return price

    def _keep_minute(self, event: UsageEvent, day: date, series: Series, batch: Batch) -> None:
        minute = int(event.time // 60)
        key = UnpricedKey(
            *(day, minute, series, event.model, event.provider), event.estimated, event.extras
        )
        item = batch.unpriced[key]
        _count(item.amounts, event)
        prompt = event.input_tokens + event.cached_input_tokens
        item.largest_prompt = max(item.largest_prompt, prompt)

    def version(self, price: TokenPrice | None) -> int:
        """The row of prices for a price; 0 when there is none."""
        if price is None:
            return 0
        if price not in self._versions:
            row = tuple(getattr(price, name) for name in _PRICE_COLUMNS)
            self._db.execute(_ADD_PRICE, row)
            (self._versions[price],) = self._db.execute(_FIND_PRICE, row).fetchone()
        return self._versions[price]


def _count(amounts: Amounts, event: UsageEvent) -> None:
    """Add what an event says, but its money."""
    setattr(amounts, event.outcome, getattr(amounts, event.outcome) + event.count)
    amounts.input_tokens += event.input_tokens
    amounts.cached_input_tokens += event.cached_input_tokens
    amounts.output_tokens += event.output_tokens
    amounts.batch_items += event.batch_items
    amounts.batch_slots += event.batch_slots
