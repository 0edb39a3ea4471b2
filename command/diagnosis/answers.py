"""Asks every part of a running loop at once, each question once and for a bounded time."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from common import names
from common.clock import SystemClock
from common.errors import UserError
from common.fetch import Answer, fetch

TIMEOUT_SECONDS = 5.0  # of each question; all are asked at the same time
_FACTS = {
    "ledgers": f"time() - timestamp({names.LEDGER_INFO})",
    "receivers": f"time() - timestamp({names.DEGRADATION_LEVEL})",
    "complete": "budget:llm_evidence:complete",
    "wanted": names.DEGRADATION_WANTED,
    "stale": f"{names.LEDGER_FRESH} == 0",
    "down": "instance:llm_exporter_down:info",
    "unwritable": f"{names.LEDGER_WRITABLE} == 0",
    "unknown": "budget:llm_degradation:unknown",
}
FACTS = " or ".join(f'label_replace({one}, "fact", "{n}", "", "")' for n, one in _FACTS.items())

WATCHDOGS = {"filter": 'alertname="Watchdog"'}


TokenOf = Callable[[str, str], str | None]  # by name and URL; raises UserError


class Question(NamedTuple):
    """token: which one it carries; without that token it is not asked. content: it is a POST.

    None of the contents does anything: no usage, and no whole notification or wish.
    """

    service: str
    path: str
    token: str = ""
    content: Any = None
    params: Mapping[str, str] | None = None


QUESTIONS = {
    "status": Question("exporter", "/api/v1/status"),
    "ingest": Question("exporter", "/v1/usage", "ingest", []),
    "grants": Question("exporter", "/api/v1/grants", "admin"),
    "state": Question("receiver", "/state"),
    "health": Question("receiver", "/health"),
    "receiver_metrics": Question("receiver", "/metrics"),
    "override": Question("receiver", "/api/v1/override", "admin", {}),
    "webhook": Question("receiver", "/watchdog", "webhook", {}),
    "facts": Question("prometheus", "/api/v1/query", params={"query": FACTS}),
    "rules": Question("prometheus", "/api/v1/rules"),
    "targets": Question("prometheus", "/api/v1/targets", params={"state": "active"}),
    "managers": Question("prometheus", "/api/v1/alertmanagers"),
    "config": Question("prometheus", "/api/v1/status/config"),
    "runtime": Question("prometheus", "/api/v1/status/runtimeinfo"),
    "routing": Question("alertmanager", "/api/v2/status"),
    "watchdogs": Question("alertmanager", "/api/v2/alerts", params=WATCHDOGS),
    "notified": Question("alertmanager", "/metrics"),
}  # fmt: skip


class Answers:
    """What each question was answered, or why it was not."""

    def __init__(
        self, urls: Mapping[str, str], token_of: TokenOf, options: Mapping[str, Any] | None = None
    ) -> None:
        """urls: base URLs by service. token_of: a service's token. options: others of fetch."""
        self.urls, self.token_of, self.offsets = urls, token_of, dict[str, float]()
        self._options, self._clock = options or {}, SystemClock()
        with ThreadPoolExecutor(len(QUESTIONS)) as pool:
            self._found = dict(zip(QUESTIONS, pool.map(self._ask, QUESTIONS.values()), strict=True))

    def raw(self, question: str) -> Answer:
        """Whatever its status. Raises UserError when there is none."""
        found = self._found[question]
        if isinstance(found, UserError):
            raise found
        return found

    def json(self, question: str) -> Any:
        """Raises UserError when there is no answer, or one that says no."""
        return self.raw(question).decode(object)

    def text(self, question: str) -> str:
        return self.raw(question).body.decode(errors="replace")

    def facts(self, fact: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each sample that Prometheus has of a fact."""
        rows = self.json("facts")["data"]["result"]
        return [
            (one["metric"], float(one["value"][1])) for one in rows if one["metric"]["fact"] == fact
        ]

    def now(self, service: str) -> float:
        """Unix seconds by a service's own clock, as far as it told."""
        return self._clock.now() + self.offsets.get(service, 0.0)

    def _ask(self, question: Question) -> Answer | UserError:
        service, path, name, content, params = question
        try:
            wanted = name or "metrics" * (service == "exporter")
            token = self.token_of(wanted, self.urls[service]) if wanted else None
            if name and token is None:
                return UserError(f"no {name} token here")
            url = self.urls[service].rstrip("/") + path
            asked = {"params": params, "content": content, "token": token, **self._options}
            answer = fetch(url, timeout=TIMEOUT_SECONDS, **asked)
        except UserError as error:
            return error
        self._note_time(service, answer.headers.get("Date", ""))
        return answer

    def _note_time(self, service: str, date: str) -> None:
        try:
            told = parsedate_to_datetime(date).timestamp() + 0.5  # it has whole seconds
        except ValueError:
            return
        self.offsets[service] = told - self._clock.now()
