"""The whole /metrics page: the ledger's families first, then the registry's."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import Metric

from common import names
from common.money import usd
from exporter.budget.calendars import BudgetDay
from exporter.config import Config
from exporter.event import OUTCOMES
from exporter.ledger.books import Amounts, Books, Series
from exporter.ledger.ledger import Ledger
from exporter.metrics import families

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

    def __init__(
        self, ledger: Ledger, config: Callable[[], Config], registry: CollectorRegistry
    ) -> None:
        """config: gives budget.yml as it is now. registry: takes this page in, and all else."""
        self._ledger, self._config, self._registry = ledger, config, registry
        self._text = LedgerText(ledger.books)
        self._day: list[Metric] = []
        self._lock = threading.Lock()
        registry.register(self)

    def render(self, today: BudgetDay) -> bytes:
        """The page as of one budget day, also when it turns meanwhile."""
        books = self._ledger.books
        with self._lock:
            with books.lock:  # text and day of one instant
                text, spend = self._text.render(today.date), self._text.spend
                self._day = list(families.day(books, today, spend, self._config()))
            return text.encode() + generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """What is no series of its own."""
        yield from self._day
        yield from families.settings(self._config(), self._ledger.prices_in_force())
        with self._ledger.books.lock:
            yield from families.health(self._ledger.books)


class LedgerText:
    """Renders the families of Books, cached per series: 20,000 series take milliseconds."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._text: dict[str, dict[Series, str]] = {name: {} for name in _FAMILIES}
        self._spend = Counter[Series]()

    def render(self, today: date) -> str:
        """Total and day start as of one instant; call it with the books' lock held."""
        spend = self._books.spend_of(today)
        moved = {s for s in self._spend.keys() | spend.keys() if self._spend[s] != spend[s]}
        for series in sorted(self._books.changed | moved):
            pairs = zip(names.RFM, series, strict=True)
            labels = ",".join(f'{name}="{escape(value)}"' for name, value in pairs)
            lines = dict.fromkeys(_FAMILIES, "")
            for family, more, value in _samples(self._books.totals[series], spend[series]):
                lines[family] += f"{family}{{{labels}{more}}} {value}\n"
            for family, text in lines.items():
                self._text[family][series] = text
        self._books.changed.clear()
        self._spend = spend
        pieces: list[str] = []
        for name, (kind, about) in _FAMILIES.items():
            pieces += (f"# HELP {name} {about}\n# TYPE {name} {kind}\n", *self._text[name].values())
        return "".join(pieces)

    @property
    def spend(self) -> int:
        """Pico-dollars of the day rendered last."""
        return self._spend.total()


def _samples(total: Amounts, spend: int) -> Iterator[tuple[str, str, int | str]]:
    """A series' samples: the family, what its labels add to the series', the value."""
    for outcome in OUTCOMES:
        if count := getattr(total, outcome):
            yield names.REQUESTS, f',outcome="{outcome}"', count
    for kind in names.TOKEN_TYPES:
        yield names.TOKENS, f',type="{kind}"', getattr(total, f"{kind}_tokens")
    yield names.COST, "", usd(total.cost_picodollars)
    yield names.COST_AT_DAY_START, "", usd(total.cost_picodollars - spend)
    if total.batch_items or total.batch_slots:
        yield names.BATCH_ITEMS, "", total.batch_items
        yield names.BATCH_SLOTS, "", total.batch_slots


def escape(value: str) -> str:
    """A label value in the text exposition format."""
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
