"""Counters of what arrived, and the calls' durations: direct instrumentation, since the start."""

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from common import names
from exporter.event import Reason, UsageEvent
from exporter.ledger.booking import Outcome

SOURCES = ("http", "log")
DURATION_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class IntakeMetrics:
    """Every counter exists from the start at 0."""

    def __init__(self, registry: CollectorRegistry, max_models: int) -> None:
        """max_models: distinct values of the model label, beyond which durations are `other`."""
        self._models: set[str] = set()
        self.max_models = max_models

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, ["source", *labels], registry=registry)

        self.accepted = counter(names.INGEST_ACCEPTED, "Events booked.")
        self.duplicates = counter(names.INGEST_DUPLICATES, "Events that were booked before.")
        self.conflicts = counter(names.INGEST_CONFLICTS, "Known ids with different content.")
        self.rejected = counter(names.INGEST_REJECTED, "Events refused.", "reason")
        self.duration = Histogram(
            names.REQUEST_DURATION,
            "Duration of a call to the provider.",
            [names.MODEL],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self.log_lag = Gauge(
            names.LOG_LAG, "Bytes of followed logs that are not booked yet.", registry=registry
        )
        for source in SOURCES:
            for family in (self.accepted, self.duplicates, self.conflicts):
                family.labels(source)
            for reason in get_args(Reason):
                self.rejected.labels(source, reason)

    def reject(self, source: str, reason: Reason) -> None:
        """Count one refused event."""
        self.rejected.labels(source, reason).inc()
        if reason == "conflict":
            self.conflicts.labels(source).inc()

    def booked(self, source: str, events: list[UsageEvent], outcome: Outcome) -> None:
        """Count what the ledger made of a submission."""
        self.accepted.labels(source).inc(len(outcome.accepted))
        self.duplicates.labels(source).inc(len(outcome.duplicates))
        for _, error in outcome.rejected:
            self.reject(source, error.reason)
        for index in outcome.accepted:
            event = events[index]
            if event.duration_seconds is not None:
                self.duration.labels(self._model(event.model)).observe(event.duration_seconds)

    def _model(self, model: str) -> str:
        if len(self._models) < self.max_models:
            self._models.add(model)
        return model if model in self._models else names.OTHER
