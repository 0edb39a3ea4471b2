"""The sources' JSON, as far as it is read, and what a Prometheus' answers mean."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from msgspec import Struct, field

from alertmanager.receiver.entries import entry_of
from alertmanager.receiver.evidence.observations import PrometheusSeen
from alertmanager.receiver.ladder.ladder import Ladder
from alertmanager.receiver.webhook import unix

# Fresh means younger than three evaluations; the second is for the way and for rounding.
FRESH_EVALUATIONS = 3
SLACK_SECONDS = 1.0
AHEAD_SECONDS = 5.0  # so much may a Prometheus' clock be ahead of ours


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
    last_error: str = ""


class Group(Struct):
    """A rule group; interval in seconds."""

    interval: float
    rules: list[Rule]


class Groups(Struct):
    """All of them."""

    groups: list[Group]


class RulesAnswer(Struct):
    """/api/v1/rules."""

    data: Groups


class Sample(Struct):
    """One sample of a vector; its value is the sample's own time."""

    metric: dict[str, str]
    value: tuple[float, str]


class Vector(Struct):
    """The result of a query."""

    result: list[Sample]


class QueryAnswer(Struct):
    """/api/v1/query."""

    data: Vector


class Day(Struct):
    """A budget day; start in Unix seconds."""

    start: float


class StatusAnswer(Struct):
    """An exporter's /api/v1/status."""

    day: Day
    spend_usd: Decimal
    written_off_usd: Decimal
    granted_usd: Decimal
    limit_usd: Decimal
    writable: bool = True


def prometheus_seen(
    url: str, groups: list[Group], vector: list[Sample], ladder: Ladder, now: float
) -> PrometheusSeen:
    """What the two answers mean at a moment. Raises ValueError when no rule is the ladder's."""
    ladder_rules = [
        (rule, _kind(rule.labels), group.interval)
        for group in groups
        for rule in group.rules
        if _kind(rule.labels)
    ]
    if not ladder_rules:
        raise ValueError("it has no alert rule with a degradation label")
    firing = {
        entry_of({**rule.labels, **alert.labels}, ladder)
        for rule, _, _ in ladder_rules
        for alert in rule.alerts
        if alert.state == "firing"
    }
    unhealthy = {}
    for rule, kind, interval in ladder_rules:
        problem = _problem(rule, now - _freshness(interval), now + AHEAD_SECONDS)
        if problem:
            unhealthy[kind] = problem
    fresh_after = now - _freshness(max(interval for _, _, interval in ladder_rules))
    wanted: dict[str, set[str]] = {"0": set(), "1": set()}
    evaluated = [unix(rule.last_evaluation) for rule, _, _ in ladder_rules]
    for sample in vector:
        entry, taken_at = entry_of(sample.metric, ladder), float(sample.value[1])
        if entry and fresh_after < taken_at <= now + AHEAD_SECONDS:
            wanted[sample.metric.get("wanted", "1")].add(entry)
            evaluated.append(taken_at)
    return PrometheusSeen(
        url,
        frozenset(entry for entry in firing if entry),
        min(evaluated),
        unhealthy,
        frozenset(wanted["0"] - wanted["1"]),
        frozenset(wanted["1"]),
    )


def _freshness(interval: float) -> float:
    return FRESH_EVALUATIONS * interval + SLACK_SECONDS


def _kind(labels: Mapping[str, str]) -> str:
    return labels.get("degradation") or labels.get("tuning") or ""


def _problem(rule: Rule, fresh_after: float, until: float) -> str | None:
    if rule.health != "ok":
        return f"rule {rule.name} has health {rule.health}"
    if unix(rule.last_evaluation) <= fresh_after:
        return f"rule {rule.name} was last evaluated too long ago"
    if unix(rule.last_evaluation) > until:
        return f"rule {rule.name} was evaluated in the future; the machines' clocks differ"
    return None
