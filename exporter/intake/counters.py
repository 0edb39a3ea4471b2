"""Counters of what arrived, and the calls' durations: direct instrumentation, since the start."""

from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from common import names
from exporter.event import EventError, Reason, UsageEvent
from exporter.ledger.booking import SubmissionResult

SOURCES = ("http", "log")
DURATION_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
# What becomes of an event, and how it is counted.
COUNTERS = {
    "accepted": (names.INGEST_ACCEPTED, "Events booked."),
    "duplicate": (names.INGEST_DUPLICATES, "Events that were booked before."),
    "conflict": (names.INGEST_CONFLICTS, "Known ids with different content."),
}


class IntakeMetrics:
    """Every counter exists from the start at 0."""

    def __init__(self, registry: CollectorRegistry, max_models: int) -> None:
        """max_models: distinct values of the model label, beyond which durations are `other`."""
        self._models: set[str] = set()
        self.max_models = max_models
        counters = {
            what: Counter(name, text, ["source"], registry=registry)
            for what, (name, text) in COUNTERS.items()
        }
        labels = ["source", "reason"]
        rejected = Counter(names.INGEST_REJECTED, "Events refused.", labels, registry=registry)
        text = "Events refused of calls that succeeded, and so cost money."
        spent = Counter(names.INGEST_REJECTED_SUCCESSES, text, labels, registry=registry)
        self._spent = {(s, r): spent.labels(s, r) for s in SOURCES for r in get_args(Reason)}
        self._events = {(s, what): counters[what].labels(s) for s in SOURCES for what in counters}
        self._rejected = {(s, r): rejected.labels(s, r) for s in SOURCES for r in get_args(Reason)}
        self.rejected = rejected
        text = "Duration of a call to the provider."
        self._duration = Histogram(
            names.REQUEST_DURATION, text, [names.MODEL], buckets=DURATION_BUCKETS, registry=registry
        )
        text = "Bytes of followed logs that are not booked yet."
        self.log_lag = Gauge(names.LOG_LAG, text, registry=registry)
        text = "Followed logs of which something is not read."
        self.log_problems = Gauge(names.LOG_PROBLEMS, text, registry=registry)

    def booked(
        self,
        source: str,
        events: list[UsageEvent],
        result: SubmissionResult,
        refused: list[EventError],
    ) -> None:
        """Count what the ledger made of a submission, and what was refused before it."""
        self._events[source, "accepted"].inc(len(result.accepted))
        self._events[source, "duplicate"].inc(len(result.duplicates))
        for error in [*refused, *(error for _, error in result.rejected)]:
            self._rejected[source, error.reason].inc()
            self._spent[source, error.reason].inc(error.success)
            if error.reason == "conflict":
                self._events[source, "conflict"].inc()
        for index in result.accepted:
            event = events[index]
            if event.duration_seconds is not None:
                if len(self._models) < self.max_models:
                    self._models.add(event.model)
                model = event.model if event.model in self._models else names.OTHER
                self._duration.labels(model).observe(event.duration_seconds)
