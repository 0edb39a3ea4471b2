"""Asking Alertmanager, Prometheus and the exporters, and what their answers mean.

An answer that cannot be used, or cannot be true, says why. Their JSON is read as far as it counts.
"""

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import KW_ONLY, dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypeVar

from msgspec import Struct, field

from alertmanager.receiver.alerts import entry_of, requested_name, unix
from alertmanager.receiver.evidence.observations import (
    SLACK_SECONDS,
    AlertmanagerAnswer,
    ExporterAnswer,
    NoAnswer,
    Observations,
    PrometheusAnswer,
    Ruler,
)
from alertmanager.receiver.ladder.ladder import Ladder
from common import names
from common.auth import read_token
from common.budget_status import BudgetFigures
from common.clock import Clock
from common.errors import UserError
from common.fetch import FetchError, fetch, without_password
from common.gateway import Gateway

TIMEOUT_SECONDS = 2.0  # a peer that takes longer is as good as away
ROUND_SECONDS = 3.0  # a peer asked twice may take longer: that keeps its thread, not the round
MAX_ANSWER_BYTES = 32 << 20
AHEAD_SECONDS = 5.0  # so much may a source's clock be ahead of ours
MAX_INTERVAL_SECONDS = 3600.0  # of evaluation; evidence of a longer one would be fresh for hours
MAX_SCRAPES_SECONDS = 180.0  # as in ledger:llm_evidence:fresh
MAX_EPOCH = 2**53  # beyond it floats skip numbers
MAX_TEXT_LENGTH = 64  # an id has 16 characters, the longest zone and an hour 43
# What the rules record besides, by fact. timestamp() of a plain selector is the samples' own time.
# scrapes: three intervals of the slowest exporter, once a quarter of an hour shows it.
_UP, _WANTED = names.LEDGER_WRITABLE, names.DEGRADATION_WANTED
FACTS = {
    "scrapes": f"max(2700 / count_over_time({_UP}[15m]) and {_UP} offset 15m)",
    "day": f"min({names.RULES_DAY})",
    "day_at": f"min(timestamp({names.RULES_DAY}))",
    "live": f"timestamp({names.LEDGER_FRESH}) and {names.LEDGER_FRESH} == 1",
    "spent": f"timestamp({names.LEDGER_SPEND_TODAY})",
    "epoch": names.EVIDENCE_EPOCH,
    "epoch_at": f"timestamp({names.EVIDENCE_EPOCH})",
    # Recorded every five minutes. Its key: "2026-11/ledger".
    "month": f'label_join(last_over_time({names.MONTH_HELD}[15m]),"ledger","/","month","ledger")',
}
# One query for all: of llm_degradation_wanted the sample's own time, its value as a label.
_SELECTED = [("wanted", one, f"timestamp({_WANTED}) and {_WANTED} == {one}") for one in ("0", "1")]
QUERY = " or ".join(
    f'label_replace({expression}, "{label}", "{value}", "", "")'
    for label, value, expression in [*_SELECTED, *(("fact", *fact) for fact in FACTS.items())]
)
T = TypeVar("T")


class _Alert(Struct):
    labels: dict[str, str]
    state: str = "firing"  # of a rule's; those of /api/v2/alerts have none


class _Rule(Struct, rename="camel"):
    name: str
    health: str
    last_evaluation: datetime
    labels: dict[str, str] = field(default_factory=dict)
    alerts: list[_Alert] = field(default_factory=list)


class _Group(Struct):
    interval: float  # seconds
    rules: list[_Rule]


class _Sample(Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _PrometheusData(Struct):
    groups: list[_Group] = field(default_factory=list)  # of /api/v1/rules
    result: list[_Sample] = field(default_factory=list)  # of /api/v1/query
    next_page: str = field(name="groupNextToken", default="")


class PrometheusBody(Struct):
    """What a Prometheus answers. Thanos and others may leave something out and warn of it."""

    status: Literal["success"]
    data: _PrometheusData
    warnings: list[str] | None = None
    infos: list[str] | None = None

    def __post_init__(self) -> None:
        missing = [*(self.warnings or ()), *(self.infos or ())]
        if self.data.next_page:
            missing.append("there are more pages")
        if missing:
            raise ValueError(f"it is perhaps not all: {missing[0]}")


class _Day(Struct):
    start: float  # Unix seconds
    timezone: str = ""
    day_starts_at: str = ""


class _Status(BudgetFigures, frozen=True, kw_only=True):
    day: _Day
    ledger: str
    writable: bool = True
    epoch: int = 0


@dataclass
class Sources:
    """All sources, asked at the same time; one that hangs is not asked again until it answers."""

    ladder: Callable[[], Ladder]  # gives the current one
    clock: Clock
    alertmanagers: list[str]  # base URLs, as the others
    prometheuses: list[str]
    exporters: list[str]
    _: KW_ONLY
    gateway: Gateway | None = None
    ruler_delay: float = 0.0  # seconds by which records may lie behind their evaluation

    def __post_init__(self) -> None:
        self.can_confirm = bool(self.alertmanagers or self.prometheuses)  # that an alert fires
        self._kinds: list[tuple[Callable[[str], Any], list[str]]] = [
            (self.alertmanager, self.alertmanagers),
            (self.prometheus, self.prometheuses),
            (self.exporter, self.exporters),
        ]
        count = sum(len(urls) for _, urls in self._kinds)
        self._pool = ThreadPoolExecutor(max(1, count), thread_name_prefix="source")
        self._asked: dict[tuple[Callable[[str], Any], str], Future[Any]] = {}

    def ask(self) -> Observations:
        """One round; takes at most ROUND_SECONDS."""
        for ask, url in [(ask, url) for ask, urls in self._kinds for url in urls]:
            running = self._asked.get((ask, url))
            if running is None or running.done():
                self._asked[ask, url] = self._pool.submit(ask, url)
        wait(self._asked.values(), ROUND_SECONDS)
        kinds = ([(url, self._asked[ask, url]) for url in urls] for ask, urls in self._kinds)
        return Observations(*(tuple(_answer(*asked) for asked in kind) for kind in kinds))

    def close(self) -> None:
        """Do not wait for those that hang."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def alertmanager(self, url: str) -> AlertmanagerAnswer:
        """Active and suppressed alerts."""
        alerts = self._get(f"{url}/api/v2/alerts", list[_Alert])
        entries = {entry_of(alert.labels, self.ladder()) for alert in alerts}
        return AlertmanagerAnswer(without_password(url), frozenset(filter(None, entries)))

    def prometheus(self, url: str) -> PrometheusAnswer:
        """The ladder's rules, then llm_degradation_wanted and what else the rules record."""
        rules = self._get(f"{url}/api/v1/rules", PrometheusBody, {"type": "alert"})
        found = self._get(f"{url}/api/v1/query", PrometheusBody, {"query": QUERY})
        url, ladder, now = without_password(url), self.ladder(), self.clock.now()
        groups, vector = rules.data.groups, found.data.result
        return prometheus_answer(url, groups, vector, ladder, now, self.ruler_delay)

    def exporter(self, url: str) -> ExporterAnswer:
        """Its own figures. Raises ValueError for a day or an amount that cannot be."""
        status = self._get(f"{url}/api/v1/status", _Status, token=read_token("metrics"))
        day, ledger = status.day, peer_text(status.ledger)
        # A day that lies ahead would end every level that rose before it.
        if not 0 <= day.start <= self.clock.now() + AHEAD_SECONDS:
            raise ValueError("its budget day begins in the future; the machines' clocks differ")
        if min(one.lowest() for one in (status, status.month) if one) < 0:
            raise ValueError("it has a negative amount")
        calendar = peer_text(f"{day.timezone} from {day.day_starts_at}")
        own = (status, status.writable, ledger, calendar, status.epoch)
        return ExporterAnswer(without_password(url), day.start, *own)

    def _get(self, url: str, kind: type[T], params: Any = None, token: str | None = None) -> T:
        """A source's JSON answer. Raises UserError."""
        bounds: dict[str, Any] = {"timeout": TIMEOUT_SECONDS, "max_bytes": MAX_ANSWER_BYTES}
        options = bounds | (self.gateway or Gateway()).options()
        return fetch(url, params=params, token=token, **options).decode(kind)


def _answer(url: str, future: "Future[Any]") -> Any:
    """The source's answer, or NoAnswer with the reason and without the URL's password."""
    url = without_password(url)
    if not future.done():
        return NoAnswer(url, "no answer in time")
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, UserError):
        return NoAnswer(url, error.reason if isinstance(error, FetchError) else str(error))
    return NoAnswer(url, f"gives a wrong answer: {error}"[:300])


def prometheus_answer(
    url: str, groups: list[_Group], vector: list[_Sample], ladder: Ladder, now: float, delay: float
) -> PrometheusAnswer:
    """What the two answers mean at a moment. Raises ValueError for what cannot be meant.

    delay: how many seconds the records may lie behind their evaluation (--ruler-delay).
    """
    every_rule = ((rule, group.interval) for group in groups for rule in group.rules)
    rules = [(name, *one) for one in every_rule if (name := requested_name(one[0].labels))]
    if not rules:
        raise ValueError("it has no alert rule with a degradation label")
    missing = set(ladder.automatic) - {name for name, _, _ in rules}
    unhealthy = {name: f"no alert rule asks for {name}" for name in missing}
    claimed: set[str | None] = set()
    for name, rule, interval in rules:
        if not 0 < interval <= MAX_INTERVAL_SECONDS:
            raise ValueError(f"rule {rule.name} is evaluated every {interval:g} s")
        if problem := _problem(rule, interval, now):
            unhealthy[name] = f"rule {rule.name} {problem}"
        firing = [alert.labels for alert in rule.alerts if alert.state == "firing"]
        claimed |= {entry_of({**rule.labels, **labels}, ladder) for labels in firing}
    evaluated = [unix(rule.last_evaluation) for _, rule, _ in rules]
    ruler = Ruler(max(interval for _, _, interval in rules), delay)
    fresh = (now - ruler.settling - SLACK_SECONDS, now + AHEAD_SECONDS)
    rows = [(sample.metric, float(sample.value[1])) for sample in vector]
    wanted: dict[str, set[str]] = {"0": set(), "1": set()}
    oldest = fresh[1]
    for labels, taken_at in rows:
        entry, value = entry_of(labels, ladder), labels.get("wanted", "1")
        if value not in wanted or not math.isfinite(taken_at):
            raise ValueError("a sample of llm_degradation_wanted has no such value, or no time")
        if entry and fresh[0] < taken_at <= fresh[1]:
            wanted[value].add(entry)
            oldest = min(oldest, taken_at)
    return PrometheusAnswer(
        url,
        frozenset(filter(None, claimed)),
        min(oldest, *evaluated),
        unhealthy,
        frozenset(wanted["0"] - wanted["1"]),
        frozenset(wanted["1"]),
        ruler_of(rows, ruler, max(evaluated), fresh, oldest),
    )


def _problem(rule: _Rule, interval: float, now: float) -> str | None:
    evaluated_at = unix(rule.last_evaluation)
    if rule.health != "ok":
        return f"has health {rule.health}"
    if evaluated_at <= now - Ruler(interval).settling - SLACK_SECONDS:
        return "was last evaluated too long ago"
    if evaluated_at > now + AHEAD_SECONDS:
        return "was evaluated in the future; the machines' clocks differ"
    return None


def ruler_of(
    rows: list[tuple[dict[str, str], float]],
    ruler: Ruler,
    evaluated_at: float,
    fresh: tuple[float, float],
    wanted_at: float = math.inf,
) -> Ruler:
    """What a ruler's records say. rows: labels and value of the query's samples.

    evaluated_at: its last evaluation. fresh: what was recorded after the first of both times and
    not after the second counts; of grants and resets what was not after wanted_at.
    """
    found: dict[str, dict[str, float]] = {fact: {} for fact in FACTS}
    for labels, value in rows:
        found.get(labels.get("fact", ""), {})[peer_text(labels.get("ledger", ""))] = value
    times = [at for fact in ("day_at", "live", "spent") for at in found[fact].values()]
    day = found["day"].get("", -1.0)
    dated = bool(_within(found["day_at"], *fresh)) and 0 <= day <= fresh[1]  # nan is not either
    # Before the records have settled on a new day, what they hold may be yesterday's spend.
    settled = max(fresh[0], day + ruler.settling)
    known = _within(found["epoch_at"], fresh[0], wanted_at)
    told = {ledger: found["epoch"].get(ledger, -1.0) for ledger in known}
    epochs = {ledger: int(epoch) for ledger, epoch in told.items() if 0 <= epoch < MAX_EPOCH}
    return replace(
        ruler,
        scrapes=min(max(0.0, *found["scrapes"].values(), 0.0), MAX_SCRAPES_SECONDS),
        lag=max(0.0, evaluated_at - max(times)) if times else None,
        live=_within(found["live"], *fresh),
        day_start=day if dated else None,
        spent=_within(found["spent"], settled, fresh[1]) if dated else frozenset(),
        epochs=epochs,
        months={key: usd for key, usd in found["month"].items() if "/" in key and usd >= 0},
        epochs_at=max(map(found["epoch_at"].__getitem__, epochs), default=0.0),
    )


def _within(times: dict[str, float], after: float, until: float) -> frozenset[str]:
    return frozenset(name for name, at in times.items() if after < at <= until)


def peer_text(text: str) -> str:
    """A ledger's id or a calendar as it may be kept, logged and shown, whatever a peer says."""
    return (text if text.isprintable() else ascii(text))[:MAX_TEXT_LENGTH]
