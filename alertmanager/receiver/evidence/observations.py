"""What the sources answered when last asked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from alertmanager.receiver.ladder.ladder import name_of
from common.budget_status import BudgetFigures, together
from common.names import EVIDENCE_EPOCH, RULES_DAY

EVALUATIONS = 3  # what is younger than so many evaluations is fresh
SLACK_SECONDS = 1.0  # beyond it, for the way and for rounding
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
class Ruler:
    """How a Prometheus evaluates the ladder's rules, and what their fresh records say; seconds."""

    interval: float = 0.0  # between evaluations, of the slowest group
    delay: float = 0.0  # of --ruler-delay
    lag: float | None = None  # of the newest record behind the last evaluation; None: no records
    day_start: float | None = None  # of the budget day that the records are of, Unix time
    live: frozenset[str] = frozenset()  # ledgers that were scraped just now
    spent: frozenset[str] = frozenset()  # ledgers that the day's spend holds
    scrapes: float = 0.0  # of three scrapes of an exporter, as measured; 0: not known
    epochs: Mapping[str, int] = field(default_factory=dict)  # newest grant or reset, by ledger
    epochs_at: float = 0.0  # when these were recorded, Unix time
    months: Mapping[str, float] = field(default_factory=dict)  # USD, by "2026-11/ledger"

    @property
    def settling(self) -> float:
        """Seconds after which its records know of what happened before."""
        return EVALUATIONS * self.interval + self.delay

    @property
    def least_hold(self) -> float:
        """Seconds after which a ledger that vanished without a word has been noticed."""
        return max(EVALUATIONS * self.interval, self.scrapes) + self.delay

    def problem(self) -> str | None:
        """A sentence when its records come later than the flag allows."""
        if self.lag is None or self.lag <= self.interval + self.delay + SLACK_SECONDS:
            return None
        return (
            f"its records lie {self.lag:.0f} s behind its evaluations, more than the interval of "
            f"{self.interval:g} s and --ruler-delay {self.delay:g}: if rule_query_offset or the "
            "store delays them, raise that flag"
        )


@dataclass(frozen=True)
class PrometheusAnswer:
    """The ladder's alert rules and llm_degradation_wanted."""

    url: str
    claimed: frozenset[str]  # entries that a firing alert asks for
    evaluated_at: float  # Unix time of the oldest evaluation among rules and fresh samples
    unhealthy: dict[str, str]  # levels and tunings whose rule is not evaluated well, and why
    not_wanted: frozenset[str]  # entries whose fresh llm_degradation_wanted is 0
    wanted: frozenset[str]  # and is 1
    ruler: Ruler = field(default_factory=Ruler)

    def is_of(self, day: float) -> bool:
        """Whether its records are of that budget day, or a later one."""
        return self.ruler.day_start is not None and self.ruler.day_start >= day


@dataclass(frozen=True)
class ExporterAnswer:
    """An exporter's own figures of today."""

    url: str
    day_start: float  # Unix seconds
    figures: BudgetFigures
    writable: bool = True  # whether it can book; else its figures are only a lower bound
    ledger: str = ""  # its id
    calendar: str = ""  # its zone and when its days begin, for people
    epoch: int = 0  # the number of its ledger's newest grant or reset


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

    def rulers(self) -> list[Ruler]:
        return [one.ruler for one in self.answered_prometheuses()]

    def all_exporters_answered(self) -> bool:
        """Whether every exporter answered and can book what it is told."""
        able = [exporter for exporter in self.answered_exporters() if exporter.writable]
        return bool(able) and len(able) == len(self.exporters)

    def months(self) -> set[str]:
        """The months that the exporters' budgets are in."""
        return {one.figures.month.month for one in self.answered_exporters() if one.figures.month}

    def month_known(self) -> set[str]:
        """The "month/ledger" whose spend every Prometheus knows, or an exporter answers for."""
        known = [set(ruler.months) for ruler in self.rulers()]
        months = [one.figures.month for one in self.answered_exporters() if one.figures.month]
        carried = {f"{one.month}/{gone}" for one in months for gone in one.carried_usd}
        return carried.union(set.intersection(*known) if known else ())

    def earliest_day(self) -> float | None:
        """The start of the budget day that every exporter has reached; None unless all answer."""
        days = [exporter.day_start for exporter in self.answered_exporters()]
        return min(days) if self.all_exporters_answered() else None

    def latest_day(self) -> float | None:
        """The start of the latest budget day that any exporter has reached."""
        return max((exporter.day_start for exporter in self.answered_exporters()), default=None)

    def days(self) -> list[float | None]:
        """The start of the budget day that each Prometheus and exporter is on; None: unknown."""
        days = [exporter.day_start for exporter in self.answered_exporters()]
        known = [*days, *(ruler.day_start for ruler in self.rulers())]
        return known + [None] * (len(self.prometheuses) + len(self.exporters) - len(known))

    def live_ledgers(self) -> set[str]:
        """Ledgers that answer, or are fresh in the rules of a Prometheus."""
        answering = {exporter.ledger for exporter in self.answered_exporters()}
        return answering.union(*(ruler.live for ruler in self.rulers()))

    def evaluated_at(self) -> float:
        """Unix time of the oldest evaluation that counts; infinite when nobody evaluates."""
        return min((one.evaluated_at for one in self.answered_prometheuses()), default=math.inf)

    def slowest_ruler(self) -> Ruler:
        """Whose records need the longest hold."""
        return max(self.rulers(), key=lambda ruler: ruler.least_hold, default=Ruler())

    def not_wanted(self) -> set[str]:
        """Entries that every Prometheus proves unwanted."""
        sets = [set(prometheus.not_wanted) for prometheus in self.answered_prometheuses()]
        return set.intersection(*sets) if sets else set()

    def wanted(self) -> set[str]:
        """Entries that any Prometheus proves wanted."""
        return set().union(*(prometheus.wanted for prometheus in self.answered_prometheuses()))

    def asked_by_rules(self) -> set[str]:
        """Entries that a Prometheus' own rules want, or fire for; an Alertmanager may be behind."""
        return self.wanted().union(*(one.claimed for one in self.answered_prometheuses()))

    def epochs(self) -> dict[str, int]:
        """By ledger the newest grant or reset that the records of every Prometheus know of."""
        known = [ruler.epochs for ruler in self.rulers()]
        common = set(known[0]).intersection(*known) if known else set()
        return {ledger: min(one[ledger] for one in known) for ledger in common}

    def wanted_today(self) -> set[str]:
        """Entries that a Prometheus wants, once none of its records can be of the day before."""
        if (day := self.earliest_day()) is None:
            return set()
        answers = [one for one in self.answered_prometheuses() if one.is_of(day)]
        settled = [one for one in answers if one.evaluated_at > day + one.ruler.settling]
        return set().union(*(one.wanted for one in settled))

    def blockers(self, entries: set[str]) -> list[tuple[HoldReason, str]]:
        """What keeps entries from being lowered, however long it lasts: reasons and details."""
        found: list[tuple[HoldReason, str]] = [
            ("source_unknown", f"{source.url}: {source.reason}") for source in self.unanswered()
        ]
        for one in self.exporters:
            if isinstance(one, NoAnswer) or not one.writable:
                reason = getattr(one, "reason", "cannot write its ledger")
                found.append(("exporter_unknown", f"{one.url}: {reason}"))
        if not self.prometheuses:
            return found
        day, names = self.earliest_day(), {name_of(entry) for entry in entries}
        for answer in self.answered_prometheuses():
            problems = [answer.unhealthy[name] for name in sorted(names & set(answer.unhealthy))]
            found += [("rule_unknown", f"{answer.url}: {problem}") for problem in problems]
            missing = [
                f"{EVIDENCE_EPOCH} of {one.ledger}'s newest grant"
                for one in self.answered_exporters()
                if answer.ruler.epochs.get(one.ledger, 0) < one.epoch
            ]
            if day is not None and not answer.is_of(day):
                missing.append(f"{RULES_DAY} of the exporters' day")
            found += [
                ("evidence_missing", f"{answer.url}: no fresh {record}") for record in missing
            ]
        wanted = self.wanted()
        found += [("wanted", f"the rules want {entry}") for entry in sorted(entries & wanted)]
        for entry in sorted(entries - self.not_wanted() - wanted):
            found.append(("evidence_missing", f"no fresh llm_degradation_wanted for {entry}"))
        return found

    def disagreement(self) -> str | None:
        """A sentence when the exporters have different limits or calendars: they share a budget."""
        budgets: dict[tuple[Decimal, Decimal | None, str], str] = {}
        for one in self.answered_exporters():
            month = one.figures.month.limit_usd if one.figures.month else None
            budgets.setdefault((one.figures.limit_usd, month, one.calendar), one.url)
        if len(budgets) < 2:
            return None
        each = [
            f"{url} has ${usd:f} a day{f' and ${month:f} a month' if month else ''}, {days}"
            for (usd, month, days), url in budgets.items()
        ]
        return f"the exporters share one budget and differ: {'; '.join(each[:5])}"

    def exhausted(self) -> bool:
        """Whether the exporters' own figures reach the limit; those missing count as nothing."""
        known = self.answered_exporters()
        return bool(known) and together([seen.figures for seen in known]).exhausted
