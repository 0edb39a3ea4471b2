"""What the sources of evidence said when last asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(frozen=True)
class Unknown:
    """A source that gave no usable answer, and why."""

    url: str
    reason: str


@dataclass(frozen=True)
class AlertmanagerSeen:
    """Entries that an active or suppressed alert asks for."""

    url: str
    active: frozenset[str]


@dataclass(frozen=True)
class PrometheusSeen:
    """The ladder's alert rules and llm_degradation_wanted.

    evaluated_at: Unix time of the oldest evaluation among those rules and fresh samples.
    unhealthy: kinds (level or tuning names) whose rule is not evaluated well, and why.
    zero, wanted: entries whose fresh llm_degradation_wanted is 0, is 1.
    """

    url: str
    firing: frozenset[str]
    evaluated_at: float
    unhealthy: dict[str, str]
    zero: frozenset[str]
    wanted: frozenset[str]


@dataclass(frozen=True)
class ExporterSeen:
    """An exporter's own figures of today, in exact USD; day_start in Unix seconds.

    writable: whether it can book; if it cannot, its figures are only a lower bound.
    """

    url: str
    day_start: float
    spend: Decimal
    written_off: Decimal
    granted: Decimal
    limit: Decimal
    writable: bool = True


@dataclass(frozen=True)
class Seen:
    """One round of asking everyone; a source that is not configured is not in its list."""

    alertmanagers: Sequence[AlertmanagerSeen | Unknown] = field(default_factory=tuple)
    prometheuses: Sequence[PrometheusSeen | Unknown] = field(default_factory=tuple)
    exporters: Sequence[ExporterSeen | Unknown] = field(default_factory=tuple)

    def claimed(self) -> set[str]:
        """Entries that some API says are asked for."""
        found: set[str] = set()
        for manager in self.alertmanagers:
            found |= manager.active if isinstance(manager, AlertmanagerSeen) else set()
        for prometheus in self.prometheuses:
            found |= prometheus.firing if isinstance(prometheus, PrometheusSeen) else set()
        return found

    def unknown(self) -> list[Unknown]:
        """Alertmanagers and Prometheuses that gave no answer."""
        both = (*self.alertmanagers, *self.prometheuses)
        return [source for source in both if isinstance(source, Unknown)]

    def answered_prometheuses(self) -> list[PrometheusSeen]:
        return [seen for seen in self.prometheuses if isinstance(seen, PrometheusSeen)]

    def answered_exporters(self) -> list[ExporterSeen]:
        return [seen for seen in self.exporters if isinstance(seen, ExporterSeen)]

    def all_exporters_answered(self) -> bool:
        """Whether every exporter answered and can book what it is told."""
        able = [seen for seen in self.answered_exporters() if seen.writable]
        return bool(self.exporters) and len(able) == len(self.exporters)

    def earliest_day(self) -> float | None:
        """The start of the budget day that every exporter has reached; None unless all say."""
        if not self.all_exporters_answered():
            return None
        return min(exporter.day_start for exporter in self.answered_exporters())

    def latest_day(self) -> float | None:
        """The start of the latest budget day that any exporter has reached."""
        return max((exporter.day_start for exporter in self.answered_exporters()), default=None)

    def zero(self) -> set[str]:
        """Entries that every Prometheus proves unwanted."""
        sets = [seen.zero for seen in self.answered_prometheuses()]
        return set(frozenset.intersection(*sets)) if sets else set()

    def wanted(self) -> set[str]:
        """Entries that any Prometheus proves wanted."""
        return set().union(*(seen.wanted for seen in self.answered_prometheuses()))

    def exhausted(self) -> bool:
        """Whether the exporters' own figures reach the limit; those missing count as nothing."""
        known = self.answered_exporters()
        if not known:
            return False
        spend = sum((seen.spend - seen.written_off for seen in known), Decimal(0))
        granted = sum((seen.granted for seen in known), Decimal(0))
        return spend >= min(seen.limit for seen in known) + granted
