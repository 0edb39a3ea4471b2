"""The ledger's sums in memory: what /metrics and /api/v1/status read, changed after each commit."""

import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import date

Series = tuple[str, str, str]  # roaster, field, model
# Only today's spend is asked for; earlier days are kept for a clock that goes back.
RECENT_DAYS = 7


@dataclass(slots=True)
class Amounts:
    """Sums of one account, or what one event adds to it. Money in pico-dollars."""

    success: int = 0
    error: int = 0
    rate_limited: int = 0
    cached: int = 0
    fallback: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost_picodollars: int = 0
    estimated_cost_picodollars: int = 0
    late_cost_picodollars: int = 0
    batch_items: int = 0
    batch_slots: int = 0

    def add(self, other: "Amounts") -> None:
        for name in COLUMNS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def minus(self) -> "Amounts":
        """What takes these amounts away when it is added."""
        return Amounts(*(-value for value in self.values()))

    def values(self) -> tuple[int, ...]:
        """In the order of the accounts table's columns."""
        return tuple(getattr(self, name) for name in COLUMNS)

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.cached_input_tokens + self.output_tokens

    @property
    def requests(self) -> int:
        return self.success + self.error + self.rate_limited + self.cached + self.fallback


COLUMNS = tuple(item.name for item in fields(Amounts))


@dataclass(frozen=True, slots=True)
class AccountKey:
    """One row of accounts."""

    day: date
    series: Series
    price_version: int


@dataclass
class Adjustments:
    """Today's money beside the spend, in pico-dollars."""

    granted: int = 0
    written_off: int = 0


@dataclass
class Books:
    """Lifetime sums per series, and each recent day's cost; every method takes the lock."""

    ledger_id: str
    totals: dict[Series, Amounts] = field(default_factory=dict)
    pending_tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # by model
    repriced_tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # by model
    last_commit: float = 0.0
    writable: bool = True
    size_bytes: int = 0
    adjustments: dict[date, Adjustments] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    changed: set[Series] = field(default_factory=set)  # since the page was last rendered
    _day_cost: dict[date, dict[Series, int]] = field(default_factory=dict)

    def book(self, accounts: Iterable[tuple[AccountKey, Amounts]]) -> None:
        """Add what a transaction committed, or what the ledger holds at start."""
        with self.lock:
            for key, amounts in accounts:
                self.totals.setdefault(key.series, Amounts()).add(amounts)
                if key.price_version == 0:
                    self.pending_tokens[key.series[2]] += amounts.tokens
                day = self._day_cost.setdefault(key.day, {})
                day[key.series] = day.get(key.series, 0) + amounts.cost_picodollars
                self.changed.add(key.series)
            for forgotten in sorted(self._day_cost)[:-RECENT_DAYS]:
                del self._day_cost[forgotten]

    def move(self, accounts: list[tuple[AccountKey, Amounts]]) -> None:
        """Book what a reprice took from unpriced accounts (negative) and gave to priced ones."""
        with self.lock:
            self.book(accounts)
            for key, amounts in accounts:
                if key.price_version == 0:
                    self.repriced_tokens[key.series[2]] -= amounts.tokens

    @property
    def unpriced_tokens(self) -> dict[str, int]:
        """Tokens by model that came without a price, also those that were repriced since."""
        models = self.pending_tokens.keys() | self.repriced_tokens.keys()
        return {m: self.pending_tokens.get(m, 0) + self.repriced_tokens.get(m, 0) for m in models}

    def spend_of(self, today: date) -> dict[Series, int]:
        """Pico-dollars per series on a day and after it (after: only if the clock went back)."""
        with self.lock:
            spend: dict[Series, int] = {}
            for day, costs in self._day_cost.items():
                if day >= today:
                    for series, cost in costs.items():
                        spend[series] = spend.get(series, 0) + cost
            return spend

    def adjust(self, day: date, kind: str, picodollars: int) -> None:
        """Book a grant or a write-off."""
        with self.lock:
            entry = self.adjustments.setdefault(day, Adjustments())
            if kind == "grant":
                entry.granted += picodollars
            else:
                entry.written_off += picodollars
