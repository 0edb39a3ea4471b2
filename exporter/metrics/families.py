"""Budget, limits, prices and the ledger's health: fresh families at each scrape."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from common import names
from common.money import PICODOLLARS_PER_USD
from exporter.budget.calendars import BudgetDay
from exporter.config import Config
from exporter.ledger.books import Books
from exporter.prices.tokenprice import TokenPrice

# One value, or one for each value of a label, or for each pair of values of two labels.
Values = float | Mapping[str, float] | Mapping[tuple[str, str], float]
F = TypeVar("F", GaugeMetricFamily, CounterMetricFamily)


def gauge(name: str, text: str, values: Values, *labels: str) -> GaugeMetricFamily:
    """A gauge as of now."""
    return _filled(GaugeMetricFamily(name, text, labels=labels), values)


def counter(name: str, text: str, values: Values, *labels: str) -> CounterMetricFamily:
    """A counter as of now."""
    return _filled(CounterMetricFamily(name, text, labels=labels), values)


def _filled(family: F, values: Values) -> F:
    for key, value in (values if isinstance(values, Mapping) else {(): values}).items():
        family.add_metric([key] if isinstance(key, str) else key, value)
    return family


def dollars(picodollars: int) -> float:
    """The nearest float of an exact amount: for publishing only, nothing is computed with it."""
    return picodollars / PICODOLLARS_PER_USD


def day(books: Books, today: BudgetDay, spend: int, config: Config) -> Iterator[Metric]:
    """The ledger's day as a whole, spend in pico-dollars; call it with the books' lock held.

    Each figure carries its ledger and its day, so that no rule can put one ledger's or one day's
    figure to another's.
    """
    adjusted = books.adjusted_on(today.date)
    cost = sum(total.cost_picodollars for total in books.totals.values())
    labels = (books.ledger_id, f"{today.start:.0f}")
    text = "Cost of all events since the ledger began."
    yield counter(names.LEDGER_COST, text, {books.ledger_id: dollars(cost)}, names.LEDGER)
    for name, text, value in (
        (names.LEDGER_COST_AT_DAY_START, "The same at its start.", dollars(cost - spend)),
        (names.LEDGER_SPEND, "Cost of the day's events in USD.", dollars(spend)),
        (names.DAILY_LIMIT, "The day's limit in USD.", float(config.budget.daily_limit_usd)),
        (names.GRANTED, "Added to the day's limit, in USD.", dollars(adjusted.granted)),
        (names.WRITTEN_OFF, "Spend written off, in USD.", dollars(adjusted.written_off)),
        (names.DAY_START, "When the budget day began, Unix seconds.", today.start),
        (names.DAY_END, "When the budget day ends, Unix seconds.", today.end),
    ):
        yield gauge(name, text, {labels: value}, names.LEDGER, names.DAY)


def settings(config: Config, in_force: Mapping[str, TokenPrice]) -> Iterator[Metric]:
    """budget.yml's figures and the prices in force."""
    budget, limits = config.budget, config.rate_limits
    yield gauge(names.RESERVE, "Kept out of allocations, in USD.", float(budget.reserve_usd))
    caps = {roaster: float(amount) for roaster, amount in budget.roasters.items()}
    yield gauge(names.ROASTER_LIMIT, "A roaster's own daily cap in USD.", caps, names.ROASTER)
    scope: str = limits.scope
    windows = {(name, scope): getattr(limits, name) for name in ("minute", "hour", "day")}
    text = "Requests allowed in a rolling window."
    yield gauge(names.RATE_LIMIT, text, windows, "window", "scope")
    prices = {
        (model, kind): dollars(getattr(price, kind) * 1_000_000)
        for model, price in in_force.items()
        for kind in names.TOKEN_TYPES
    }
    text = "Price in force, USD per million tokens."
    yield gauge(names.PRICE, text, prices, names.MODEL, "type")


def health(books: Books) -> Iterator[Metric]:
    """The ledger's identity and health, and sums over its accounts; call it with the lock held."""
    ledger = books.ledger_id
    yield gauge(names.LEDGER_INFO, "The ledger's id.", {ledger: 1}, names.LEDGER)
    text = "Whether the last write of the ledger worked."
    yield gauge(names.LEDGER_WRITABLE, text, {ledger: books.writable}, names.LEDGER)
    text = "When it was written last, Unix seconds."
    yield gauge(names.LEDGER_LAST_COMMIT, text, books.last_commit)
    yield gauge(names.LEDGER_SIZE, "Size of the database file.", books.size_bytes)
    estimated: Counter[str] = Counter()
    for series, total in books.totals.items():
        estimated[series.model] += total.estimated_cost_picodollars
    cost = {model: dollars(amount) for model, amount in estimated.items()}
    text = "Cost of usage that the provider did not report."
    yield counter(names.ESTIMATED_COST, text, cost, names.MODEL)
    text = "Tokens that came without a price."
    yield counter(names.UNPRICED_TOKENS, text, books.unpriced_tokens, names.MODEL)
    text = "Tokens whose cost is still withheld."
    pending = {(ledger, model): tokens for model, tokens in books.pending_tokens.items()}
    yield gauge(names.UNPRICED_PENDING, text, pending, names.LEDGER, names.MODEL)
    late = sum(total.late_cost_picodollars for total in books.totals.values())
    text = "Cost that arrived after its own day had ended."
    yield counter(names.LATE_COST, text, {ledger: dollars(late)}, names.LEDGER)
    text = "Events from the future, booked at receipt."
    yield counter(names.TIME_ADJUSTED, text, books.time_adjusted)
    overflowed = {label: books.overflowed[label] for label in names.RFM}
    text = "Events beyond a label's cap, under `other`."
    yield counter(names.LABEL_OVERFLOW, text, overflowed, "label")
