"""The ledger's sums in memory: what /metrics and /api/v1/status read, changed after each commit."""

import sqlite3
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any, NamedTuple

from exporter.event import OUTCOMES
from exporter.ledger.balances import Balance, newest
from exporter.ledger.course import REMEMBERED_DAYS, Costs, Course, Gap, read_courses

UNPRICED_VERSION = 0  # of the accounts whose price was not known: tokens count, cost is withheld
# Only today's spend is asked for; earlier days are kept for a clock that goes back.
RECENT_DAYS = 7
CARRIED = "carried "  # before month and ledger: a key of meta


class Series(NamedTuple):
    """What accounts and metrics tell apart, in the order of names.RFM."""

    roaster: str
    field: str
    model: str


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
        return sum(getattr(self, outcome) for outcome in OUTCOMES)


COLUMNS = tuple(item.name for item in fields(Amounts))


class AccountKey(NamedTuple):
    """One row of accounts."""

    day: date
    series: Series
    price_version: int


class Adjustment(NamedTuple):
    """A grant or reset, or the revoke of one, which takes its pico-dollars away."""

    day: date
    kind: str  # grant or reset; of a revoke that of what it undoes
    roaster: str  # whose cap a grant raises; empty: the budget
    picodollars: int
    number: int  # its id in the ledger
    revokes: int | None  # the number of what it undoes


class Adjusted(NamedTuple):
    """A day's money beside the spend, in pico-dollars, and how many grants were made."""

    granted: int
    written_off: int
    grants: int
    by_roaster: dict[str, int]  # granted to those alone


@dataclass
class Books:
    """Lifetime sums per series, and each recent day's cost; every method takes the lock.

    overflowed (by label), time_adjusted and live count since the start.
    """

    ledger_id: str
    totals: dict[Series, Amounts] = field(default_factory=lambda: defaultdict(Amounts))
    # By model: what came without a price, and what of it is withheld still.
    unpriced_tokens: Counter[str] = field(default_factory=Counter)
    pending_tokens: Counter[str] = field(default_factory=Counter)
    overflowed: Counter[str] = field(default_factory=Counter)
    time_adjusted: int = 0
    live: Counter[Series] = field(default_factory=Counter)  # calls paid for, when they were made
    last_commit: float = 0.0
    writable: bool = True
    problem: str = ""  # why it is not
    size_bytes: int = 0
    epoch: int = 0  # the number of the newest grant, reset or revoke
    lock: threading.RLock = field(default_factory=threading.RLock)
    first_day: date = date.max  # with an account, or on which the ledger began
    changed: set[Series] = field(default_factory=set)  # since the page was last rendered
    courses: dict[date, Course] = field(default_factory=lambda: defaultdict(Counter))
    gaps: list[Gap] = field(default_factory=list)
    balances: dict[str, Balance] = field(default_factory=dict)  # the newest, by currency
    carried: dict[tuple[str, str], int] = field(default_factory=dict)  # by month and ledger
    _adjusted: Counter[tuple[date, str, str]] = field(default_factory=Counter)
    _day_cost: dict[date, Counter[Series]] = field(default_factory=lambda: defaultdict(Counter))
    _day_tokens: Counter[date] = field(default_factory=Counter)  # priced or not
    _month_cost: Counter[tuple[int, int]] = field(default_factory=Counter)  # of whole months

    def book(
        self,
        accounts: Iterable[tuple[AccountKey, Amounts]],
        overflowed: Counter[str] | None = None,
        time_adjusted: int = 0,
        live: Counter[Series] | None = None,
        costs: Costs | None = None,
    ) -> None:
        """Add what a transaction committed, or what the ledger holds at start.

        What a reprice moves is taken from unpriced accounts (negative) and given to priced ones.
        """
        with self.lock:
            self.overflowed.update(overflowed)
            self.time_adjusted += time_adjusted
            self.live.update(live)
            for key, amounts in accounts:
                self.totals[key.series].add(amounts)
                if key.price_version == UNPRICED_VERSION:
                    self.pending_tokens[key.series.model] += amounts.tokens
                    self.unpriced_tokens[key.series.model] += max(0, amounts.tokens)
                self._day_cost[key.day][key.series] += amounts.cost_picodollars
                self._day_tokens[key.day] += amounts.tokens
                self._month_cost[key.day.year, key.day.month] += amounts.cost_picodollars
                self.first_day = min(self.first_day, key.day)
                self.changed.add(key.series)
            for (day, slot), cost in (costs or {}).items():
                self.courses[day][slot] += cost
            for forgotten in sorted(self._day_cost)[:-RECENT_DAYS]:
                del self._day_cost[forgotten], self._day_tokens[forgotten]
            for forgotten in sorted(self.courses)[:-REMEMBERED_DAYS]:
                del self.courses[forgotten]

    def spend_of(self, today: date) -> Counter[Series]:
        """Pico-dollars per series on a day and after it (after: only if the clock went back)."""
        with self.lock:
            spend: Counter[Series] = Counter()
            for day, costs in self._day_cost.items():
                if day >= today:
                    spend.update(costs)
            return spend

    def tokens_of(self, today: date) -> int:
        """Tokens of the same days, those without a price among them."""
        with self.lock:
            return sum(tokens for day, tokens in self._day_tokens.items() if day >= today)

    def spent_before(self, today: date) -> int:
        """Pico-dollars of the days of a day's month that lie before it."""
        month = today.year, today.month
        with self.lock:
            return self._month_cost[month] - sum(
                sum(costs.values())
                for day, costs in self._day_cost.items()
                if day >= today and (day.year, day.month) == month
            )

    def adjusted_on(self, day: date) -> Adjusted:
        with self.lock:
            by = self._adjusted
            own = {name: money for (of, _, name), money in by.items() if name and of == day}
            return Adjusted(by[day, "grant", ""], by[day, "reset", ""], by[day, "grants", ""], own)

    def adjust(self, one: Adjustment | None) -> None:
        """Book a grant, a reset or a revoke, unless it was booked before."""
        with self.lock:
            if one and one.number > self.epoch:
                self.epoch = one.number
                self._adjusted[one.day, one.kind, one.roaster] += one.picodollars
                self._adjusted[one.day, "grants", ""] += one.kind == "grant" and not one.revokes


def read_books(db: sqlite3.Connection) -> Books:
    """The sums of a ledger: closed days are summed up, the last days come one by one."""
    meta = dict(db.execute("SELECT key, value FROM meta"))
    books = Books(meta["ledger_id"], last_commit=float(meta.get("last_commit", 0)))
    last_closed = meta.get("closed", "")
    sums = ", ".join(f"sum({name})" for name in COLUMNS)
    # A month a sum, and Python adds those.
    query = (
        f"SELECT max(day), roaster, field, model, min(price_version, 1), {sums} FROM accounts "  # noqa: S608
        "WHERE day > ? GROUP BY CASE WHEN day < ? THEN substr(day, 1, 7) ELSE day END, 2, 3, 4, 5"
    )
    try:
        recent = recent_days(db, RECENT_DAYS)
        rows: Iterable[Any] = db.execute(query, (last_closed, recent)).fetchall()
    except sqlite3.OperationalError:  # a sum beyond 64 bits; Python's have no bound
        rows = db.execute("SELECT * FROM accounts WHERE day > ?", (last_closed,))  # as above
    books.book(map(account, db.execute("SELECT ?, * FROM closed", (str(date.min),))))
    books.book(map(account, rows))
    books.courses = read_courses(db, recent_days(db, REMEMBERED_DAYS))
    books.gaps = db.execute("SELECT * FROM gaps").fetchall()
    (oldest,) = db.execute("SELECT min(day) FROM accounts").fetchone()
    books.first_day = date.fromisoformat(min(meta["first_day"], oldest or meta["first_day"]))
    books.balances = newest(db)
    handed = {key[len(CARRIED) :]: meta[key] for key in meta if key.startswith(CARRIED)}
    books.carried = {(key[:7], key[8:]): int(picos) for key, picos in handed.items()}
    query = "SELECT label, input_tokens, cached_input_tokens, output_tokens FROM reprices"
    for label, *tokens in db.execute(query):
        books.unpriced_tokens[label] += sum(tokens)
    for one in adjustments(db, "ORDER BY a.id"):
        books.adjust(one)
    return books


def adjustments(db: sqlite3.Connection, where: str = "", *values: Any) -> Iterator[Adjustment]:
    """Grants, resets and revokes. where: an SQL clause on `a`, the adjustment."""
    query = """SELECT a.day, coalesce(b.kind, a.kind), a.roaster,
            iif(b.id, -a.picodollars, a.picodollars), a.id, a.revokes
        FROM adjustments a LEFT JOIN adjustments b ON b.id = a.revokes """
    for day, *booked in db.execute(query + where, values):
        yield Adjustment(date.fromisoformat(day), *booked)


def account(row: Any) -> tuple[AccountKey, Amounts]:
    """Of a whole row of accounts."""
    key = AccountKey(date.fromisoformat(row[0]), Series(*row[1:4]), row[4])
    return key, Amounts(*row[5:])


def recent_days(db: sqlite3.Connection, count: int) -> str:
    """The first of the last so many days that have accounts."""
    oldest = "9999-12-31"
    for _ in range(count):
        (day,) = db.execute("SELECT max(day) FROM accounts WHERE day < ?", (oldest,)).fetchone()
        oldest = day or oldest
    return oldest
