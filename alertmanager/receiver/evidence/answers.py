"""The sources' JSON, as far as it is read, and what a Prometheus' answers mean."""

from datetime import datetime

from msgspec import Struct, field

from alertmanager.receiver.alerts import entry_of, requested_name, unix
from alertmanager.receiver.evidence.observations import PrometheusAnswer
from alertmanager.receiver.ladder.ladder import Ladder
from common.budget_status import BudgetFigures

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


class PrometheusBody(Struct):
    """What a Prometheus answers."""

    data: PrometheusData


class DayStart(Struct):
    """A budget day; start in Unix seconds."""

    start: float


class StatusAnswer(BudgetFigures, frozen=True, kw_only=True):
    """An exporter's /api/v1/status."""

    day: DayStart
    writable: bool = True


def prometheus_answer(
    url: str, groups: list[Group], vector: list[Sample], ladder: Ladder, now: float
) -> PrometheusAnswer:
    """What the two answers mean at a moment. Raises ValueError when no rule is the ladder's."""
    rules = [(rule, group.interval) for group in groups for rule in group.rules]
    rules = [(rule, interval) for rule, interval in rules if requested_name(rule.labels)]
    if not rules:
        raise ValueError("it has no alert rule with a degradation label")
    claimed = {
        entry_of({**rule.labels, **alert.labels}, ladder)
        for rule, _ in rules
        for alert in rule.alerts
        if alert.state == "firing"
    }
    until = now + AHEAD_SECONDS
    unhealthy = {}
    for rule, interval in rules:
        if problem := _problem(rule, now - _freshness(interval), until):
            unhealthy[requested_name(rule.labels)] = problem
    fresh_after = now - _freshness(max(interval for _, interval in rules))
    wanted: dict[str, set[str]] = {"0": set(), "1": set()}
    evaluated = [unix(rule.last_evaluation) for rule, _ in rules]
    for sample in vector:
        entry, taken_at = entry_of(sample.metric, ladder), float(sample.value[1])
        if entry and fresh_after < taken_at <= until:
            wanted[sample.metric.get("wanted", "1")].add(entry)
            evaluated.append(taken_at)
    return PrometheusAnswer(
        url,
        frozenset(filter(None, claimed)),
        min(evaluated),
        unhealthy,
        frozenset(wanted["0"] - wanted["1"]),
        frozenset(wanted["1"]),
    )


def _freshness(interval: float) -> float:
    return FRESH_EVALUATIONS * interval + SLACK_SECONDS


def _problem(rule: Rule, fresh_after: float, until: float) -> str | None:
    evaluated_at = unix(rule.last_evaluation)
    if rule.health != "ok":
        return f"rule {rule.name} has health {rule.health}"
    if evaluated_at <= fresh_after:
        return f"rule {rule.name} was last evaluated too long ago"
    if evaluated_at > until:
        return f"rule {rule.name} was evaluated in the future; the machines' clocks differ"
    return None
