"""The sources' JSON, as far as it is read, and what it means; what cannot be true is refused."""

import math
from datetime import datetime
from typing import Literal

from msgspec import Struct, field

from alertmanager.receiver.alerts import entry_of, requested_name, unix
from alertmanager.receiver.evidence.observations import ExporterAnswer, PrometheusAnswer
from alertmanager.receiver.evidence.ruler import (
    EVALUATIONS,
    SLACK_SECONDS,
    Ruler,
    peer_text,
    ruler_of,
)
from alertmanager.receiver.ladder.ladder import Ladder
from common.budget_status import BudgetFigures

AHEAD_SECONDS = 5.0  # so much may a source's clock be ahead of ours
MAX_INTERVAL_SECONDS = 3600.0  # of evaluation; evidence of a longer one would be fresh for hours


class AlertmanagerAlert(Struct):
    """One of /api/v2/alerts."""

    labels: dict[str, str]


class PrometheusAlert(Struct):
    """One of a rule's alerts."""

    labels: dict[str, str]
    state: str


class Rule(Struct, rename="camel"):
    """An alerting rule."""

    name: str
    health: str
    last_evaluation: datetime
    labels: dict[str, str] = field(default_factory=dict)
    alerts: list[PrometheusAlert] = field(default_factory=list)


class Group(Struct):
    """A rule group; interval in seconds."""

    interval: float
    rules: list[Rule]


class Sample(Struct):
    """One sample of a vector; its value is the sample's own time."""

    metric: dict[str, str]
    value: tuple[float, str]


class PrometheusData(Struct):
    """The data of /api/v1/rules, or of /api/v1/query."""

    groups: list[Group] = field(default_factory=list)
    result: list[Sample] = field(default_factory=list)
    next_page: str = field(name="groupNextToken", default="")


class PrometheusBody(Struct):
    """What a Prometheus answers. Thanos and others may leave something out and warn of it."""

    status: Literal["success"]
    data: PrometheusData
    warnings: list[str] | None = None
    infos: list[str] | None = None

    def __post_init__(self) -> None:
        missing = [*(self.warnings or ()), *(self.infos or ())]
        if self.data.next_page:
            missing.append("there are more pages")
        if missing:
            raise ValueError(f"it is perhaps not all: {missing[0]}")


class DayStart(Struct):
    """A budget day; start in Unix seconds; the calendar that it follows."""

    start: float
    timezone: str = ""
    day_starts_at: str = ""


class StatusAnswer(BudgetFigures, frozen=True, kw_only=True):
    """An exporter's /api/v1/status."""

    day: DayStart
    ledger: str
    writable: bool = True


def prometheus_answer(
    url: str, groups: list[Group], vector: list[Sample], ladder: Ladder, now: float, delay: float
) -> PrometheusAnswer:
    """What the two answers mean at a moment. Raises ValueError for what cannot be meant.

    delay: how many seconds the records may lie behind their evaluation (--ruler-delay).
    """
    rules = _ladder_rules(groups)
    claimed = {
        entry_of({**rule.labels, **alert.labels}, ladder)
        for rule, _ in rules
        for alert in rule.alerts
        if alert.state == "firing"
    }
    until = now + AHEAD_SECONDS
    names = {requested_name(rule.labels) for rule, _ in rules}
    missing = [name for name in ladder.automatic if name not in names]
    unhealthy = {name: f"no alert rule asks for {name}" for name in missing}
    for rule, interval in rules:
        if problem := _problem(rule, now - _freshness(interval), until):
            unhealthy[requested_name(rule.labels)] = problem
    interval = max(interval for _, interval in rules)
    fresh_after = now - _freshness(interval) - delay
    wanted: dict[str, set[str]] = {"0": set(), "1": set()}
    evaluated = [unix(rule.last_evaluation) for rule, _ in rules]
    for sample in vector:
        entry, (value, taken_at) = entry_of(sample.metric, ladder), _value_and_time(sample)
        if entry and fresh_after < taken_at <= until:
            wanted[value].add(entry)
            evaluated.append(taken_at)
    rows = [(sample.metric, float(sample.value[1])) for sample in vector]
    last = max(unix(rule.last_evaluation) for rule, _ in rules)
    return PrometheusAnswer(
        url,
        frozenset(filter(None, claimed)),
        min(until, *evaluated),
        unhealthy,
        frozenset(wanted["0"] - wanted["1"]),
        frozenset(wanted["1"]),
        ruler_of(rows, Ruler(interval, delay), last, (fresh_after, until)),
    )


def _ladder_rules(groups: list[Group]) -> list[tuple[Rule, float]]:
    """The rules that ask for something, each with its interval. Raises ValueError."""
    rules = [(rule, group.interval) for group in groups for rule in group.rules]
    rules = [(rule, interval) for rule, interval in rules if requested_name(rule.labels)]
    if not rules:
        raise ValueError("it has no alert rule with a degradation label")
    for rule, interval in rules:
        if not 0 < interval <= MAX_INTERVAL_SECONDS:
            raise ValueError(f"rule {rule.name} is evaluated every {interval:g} s")
    return rules


def _value_and_time(sample: Sample) -> tuple[str, float]:
    """ "0" or "1", and Unix seconds. Raises ValueError."""
    value, taken_at = sample.metric.get("wanted", "1"), float(sample.value[1])
    if value not in ("0", "1") or not math.isfinite(taken_at):
        raise ValueError("a sample of llm_degradation_wanted has no such value, or no time")
    return value, taken_at


def exporter_answer(url: str, status: StatusAnswer, now: float) -> ExporterAnswer:
    """An exporter's figures. Raises ValueError for a day or an amount that cannot be.

    A day that lies ahead would end every level that rose before it.
    """
    if not 0 <= status.day.start <= now + AHEAD_SECONDS:
        raise ValueError("its budget day begins in the future; the machines' clocks differ")
    if min(getattr(status, name) for name in BudgetFigures.__struct_fields__) < 0:
        raise ValueError("it has a negative amount")
    day, ledger = status.day, peer_text(status.ledger)
    calendar = peer_text(f"{day.timezone} from {day.day_starts_at}")
    return ExporterAnswer(url, day.start, status, status.writable, ledger, calendar)


def _freshness(interval: float) -> float:
    return EVALUATIONS * interval + SLACK_SECONDS


def _problem(rule: Rule, fresh_after: float, until: float) -> str | None:
    evaluated_at = unix(rule.last_evaluation)
    if rule.health != "ok":
        return f"rule {rule.name} has health {rule.health}"
    if evaluated_at <= fresh_after:
        return f"rule {rule.name} was last evaluated too long ago"
    if evaluated_at > until:
        return f"rule {rule.name} was evaluated in the future; the machines' clocks differ"
    return None
