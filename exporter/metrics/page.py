"""The whole /metrics page."""

from datetime import date

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest

from exporter.metrics.ledger_text import LedgerText

disable_created_metrics()  # type: ignore[no-untyped-call]

# Prometheus 3 refuses a page without a content type; this one every version reads.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Page:
    """Ledger families first, then the registry's."""

    def __init__(self, ledger_text: LedgerText, registry: CollectorRegistry) -> None:
        self._ledger_text = ledger_text
        self._registry = registry

    def render(self, today: date) -> bytes:
        """The page as of today's budget day."""
        return self._ledger_text.render(today).encode() + generate_latest(self._registry)
