"""The whole /metrics page: the ledger's families first, then the registry's."""

import threading
from collections.abc import Iterator
from datetime import date

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest

from common import names
from common.money import usd
from exporter.budget.calendars import BudgetDay
from exporter.event import OUTCOMES
from exporter.ledger.books import Amounts, Books, Series
from exporter.metrics.collectors import BudgetCollector

disable_created_metrics()  # type: ignore[no-untyped-call]

# Prometheus 3 refuses a page without a content type; this one every version reads.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FAMILIES = {
    names.REQUESTS: ("counter", "Calls made or avoided, by outcome."),
    names.TOKENS: ("counter", "Tokens; the types are disjoint, their sum is all tokens."),
    names.COST: ("counter", "Cost in USD since the ledger began."),
    names.COST_AT_DAY_START: ("gauge", f"{names.COST} as it stood when the budget day began."),
    names.BATCH_ITEMS: ("counter", "Items sent in batches."),
    names.BATCH_SLOTS: ("counter", "Room for items in those batches."),
}


class Page:
    """Renders everything as of one budget day."""

    def __init__(self, books: Books, budget: BudgetCollector, registry: CollectorRegistry) -> None:
        """budget: one of the registry's collectors; it sees the ledger as the page's series do."""
        self._books = books
        self._ledger_text = LedgerText(books)
        self._budget = budget
        self._registry = registry
        self._lock = threading.Lock()

    def render(self, today: BudgetDay) -> bytes:
        """The page as of one budget day, also when it turns meanwhile."""
        with self._lock:
            with self._books.lock:
                text = self._ledger_text.render(today.date)
                self._budget.see(today, self._ledger_text.spend)
            return text.encode() + generate_latest(self._registry)


class LedgerText:
    """Renders the families of Books, cached per series: 20,000 series take milliseconds."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._text: dict[str, dict[Series, str]] = {name: {} for name in _FAMILIES}
        self._spend: dict[Series, int] = {}

    def render(self, today: date) -> str:
        """The families as of one instant: total and day start come from the same snapshot."""
        with self._books.lock:
            spend = self._books.spend_of(today)
            moved = {
                series
                for series in self._spend.keys() | spend.keys()
                if self._spend.get(series) != spend.get(series)
            }
            for series in sorted(self._books.changed | moved):
                for family, lines in _lines(series, self._books.totals[series], spend[series]):
                    self._text[family][series] = lines
            self._books.changed.clear()
            self._spend = spend
            return "".join(self._pieces())

    @property
    def spend(self) -> int:
        """Pico-dollars of the day rendered last."""
        return sum(self._spend.values())

    def _pieces(self) -> Iterator[str]:
        for name, (kind, text) in _FAMILIES.items():
            yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
            yield from self._text[name].values()


def _lines(series: Series, total: Amounts, spend: int) -> Iterator[tuple[str, str]]:
    """A series' lines by family; of the outcomes, those that occurred."""
    pairs = zip(names.RFM, series, strict=True)
    labels = ",".join(f'{name}="{escape(value)}"' for name, value in pairs)
    yield (
        names.REQUESTS,
        "".join(
            f'{names.REQUESTS}{{{labels},outcome="{outcome}"}} {count}\n'
            for outcome in OUTCOMES
            if (count := getattr(total, outcome))
        ),
    )
    yield (
        names.TOKENS,
        "".join(
            f'{names.TOKENS}{{{labels},type="{kind}"}} {getattr(total, f"{kind}_tokens")}\n'
            for kind in names.TOKEN_TYPES
        ),
    )
    values: dict[str, str | int] = {
        names.COST: usd(total.cost_picodollars),
        names.COST_AT_DAY_START: usd(total.cost_picodollars - spend),
    }
    if total.batch_items or total.batch_slots:
        values |= {names.BATCH_ITEMS: total.batch_items, names.BATCH_SLOTS: total.batch_slots}
    for name, value in values.items():
        yield name, f"{name}{{{labels}}} {value}\n"


def escape(value: str) -> str:
    """A label value in the text exposition format."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
