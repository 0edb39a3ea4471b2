"""The whole /metrics page."""

import threading

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest

from exporter.budget.calendars import Day
from exporter.metrics.ledger_text import LedgerText

disable_created_metrics()  # type: ignore[no-untyped-call]

# Prometheus 3 refuses a page without a content type; this one every version reads.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Page:
    """Ledger families first, then the registry's."""

    def __init__(self, ledger_text: LedgerText, registry: CollectorRegistry) -> None:
        self._ledger_text = ledger_text
        self._registry = registry
        self._lock = threading.Lock()
        self.day: Day | None = None  # of the page under way

    def render(self, today: Day) -> bytes:
        """The page as of one budget day, also when it turns meanwhile."""
        with self._lock:
            self.day = today
            return self._ledger_text.render(today.date).encode() + generate_latest(self._registry)
