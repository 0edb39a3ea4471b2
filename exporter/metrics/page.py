"""The page /metrics: the series as cached text, everything else by prometheus_client."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from typing import Any

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from common import names
from common.budget_status import MonthFigures
from common.money import PICODOLLARS_PER_USD, usd
from exporter.budget.calendars import BudgetDay
from exporter.config import Config
from exporter.event import OUTCOMES
from exporter.ledger.books import Amounts, Books, Series
from exporter.ledger.ledger import Ledger
from exporter.ledger.month import month_of
from exporter.metrics.history import past_days

disable_created_metrics()  # type: ignore[no-untyped-call]

# The families with a series.
_FAMILIES = {
    names.REQUESTS: ("counter", "Calls made or avoided, by outcome."),
    names.CALLS_LIVE: ("counter", "Calls paid for and reported within a minute of their time."),
    names.TOKENS: ("counter", "Tokens; the types are disjoint, their sum is all tokens."),
    names.COST: ("counter", "Cost in USD since the ledger began."),
    names.COST_AT_DAY_START: ("gauge", f"{names.COST} as it stood when the budget day began."),
    names.BATCH_ITEMS: ("counter", "Items sent in batches."),
    names.BATCH_SLOTS: ("counter", "Room for items in those batches."),
}
# One value, or one for each value of a label, or for each combination of values of several.
Values = float | Mapping[Any, float]


class Page:
    """Renders everything as of one budget day; series are cached as text: 20,000 take 10 ms."""

    def __init__(
        self, ledger: Ledger, config: Callable[[], Config], registry: CollectorRegistry
    ) -> None:
        """config: gives budget.yml as it is now. registry: takes this page in, and all else."""
        self._ledger, self._config, self._registry = ledger, config, registry
        self._text: dict[str, dict[Series, str]] = {name: {} for name in _FAMILIES}
        self._spend = Counter[Series]()  # of the day rendered last, pico-dollars
        self._day: list[Metric] = []
        self._lock = threading.Lock()
        registry.register(self)

    def render(self, today: BudgetDay) -> bytes:
        """The page as of one budget day, also when it turns meanwhile."""
        books = self._ledger.books
        with self._lock:
            with books.lock:  # both of one instant
                text = self.series(books, today.date)
                config = self._config()
                month = month_of(config.budget, books, self._ledger.calendars, today)
                self._day = list(_day(books, today, self._spend.total(), config, month))
                past = past_days(books, self._ledger.calendars, today, self._ledger.clock.now())
                self._day += _history(past, books.ledger_id, f"{today.start:.0f}")
            return text.encode() + generate_latest(self._registry)

    def series(self, books: Books, today: date) -> str:
        """Total and day start of every series; call it with the books' lock held."""
        spend = books.spend_of(today)
        moved = {s for s in self._spend.keys() | spend.keys() if self._spend[s] != spend[s]}
        for series in sorted(books.changed | moved):
            pairs = zip(names.RFM, series, strict=True)
            labels = ",".join(f'{label}="{escape(value)}"' for label, value in pairs)
            lines: dict[str, str] = {}
            figures = books.totals[series], spend[series], books.live[series]
            for name, more, value in _samples(*figures):
                lines[name] = f"{lines.get(name, '')}{name}{{{labels}{more}}} {value}\n"
            for name, text in lines.items():
                self._text[name][series] = text
        books.changed.clear()
        self._spend = spend
        pieces: list[str] = []
        for name, (kind, help_text) in _FAMILIES.items():
            pieces.append(f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n")
            pieces += self._text[name].values()
        return "".join(pieces)

    def collect(self) -> Iterator[Metric]:
        """What has no series: the day, budget.yml's figures, the prices and the ledger's health."""
        yield from self._day
        config = self._config()
        budget, limits = config.budget, config.rate_limits
        yield family(names.RESERVE, "Kept out of allocations, in USD.", float(budget.reserve_usd))
        for name, label, caps in (
            (names.ROASTER_LIMIT, names.ROASTER, budget.roasters),
            (names.FIELD_LIMIT, names.FIELD, budget.fields),
        ):
            amounts = {value: float(amount) for value, amount in caps.items()}
            yield family(name, f"A {label}'s own daily cap in USD.", amounts, label)
        scope: str = limits.scope
        windows = {(name, scope): getattr(limits, name) for name in ("minute", "hour", "day")}
        text = "Requests allowed in a rolling window."
        yield family(names.RATE_LIMIT, text, windows, "window", "scope")
        prices = {
            (model, kind): dollars(getattr(price, kind) * 1_000_000)
            for model, price in self._ledger.prices_in_force().items()
            for kind in names.TOKEN_TYPES
        }
        text = "Price in force, USD per million tokens."
        yield family(names.PRICE, text, prices, names.MODEL, "type")
        with self._ledger.books.lock:
            yield from _health(self._ledger.books)


def _samples(total: Amounts, spend: int, live: int) -> Iterator[tuple[str, str, int | str]]:
    """A series' samples: the family, what its labels add to the series', the value."""
    for outcome in OUTCOMES:
        if count := getattr(total, outcome):
            yield names.REQUESTS, f',outcome="{outcome}"', count
    for kind in names.TOKEN_TYPES:
        yield names.TOKENS, f',type="{kind}"', getattr(total, f"{kind}_tokens")
    yield names.COST, "", usd(total.cost_picodollars)
    yield names.COST_AT_DAY_START, "", usd(total.cost_picodollars - spend)
    yield names.CALLS_LIVE, "", live
    if total.batch_items or total.batch_slots:
        yield names.BATCH_ITEMS, "", total.batch_items
        yield names.BATCH_SLOTS, "", total.batch_slots


def escape(value: str) -> str:
    """A label value in the text exposition format."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def family(name: str, text: str, values: Values, *labels: str) -> Metric:
    """A metric as of now: a counter when its name ends in _total, else a gauge."""
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    made = kind(name, text, labels=labels)
    for key, value in (values if isinstance(values, Mapping) else {(): values}).items():
        made.add_metric([key] if isinstance(key, str) else key, value)
    return made


def dollars(picodollars: int) -> float:
    """The nearest float of an exact amount: for publishing only, nothing is computed with it."""
    return picodollars / PICODOLLARS_PER_USD


def _day(
    books: Books, today: BudgetDay, spend: int, config: Config, month: MonthFigures | None
) -> Iterator[Metric]:
    """The ledger's day as a whole, spend in pico-dollars; call it with the books' lock held.

    Each figure carries its ledger and its day, so that no rule can put one ledger's or one day's
    figure to another's.
    """
    adjusted = books.adjusted_on(today.date)
    cost = sum(total.cost_picodollars for total in books.totals.values())
    labels = (books.ledger_id, f"{today.start:.0f}")
    text = "Cost of all events since the ledger began."
    yield family(names.LEDGER_COST, text, {books.ledger_id: dollars(cost)}, names.LEDGER)
    text = "The number of its newest grant, reset or revoke."
    yield family(names.LEDGER_EPOCH, text, {books.ledger_id: books.epoch}, names.LEDGER)
    for name, text, value in (
        (names.LEDGER_COST_AT_DAY_START, "The same at its start.", dollars(cost - spend)),
        (names.LEDGER_SPEND, "Cost of the day's events in USD.", dollars(spend)),
        (names.DAILY_LIMIT, "The day's limit in USD.", float(config.budget.daily_limit_usd)),
        (names.GRANTED, "Added to the day's limit, in USD.", dollars(adjusted.granted)),
        (names.GRANTS, "Grants made on the day, those revoked among them.", adjusted.grants),
        (names.WRITTEN_OFF, "Spend written off, in USD.", dollars(adjusted.written_off)),
        (names.DAY_START, "When the budget day began, Unix seconds.", today.start),
        (names.DAY_END, "When the budget day ends, Unix seconds.", today.end),
    ):
        yield family(name, text, {labels: value}, names.LEDGER, names.DAY)
    own = {(*labels, name): dollars(amount) for name, amount in adjusted.by_roaster.items()}
    text = "Added to a roaster's own cap for the day, in USD."
    yield family(names.ROASTER_GRANTED, text, own, names.LEDGER, names.DAY, names.ROASTER)
    if month:
        yield from _month(month, today, (*labels, month.month))


def _month(month: MonthFigures, today: BudgetDay, labels: tuple[str, ...]) -> Iterator[Metric]:
    """The month's budget as of the day."""
    for name, text, value in (
        (names.MONTH_LIMIT, "A whole month's limit in USD.", float(month.limit_usd)),
        (names.MONTH_SEEN, "Part of it that counts.", month.seen_days / month.days),
        (names.MONTH_SPENT, "Spent before the day, in USD.", float(month.spent_usd)),
        (names.MONTH_DAYS_LEFT, "Days to its end, today included.", month.days_left),
        (names.MONTH_PARTS, "What is left is divided by it: days left, or 1.", month.parts),
    ):
        yield family(name, text, {labels: value}, names.LEDGER, names.DAY, names.MONTH)
    gone = {(ledger, month.month): float(usd) for ledger, usd in month.carried_usd.items()}
    text = "What a ledger that is gone had spent of it, as handed over, in USD."
    yield family(names.MONTH_CARRIED, text, gone, names.LEDGER, names.MONTH)
    began = today.start - 86_400 * (today.date.day - 1 - month.days + month.seen_days)
    text = "When the part that counts began, to the hour; with an opening balance not said."
    said = {labels: began} if month.opening_usd is None else {}
    yield family(names.MONTH_START, text, said, names.LEDGER, names.DAY, names.MONTH)


def _history(past: Iterable[tuple[int, int, dict[str, int]]], *labels: str) -> Iterator[Metric]:
    """Past days; each figure carries its ledger and the day on which it is said, too."""
    days = [((*labels, str(ago)), start, spend) for ago, start, spend in past]
    spends = {(*day, by): dollars(cost) for day, _, spend in days for by, cost in spend.items()}
    text = "A past day's cost in USD at its end, or so many hours after this time of that day."
    whose = (names.LEDGER, names.DAY, names.DAYS_AGO)
    yield family(names.HISTORY_SPEND, text, spends, *whose, names.BY)
    starts = {day: start for day, start, _ in days}
    yield family(names.HISTORY_DAY_START, "When that day began, Unix seconds.", starts, *whose)


def _health(books: Books) -> Iterator[Metric]:
    """The ledger's identity and health, and sums over its accounts; call it with the lock held."""
    ledger = books.ledger_id
    yield family(names.LEDGER_INFO, "The ledger's id.", {ledger: 1}, names.LEDGER)
    text = "Whether the last write of the ledger worked."
    yield family(names.LEDGER_WRITABLE, text, {ledger: books.writable}, names.LEDGER)
    text = "When it was written last, Unix seconds."
    yield family(names.LEDGER_LAST_COMMIT, text, books.last_commit)
    yield family(names.LEDGER_SIZE, "Size of the database file.", books.size_bytes)
    estimated: Counter[str] = Counter()
    for series, total in books.totals.items():
        estimated[series.model] += total.estimated_cost_picodollars
    cost = {model: dollars(amount) for model, amount in estimated.items()}
    text = "Cost of usage that the provider did not report."
    yield family(names.ESTIMATED_COST, text, cost, names.MODEL)
    text = "Tokens that came without a price."
    yield family(names.UNPRICED_TOKENS, text, books.unpriced_tokens, names.MODEL)
    text = "Tokens whose cost is still withheld."
    pending = {(ledger, model): tokens for model, tokens in books.pending_tokens.items()}
    yield family(names.UNPRICED_PENDING, text, pending, names.LEDGER, names.MODEL)
    late = sum(total.late_cost_picodollars for total in books.totals.values())
    text = "Cost that arrived after its own day had ended."
    yield family(names.LATE_COST, text, {ledger: dollars(late)}, names.LEDGER)
    text = "Events from the future, booked at receipt."
    yield family(names.TIME_ADJUSTED, text, books.time_adjusted)
    overflowed = {label: books.overflowed[label] for label in names.RFM}
    text = "Events beyond a label's cap, under `other`."
    yield family(names.LABEL_OVERFLOW, text, overflowed, "label")
