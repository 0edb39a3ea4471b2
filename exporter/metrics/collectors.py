"""Budget, limits, prices and the ledger's health: fresh families at each scrape."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from common import names
from common.money import PICODOLLARS_PER_USD
from exporter.budget.calendars import BudgetDay
from exporter.config import Config
from exporter.ledger.ledger import Ledger

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


class FreshCollector(Collector):
    """A collector that registering does not read."""

    def describe(self) -> list[Metric]:
        return []


class BudgetCollector(FreshCollector):
    """budget.yml's figures, today's adjustments, the day's bounds and the prices in force.

    today: the page's budget day, so that limit and spend are of the same one.
    """

    def __init__(self, config: Callable[[], Config], ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self.today: BudgetDay | None = None

    def collect(self) -> Iterator[Metric]:
        budget, limits = self._config().budget, self._config().rate_limits
        today = self.today or self._ledger.today()
        adjusted = self._ledger.books.adjusted_on(today.date)
        written_off = dollars(adjusted.written_off)
        yield gauge(names.DAILY_LIMIT, "The day's budget in USD.", float(budget.daily_limit_usd))
        yield gauge(names.RESERVE, "Kept out of allocations, in USD.", float(budget.reserve_usd))
        yield gauge(names.GRANTED, "Added to today's budget, in USD.", dollars(adjusted.granted))
        yield gauge(names.WRITTEN_OFF, "Today's spend written off, in USD.", written_off)
        yield gauge(names.DAY_START, "When the budget day began, Unix seconds.", today.start)
        yield gauge(names.DAY_END, "When the budget day ends, Unix seconds.", today.end)
        caps = {roaster: float(amount) for roaster, amount in budget.roasters.items()}
        yield gauge(names.ROASTER_LIMIT, "A roaster's own daily cap in USD.", caps, names.ROASTER)
        windows = {
            (name, str(limits.scope)): getattr(limits, name) for name in ("minute", "hour", "day")
        }
        text = "Requests allowed in a rolling window."
        yield gauge(names.RATE_LIMIT, text, windows, "window", "scope")
        prices = {
            (model, kind): dollars(getattr(price, kind) * 1_000_000)
            for model, price in self._ledger.prices_in_force().items()
            for kind in names.TOKEN_TYPES
        }
        text = "Price in force, USD per million tokens."
        yield gauge(names.PRICE, text, prices, names.MODEL, "type")


class LedgerCollector(FreshCollector):
    """The ledger's identity and health, and sums over its accounts."""

    def __init__(self, ledger: Ledger) -> None:
        self._books = ledger.books

    def collect(self) -> Iterator[Metric]:
        books = self._books
        with books.lock:
            yield gauge(names.LEDGER_INFO, "The ledger's id.", {books.ledger_id: 1}, "ledger")
            text = "Whether the last write of the ledger worked."
            yield gauge(names.LEDGER_WRITABLE, text, books.writable)
            text = "When it was written last, Unix seconds."
            yield gauge(names.LEDGER_LAST_COMMIT, text, books.last_commit)
            yield gauge(names.LEDGER_SIZE, "Size of the database file.", books.size_bytes)
            yield from self._sums()

    def _sums(self) -> Iterator[Metric]:
        books = self._books
        estimated: Counter[str] = Counter()
        for series, total in books.totals.items():
            estimated[series.model] += total.estimated_cost_picodollars
        late = sum(total.late_cost_picodollars for total in books.totals.values())
        cost = {model: dollars(amount) for model, amount in estimated.items()}
        text = "Cost of usage that the provider did not report."
        yield counter(names.ESTIMATED_COST, text, cost, names.MODEL)
        text = "Tokens that came without a price."
        yield counter(names.UNPRICED_TOKENS, text, books.unpriced_tokens, names.MODEL)
        text = "Tokens whose cost is still withheld."
        yield gauge(names.UNPRICED_PENDING, text, books.pending_tokens, names.MODEL)
        text = "Cost that arrived after its own day had ended."
        yield counter(names.LATE_COST, text, dollars(late))
        text = "Events from the future, booked at receipt."
        yield counter(names.TIME_ADJUSTED, text, books.time_adjusted)
        overflowed = {label: books.overflowed[label] for label in names.RFM}
        text = "Events beyond a label's cap, under `other`."
        yield counter(names.LABEL_OVERFLOW, text, overflowed, "label")
