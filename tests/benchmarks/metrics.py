"""Measure /metrics and start-up with 20,000 series, and with 2,000 of two years.

Ours, and prometheus_client's own renderer.
"""

import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from common import names
from exporter.config import Config
from exporter.ledger.books import COLUMNS, AccountKey, Amounts, Books, Series
from exporter.ledger.ledger import Ledger
from exporter.ledger.retention import tidy
from exporter.ledger.schema import open_ledger
from exporter.metrics.page import Page
from tests.support.clock import ManualClock
from tests.support.exporters import NOON

SERIES, DAYS = 20_000, 40
PAIRS, YEARS_DAYS = 2_000, 730
TODAY = date(2027, 1, 15)


def series(number: int) -> Series:
    return Series(f"roaster-{number // 20}", f"field-{number % 20}", "deepseek-chat")


def amounts(number: int) -> Amounts:
    return Amounts(success=5, input_tokens=1000, output_tokens=99, cost_picodollars=10**9 + number)


def book(books: Books, numbers: range) -> None:
    books.book((AccountKey(TODAY, series(number), 1), amounts(number)) for number in numbers)


class Theirs(Collector):
    """The same families by prometheus_client, fresh at each scrape."""

    def __init__(self, books: Books) -> None:
        self._books = books

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(names.REQUESTS, "requests", labels=[*names.RFM, "outcome"])
        tokens = CounterMetricFamily(names.TOKENS, "tokens", labels=[*names.RFM, "type"])
        cost = CounterMetricFamily(names.COST, "cost", labels=names.RFM)
        start = GaugeMetricFamily(names.COST_AT_DAY_START, "start", labels=names.RFM)
        for key, total in self._books.totals.items():
            requests.add_metric([*key, "success"], total.success)
            for kind in names.TOKEN_TYPES:
                tokens.add_metric([*key, kind], getattr(total, f"{kind}_tokens"))
            cost.add_metric(key, total.cost_picodollars / 1e12)
            start.add_metric(key, 0)
        yield from (requests, tokens, cost, start)


def seconds(action: Callable[[], object], times: int = 5) -> float:
    """The best of several runs."""
    best = float("inf")
    for _ in range(times):
        begin = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - begin)
    return best


def show(what: str, took: float) -> None:
    print(f"  {what:<58}{took * 1000:>9.1f} ms", flush=True)


def pages(folder: Path) -> None:
    ledger = Ledger(folder / "pages.sqlite", Config(), ManualClock(NOON))
    books = ledger.books
    book(books, range(SERIES))
    page = fresh(ledger)
    size = len(page.series(books, TODAY))
    print(f"/metrics, {SERIES:,} series, {size / 1e6:.1f} MB")
    show("cold: every line formatted", seconds(lambda: fresh(ledger).series(books, TODAY), 1))
    show("cold: again, all of it changed", seconds(lambda: changed(books, page, SERIES), 3))
    show("warm: nothing changed", seconds(lambda: page.series(books, TODAY)))
    show("1 % of the series changed", seconds(lambda: changed(books, page, SERIES // 100)))
    registry = CollectorRegistry()
    registry.register(Theirs(books))
    show("prometheus_client, the same families", seconds(lambda: generate_latest(registry), 3))
    ledger.close()


def whole_page(folder: Path) -> None:
    """With past days in it whose slots all have cost."""
    clock = ManualClock(NOON - 29 * 86_400)
    ledger = Ledger(folder / "whole.sqlite", Config(), clock)
    clock.set(NOON)
    today = ledger.today()
    past = (today.date - timedelta(back) for back in range(1, 29))
    ledger.books.book([], costs=Counter({(day, n): 10**9 + n for day in past for n in range(288)}))
    registry = CollectorRegistry()
    page = Page(ledger, Config, registry)

    def scrape(count: int) -> bytes:
        book(ledger.books, range(count))
        return page.render(today)

    text = scrape(PAIRS).decode()
    print(f"/metrics, {PAIRS:,} series, {text.count(names.HISTORY_SPEND)} lines of history")
    show("the whole page, all of it changed", seconds(lambda: scrape(PAIRS)))
    show("the whole page, nothing changed", seconds(lambda: scrape(0)))
    ledger.close()


def fresh(ledger: Ledger) -> Page:
    return Page(ledger, Config, CollectorRegistry())


def changed(books: Books, page: Page, count: int) -> None:
    book(books, range(count))
    page.series(books, TODAY)


def start_up(folder: Path, series_count: int, days: int) -> None:
    path = folder / f"{days}.sqlite"
    db = open_ledger(path)
    db.execute("BEGIN")
    marks = ", ".join("?" * (5 + len(COLUMNS)))
    for back in range(days):
        day = (TODAY - timedelta(days=back)).isoformat()
        rows = ((day, *series(n), 0, *amounts(n).values()) for n in range(series_count))
        db.executemany(f"INSERT INTO accounts VALUES ({marks})", rows)
    db.execute("COMMIT")
    print(f"start-up, {series_count:,} series x {days} days, {path.stat().st_size / 1e6:.0f} MB")

    def start() -> None:
        Ledger(path, Config(), ManualClock(NOON)).close()

    show("the ledger read", seconds(start, 2))
    pieces = [0.0]
    while tidied(db):
        pieces.append(seconds(lambda: tidied(db), 1))
    db.close()
    show("old days summed up: the longest transaction", max(pieces))
    show("the ledger read after that", seconds(start, 2))


def tidied(db: sqlite3.Connection) -> bool:
    with db:
        db.execute("BEGIN IMMEDIATE")
        return tidy(db, TODAY, None)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        pages(Path(temporary))
        whole_page(Path(temporary))
        start_up(Path(temporary), SERIES, DAYS)
        start_up(Path(temporary), PAIRS, YEARS_DAYS)
