"""What the sources answered when last asked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from alertmanager.receiver.evidence.ruler import Ruler
from alertmanager.receiver.state import name_of
from common.budget_status import BudgetFigures, together
from common.names import RULES_DAY

# Why something is not lowered; docs/degradation.md explains each.
HoldReason = Literal[
    "source_unknown", "rule_unknown", "wanted", "evidence_missing", "exporter_unknown", "hold"
]


@dataclass(frozen=True)
class NoAnswer:
    """A source that gave no usable answer, and why."""

    url: str
    reason: str


@dataclass(frozen=True)
class AlertmanagerAnswer:
    """claimed: entries that an active or suppressed alert asks for."""

    url: str
    claimed: frozenset[str]


@dataclass(frozen=True)
class PrometheusAnswer:
    """The ladder's alert rules and llm_degradation_wanted.

    claimed: entries that a firing alert asks for.
    evaluated_at: Unix time of the oldest evaluation among those rules and fresh samples.
    unhealthy: names of levels and tunings whose rule is not evaluated well, and why.
    not_wanted, wanted: entries whose fresh llm_degradation_wanted is 0, is 1.
    ruler: how late its records are, of which day, and what they say of the ledgers.
    """

    url: str
    claimed: frozenset[str]
    evaluated_at: float
    unhealthy: dict[str, str]
    not_wanted: frozenset[str]
    wanted: frozenset[str]
    ruler: Ruler = field(default_factory=Ruler)

    def is_of(self, day: float) -> bool:
        """Whether its records are of that budget day, or a later one."""
        return self.ruler.day_start is not None and self.ruler.day_start >= day

    def has_settled_on(self, day: float) -> bool:
        """Whether none of its records can be of the day before."""
        return self.is_of(day) and self.evaluated_at > day + self.ruler.settling


@dataclass(frozen=True)
class ExporterAnswer:
    """An exporter's own figures of today; day_start in Unix seconds.

    writable: whether it can book; if it cannot, its figures are only a lower bound.
    ledger: its id. calendar: its zone and when its days begin, for people.
    """

    url: str
    day_start: float
    figures: BudgetFigures
    writable: bool = True
    ledger: str = ""
    calendar: str = ""


@dataclass(frozen=True)
class Observations:
    """One round of asking every source; one that is not configured is not in its list."""

    alertmanagers: Sequence[AlertmanagerAnswer | NoAnswer] = field(default_factory=tuple)
    prometheuses: Sequence[PrometheusAnswer | NoAnswer] = field(default_factory=tuple)
    exporters: Sequence[ExporterAnswer | NoAnswer] = field(default_factory=tuple)

    def claimed(self) -> set[str]:
        """Entries that some API says are asked for."""
        answers = (*self.alertmanagers, *self.prometheuses)
        return set().union(*(one.claimed for one in answers if not isinstance(one, NoAnswer)))

    def unanswered(self) -> list[NoAnswer]:
        """Alertmanagers and Prometheuses that gave no answer."""
        answers = (*self.alertmanagers, *self.prometheuses)
        return [one for one in answers if isinstance(one, NoAnswer)]

    def answered_prometheuses(self) -> list[PrometheusAnswer]:
        return [one for one in self.prometheuses if isinstance(one, PrometheusAnswer)]

    def answered_exporters(self) -> list[ExporterAnswer]:
        return [one for one in self.exporters if isinstance(one, ExporterAnswer)]

    def all_exporters_answered(self) -> bool:
        """Whether every exporter answered and can book what it is told."""
        able = [exporter for exporter in self.answered_exporters() if exporter.writable]
        return bool(able) and len(able) == len(self.exporters)

    def earliest_day(self) -> float | None:
        """The start of the budget day that every exporter has reached; None unless all answer."""
        if not self.all_exporters_answered():
            return None
        return min(exporter.day_start for exporter in self.answered_exporters())

    def latest_day(self) -> float | None:
        """The start of the latest budget day that any exporter has reached."""
        return max((exporter.day_start for exporter in self.answered_exporters()), default=None)

    def days(self) -> list[float | None]:
        """The start of the budget day that each Prometheus and exporter is on; None: unknown."""
        days = [getattr(one, "day_start", None) for one in self.exporters]
        rulers = [getattr(one, "ruler", Ruler()) for one in self.prometheuses]
        return [*days, *(ruler.day_start for ruler in rulers)]

    def live_ledgers(self) -> set[str]:
        """Ledgers that answer, or are fresh in the rules of a Prometheus."""
        live = (answer.ruler.live for answer in self.answered_prometheuses())
        return {exporter.ledger for exporter in self.answered_exporters()}.union(*live)

    def evaluated_at(self) -> float:
        """Unix time of the oldest evaluation that counts; infinite when nobody evaluates."""
        times = (answer.evaluated_at for answer in self.answered_prometheuses())
        return min(times, default=math.inf)

    def slowest_ruler(self) -> Ruler:
        """Whose records need the longest hold."""
        rulers = (answer.ruler for answer in self.answered_prometheuses())
        return max(rulers, key=lambda ruler: ruler.least_hold, default=Ruler())

    def not_wanted(self) -> set[str]:
        """Entries that every Prometheus proves unwanted."""
        sets = [prometheus.not_wanted for prometheus in self.answered_prometheuses()]
        return set(frozenset.intersection(*sets)) if sets else set()

    def wanted(self) -> set[str]:
        """Entries that any Prometheus proves wanted."""
        return set().union(*(prometheus.wanted for prometheus in self.answered_prometheuses()))

    def wanted_today(self) -> set[str]:
        """Entries that a Prometheus wants, once its records have settled on the exporters' day."""
        day = self.earliest_day()
        answers = [] if day is None else self.answered_prometheuses()
        return set().union(*(one.wanted for one in answers if one.has_settled_on(day or 0.0)))

    def blockers(self, entries: set[str]) -> list[tuple[HoldReason, str]]:
        """What keeps entries from being lowered, however long it lasts: reasons and details."""
        found: list[tuple[HoldReason, str]] = [
            ("source_unknown", f"{source.url}: {source.reason}") for source in self.unanswered()
        ]
        for one in self.exporters:
            if isinstance(one, NoAnswer) or not one.writable:
                reason = getattr(one, "reason", "cannot write its ledger")
                found.append(("exporter_unknown", f"{one.url}: {reason}"))
        return found + self._rule_blockers(entries) if self.prometheuses else found

    def _rule_blockers(self, entries: set[str]) -> list[tuple[HoldReason, str]]:
        day, found = self.earliest_day(), list[tuple[HoldReason, str]]()
        names = {name_of(entry) for entry in entries}
        for answer in self.answered_prometheuses():
            problems = [answer.unhealthy[name] for name in sorted(names & set(answer.unhealthy))]
            found += [("rule_unknown", f"{answer.url}: {problem}") for problem in problems]
            if day is not None and not answer.is_of(day):
                detail = f"{answer.url}: no fresh {RULES_DAY} of the exporters' day"
                found.append(("evidence_missing", detail))
        wanted = self.wanted()
        found += [("wanted", f"the rules want {entry}") for entry in sorted(entries & wanted)]
        for entry in sorted(entries - self.not_wanted() - wanted):
            found.append(("evidence_missing", f"no fresh llm_degradation_wanted for {entry}"))
        return found

    def disagreement(self) -> str | None:
        """A sentence when the exporters have different limits or calendars: they share a budget."""
        budgets: dict[tuple[Decimal, str], str] = {}
        for one in self.answered_exporters():
            budgets.setdefault((one.figures.limit_usd, one.calendar), one.url)
        if len(budgets) < 2:
            return None
        each = [f"{url} has ${usd:f} a day, {days}" for (usd, days), url in budgets.items()]
        return f"the exporters share one budget and differ: {'; '.join(each[:5])}"

    def exhausted(self) -> bool:
        """Whether the exporters' own figures reach the limit; those missing count as nothing."""
        known = self.answered_exporters()
        return bool(known) and together([seen.figures for seen in known]).exhausted
