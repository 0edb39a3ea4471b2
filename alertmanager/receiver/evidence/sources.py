"""Asking Alertmanager, Prometheus and the exporters; an answer that cannot be used is Unknown."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from alertmanager.receiver.entries import entry_of
from alertmanager.receiver.evidence.answers import (
    AlertmanagerAlert,
    QueryAnswer,
    RulesAnswer,
    StatusAnswer,
    prometheus_seen,
)
from alertmanager.receiver.evidence.observations import (
    AlertmanagerSeen,
    ExporterSeen,
    PrometheusSeen,
    Seen,
    Unknown,
)
from alertmanager.receiver.ladder.ladder import Ladder
from common.auth import read_token
from common.clock import Clock
from common.fetch import FetchError, fetch, without_password
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
T = TypeVar("T")


class Sources:
    """Everyone to ask, asked at the same time; a peer that hangs is skipped until it answers."""

    def __init__(
        self,
        ladder: Callable[[], Ladder],
        clock: Clock,
        alertmanagers: list[str],
        prometheuses: list[str],
        exporters: list[str],
    ) -> None:
        """ladder: gives the current one. The lists hold base URLs."""
        self._ladder = ladder
        self._clock = clock
        self._kinds: list[tuple[Callable[[str], Any], list[str]]] = [
            (self.alertmanager, alertmanagers),
            (self.prometheus, prometheuses),
            (self.exporter, exporters),
        ]
        self.can_confirm = bool(alertmanagers or prometheuses)  # that an alert fires
        count = sum(len(urls) for _, urls in self._kinds)
        self._pool = ThreadPoolExecutor(max(1, count), thread_name_prefix="source")
        self._asked: dict[str, Future[Any]] = {}

    def ask(self) -> Seen:
        """One round; takes at most ROUND_SECONDS."""
        rounds = [[self._submit(ask, url) for url in urls] for ask, urls in self._kinds]
        wait([future for pairs in rounds for _, future in pairs], ROUND_SECONDS)
        return Seen(*(tuple(_answer(url, future) for url, future in pairs) for pairs in rounds))

    def close(self) -> None:
        """Do not wait for those that hang."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(self, ask: Callable[[str], Any], url: str) -> tuple[str, "Future[Any]"]:
        running = self._asked.get(f"{ask.__name__} {url}")
        if running is None or running.done():
            running = self._pool.submit(ask, url)
            self._asked[f"{ask.__name__} {url}"] = running
        return url, running

    def alertmanager(self, url: str) -> AlertmanagerSeen:
        """Active and suppressed alerts."""
        alerts = _get(f"{url}/api/v2/alerts", list[AlertmanagerAlert])
        entries = (entry_of(alert.labels, self._ladder()) for alert in alerts)
        active = frozenset(entry for entry in entries if entry)
        return AlertmanagerSeen(without_password(url), active)

    def prometheus(self, url: str) -> PrometheusSeen:
        """The ladder's rules, then llm_degradation_wanted."""
        groups = _get(f"{url}/api/v1/rules", RulesAnswer, {"type": "alert"}).data.groups
        vector = _get(f"{url}/api/v1/query", QueryAnswer, {"query": WANTED_QUERY}).data.result
        peer = without_password(url)
        return prometheus_seen(peer, groups, vector, self._ladder(), self._clock.now())

    def exporter(self, url: str) -> ExporterSeen:
        """Its own figures."""
        status = _get(f"{url}/api/v1/status", StatusAnswer, token=read_token("metrics"))
        return ExporterSeen(
            without_password(url),
            status.day.start,
            status.spend_usd,
            status.written_off_usd,
            status.granted_usd,
            status.limit_usd,
            status.writable,
        )


def _answer(url: str, future: "Future[Any]") -> Any:
    """The source's answer, or Unknown with a reason and without the URL's password."""
    url = without_password(url)
    if not future.done():
        return Unknown(url, "no answer in time")
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, FetchError):
        return Unknown(url, error.reason)
    return Unknown(url, f"gives a wrong answer: {error}"[:300])


def _get(
    url: str, kind: type[T], params: dict[str, str] | None = None, token: str | None = None
) -> T:
    """A source's JSON answer. Raises FetchError."""
    answer = fetch(
        url, params=params, token=token, timeout=TIMEOUT_SECONDS, max_bytes=MAX_ANSWER_BYTES
    )
    return answer.decode(kind)
