"""Asking Alertmanager, Prometheus and the exporters; an answer that cannot be used says why."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from alertmanager.receiver.alerts import entry_of
from alertmanager.receiver.evidence.answers import (
    AlertmanagerAlert,
    PrometheusBody,
    StatusAnswer,
    exporter_answer,
    prometheus_answer,
)
from alertmanager.receiver.evidence.observations import (
    AlertmanagerAnswer,
    ExporterAnswer,
    NoAnswer,
    Observations,
    PrometheusAnswer,
)
from alertmanager.receiver.evidence.ruler import FACTS_QUERY
from alertmanager.receiver.ladder.ladder import Ladder
from common.auth import read_token
from common.clock import Clock
from common.errors import UserError
from common.fetch import FetchError, fetch, without_password
from common.gateway import Gateway
from common.names import DEGRADATION_WANTED

TIMEOUT_SECONDS = 2.0  # a peer that takes longer is as good as away
ROUND_SECONDS = 3.0  # a peer asked twice may take longer: that keeps its thread, not the round
MAX_ANSWER_BYTES = 32 << 20
# One query for value and age: timestamp() of the plain selector is the sample's own time.
WANTED_QUERY = " or ".join(
    f"label_replace(timestamp({DEGRADATION_WANTED}) and {DEGRADATION_WANTED} == {value},"
    f' "wanted", "{value}", "", "")'
    for value in (0, 1)
)
QUERY = f"{WANTED_QUERY} or {FACTS_QUERY}"
T = TypeVar("T")


class Sources:
    """All sources, asked at the same time; one that hangs is not asked again until it answers."""

    def __init__(
        self,
        ladder: Callable[[], Ladder],
        clock: Clock,
        alertmanagers: list[str],
        prometheuses: list[str],
        exporters: list[str],
        *,
        gateway: Gateway | None = None,
        ruler_delay: float = 0.0,
    ) -> None:
        """ladder: gives the current one. alertmanagers, prometheuses, exporters: base URLs.

        ruler_delay: seconds by which the rules' records may lie behind their evaluation.
        """
        self.ruler_delay = ruler_delay
        self._ladder = ladder
        self._clock = clock
        self._gateway = gateway or Gateway()
        self._kinds: list[tuple[Callable[[str], Any], list[str]]] = [
            (self.alertmanager, alertmanagers),
            (self.prometheus, prometheuses),
            (self.exporter, exporters),
        ]
        self.can_confirm = bool(alertmanagers or prometheuses)  # that an alert fires
        count = sum(len(urls) for _, urls in self._kinds)
        self._pool = ThreadPoolExecutor(max(1, count), thread_name_prefix="source")
        self._asked: dict[str, Future[Any]] = {}

    def ask(self) -> Observations:
        """One round; takes at most ROUND_SECONDS."""
        rounds = [[self._submit(ask, url) for url in urls] for ask, urls in self._kinds]
        wait([future for pairs in rounds for _, future in pairs], ROUND_SECONDS)
        answers = (tuple(_answer(url, future) for url, future in pairs) for pairs in rounds)
        return Observations(*answers)

    def close(self) -> None:
        """Do not wait for those that hang."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, ask: Callable[[str], Any], url: str) -> tuple[str, "Future[Any]"]:
        running = self._asked.get(f"{ask.__name__} {url}")
        if running is None or running.done():
            running = self._pool.submit(ask, url)
            self._asked[f"{ask.__name__} {url}"] = running
        return url, running

    def alertmanager(self, url: str) -> AlertmanagerAnswer:
        """Active and suppressed alerts."""
        alerts = self._get(f"{url}/api/v2/alerts", list[AlertmanagerAlert])
        entries = {entry_of(alert.labels, self._ladder()) for alert in alerts}
        return AlertmanagerAnswer(without_password(url), frozenset(filter(None, entries)))

    def prometheus(self, url: str) -> PrometheusAnswer:
        """The ladder's rules, then llm_degradation_wanted and what else the rules record."""
        rules = self._get(f"{url}/api/v1/rules", PrometheusBody, {"type": "alert"}).data
        found = self._get(f"{url}/api/v1/query", PrometheusBody, {"query": QUERY}).data
        ladder, now = self._ladder(), self._clock.now()
        url, delay = without_password(url), self.ruler_delay
        return prometheus_answer(url, rules.groups, found.result, ladder, now, delay)

    def exporter(self, url: str) -> ExporterAnswer:
        """Its own figures."""
        status = self._get(f"{url}/api/v1/status", StatusAnswer, token=read_token("metrics"))
        return exporter_answer(without_password(url), status, self._clock.now())

    def _get(
        self,
        url: str,
        kind: type[T],
        params: dict[str, str] | None = None,
        token: str | None = None,
    ) -> T:
        """A source's JSON answer. Raises UserError."""
        answer = fetch(
            url,
            params=params,
            token=token,
            timeout=TIMEOUT_SECONDS,
            max_bytes=MAX_ANSWER_BYTES,
            **self._gateway.options(),
        )
        return answer.decode(kind)


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
