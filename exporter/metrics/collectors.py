"""Budget, limits, prices and the ledger's health: fresh families at each scrape."""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from common import names
from common.money import PICODOLLARS_PER_USD
from exporter.budget.calendars import Day
from exporter.config import Config
from exporter.ledger.books import Adjustments
from exporter.ledger.ledger import Ledger


def dollars(picodollars: int) -> float:
    """The nearest float of an exact amount: for publishing only, nothing is computed with it."""
    return picodollars / PICODOLLARS_PER_USD


def gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    """A gauge without labels."""
    return GaugeMetricFamily(name, text, value=value)


class BudgetCollector(Collector):
    """budget.yml's figures, today's adjustments and the day's bounds."""

    def __init__(
        self, config: Callable[[], Config], ledger: Ledger, today: Callable[[], Day]
    ) -> None:
        """today: the page's day, so that limit and spend are of the same one."""
        self._config = config
        self._ledger = ledger
        self._today = today

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        budget = self._config().budget
        today = self._today()
        adjusted = self._ledger.books.adjustments.get(today.date, Adjustments())
        yield gauge(names.DAILY_LIMIT, "The day's budget in USD.", float(budget.daily_limit_usd))
        yield gauge(names.RESERVE, "Kept out of allocations, in USD.", float(budget.reserve_usd))
        yield gauge(names.GRANTED, "Added to today's budget, in USD.", dollars(adjusted.granted))
        yield gauge(
            names.WRITTEN_OFF, "Today's spend written off, in USD.", dollars(adjusted.written_off)
        )
        yield gauge(names.DAY_START, "When the budget day began, Unix seconds.", today.start)
        yield gauge(names.DAY_END, "When the budget day ends, Unix seconds.", today.end)
        caps = GaugeMetricFamily(
            names.ROASTER_LIMIT, "A roaster's own daily cap in USD.", labels=[names.ROASTER]
        )
        for roaster, amount in budget.roasters.items():
            caps.add_metric([roaster], float(amount))
        yield caps


class LimitsCollector(Collector):
    """The provider's request limits and the prices in force."""

    def __init__(self, config: Callable[[], Config], ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        config = self._config()
        limits = config.rate_limits
        family = GaugeMetricFamily(
            names.RATE_LIMIT, "Requests allowed in a rolling window.", labels=["window", "scope"]
        )
        for window in ("minute", "hour", "day"):
            family.add_metric([window, limits.scope], getattr(limits, window))
        yield family
        prices = GaugeMetricFamily(
            names.PRICE, "Price in force, USD per million tokens.", labels=[names.MODEL, "type"]
        )
        for model, price in self._ledger.prices_in_force().items():
            for kind in names.TOKEN_TYPES:
                prices.add_metric([model, kind], dollars(getattr(price, kind) * 1_000_000))
        yield prices


class LedgerCollector(Collector):
    """The ledger's identity and health, and sums over its accounts."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        books = self._ledger.books
        with books.lock:
            info = GaugeMetricFamily(names.LEDGER_INFO, "The ledger's id.", labels=["ledger"])
            info.add_metric([books.ledger_id], 1)
            yield info
            writable = "Whether the last write of the ledger worked."
            yield gauge(names.LEDGER_WRITABLE, writable, books.writable)
            yield gauge(
                names.LEDGER_LAST_COMMIT,
                "When it was written last, Unix seconds.",
                books.last_commit,
            )
            yield gauge(names.LEDGER_SIZE, "Size of the database file.", books.size_bytes)
            yield from self._sums()

    def _sums(self) -> Iterator[Metric]:
        books = self._ledger.books
        estimated = CounterMetricFamily(
            names.ESTIMATED_COST,
            "Cost of usage that the provider did not report.",
            labels=["model"],
        )
        by_model: dict[str, int] = {}
        late = 0
        for (_, _, model), total in books.totals.items():
            by_model[model] = by_model.get(model, 0) + total.estimated_cost_picodollars
            late += total.late_cost_picodollars
        for model, cost in by_model.items():
            estimated.add_metric([model], dollars(cost))
        yield estimated
        unpriced = CounterMetricFamily(
            names.UNPRICED_TOKENS, "Tokens that came without a price.", labels=["model"]
        )
        for model, tokens in books.unpriced_tokens.items():
            unpriced.add_metric([model], tokens)
        yield unpriced
        pending = GaugeMetricFamily(
            names.UNPRICED_PENDING, "Tokens whose cost is still withheld.", labels=["model"]
        )
        for model, tokens in books.pending_tokens.items():
            pending.add_metric([model], tokens)
        yield pending
        text = "Cost that arrived after its own day had ended."
        yield CounterMetricFamily(names.LATE_COST, text, value=dollars(late))
        counters = self._ledger.counters
        text = "Events from the future, booked at receipt."
        yield CounterMetricFamily(names.TIME_ADJUSTED, text, value=counters.time_adjusted)
        overflow = CounterMetricFamily(
            names.LABEL_OVERFLOW, "Events beyond a label's cap, under `other`.", labels=["label"]
        )
        for label in names.RFM:
            overflow.add_metric([label], counters.overflowed.get(label, 0))
        yield overflow
