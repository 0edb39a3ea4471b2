"""The provider's own word: its balance, polled and published; DeepSeek's GET /user/balance."""

import logging
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import requests
from msgspec import Struct
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from common import names
from common.auth import read_token
from common.errors import UserError
from exporter.config import Provider

TIMEOUT_SECONDS = 10.0
MAX_ANSWER_BYTES = 64 << 10
LOOK_SECONDS = 5.0  # how soon a `provider:` that a reload brought is noticed
_LOG = logging.getLogger(__name__)


class _Info(Struct):
    currency: str
    total_balance: Decimal
    granted_balance: Decimal = Decimal(0)
    topped_up_balance: Decimal = Decimal(0)


class _Answer(Struct):
    is_available: bool
    balance_infos: list[_Info]


class ProviderPoller(Collector):
    """Asks in a thread of its own, and publishes the last answer; a scrape never waits for it."""

    def __init__(self, config: Callable[[], Provider | None], folder: Path) -> None:
        """config: gives `provider:` as it is now, None = do not ask. folder: of its key file."""
        self._config = config
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="provider", daemon=True)
        self._available: bool | None = None  # None: never asked
        self._balance: dict[str, Decimal] = {}  # USD by kind; empty: not known now
        self._problem = ""

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; a request that hangs is left to end by itself."""
        self._stop.set()

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        if self._config() is None or self._available is None:
            return
        text = "Whether the provider answers and says that calls can be made."
        yield GaugeMetricFamily(names.PROVIDER_AVAILABLE, text, value=self._available)
        balance = GaugeMetricFamily(
            names.PROVIDER_BALANCE, "The provider's balance in USD.", labels=["kind"]
        )
        for kind, amount in self._balance.items():
            balance.add_metric([kind], float(amount))
        yield balance

    def poll(self, provider: Provider) -> None:
        """Ask once. What goes wrong is published as not available, and logged when it changes."""
        try:
            answer = self._ask(provider)
            self._balance = _usd(answer)
            self._available, problem = answer.is_available, ""
        except (UserError, requests.RequestException, ValueError) as error:
            self._balance, self._available = {}, False
            problem = _words(error)
        if problem != self._problem:
            _LOG.warning("provider: %s", problem or "answers again")
        self._problem = problem

    def _run(self) -> None:
        while not self._stop.is_set():
            provider = self._config()
            if provider is None:
                self._available = None
            else:
                self.poll(provider)
            self._stop.wait(provider.every_seconds if provider else LOOK_SECONDS)

    def _ask(self, provider: Provider) -> _Answer:
        """Raises UserError, requests.RequestException or ValueError."""
        key_file = self._folder / provider.key_file if provider.key_file else None
        key = read_token("provider", key_file)
        if key is None:
            raise UserError("no key: name provider.key_file or set LLM_BUDGET_PROVIDER_TOKEN_FILE")
        with requests.get(
            provider.balance_url,
            auth=_Bearer(key),
            timeout=TIMEOUT_SECONDS,
            stream=True,
            allow_redirects=False,  # the key goes nowhere else
        ) as answer:
            if answer.status_code != 200:
                raise ValueError(f"status {answer.status_code}")
            body = answer.raw.read(MAX_ANSWER_BYTES + 1, decode_content=True)
        if len(body) > MAX_ANSWER_BYTES:
            raise ValueError("an answer of more than 64 KiB")
        return msgspec.json.decode(body, type=_Answer, strict=False)


class _Bearer(requests.auth.AuthBase):
    """As auth and not as a header, which a .netrc would replace."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _usd(answer: _Answer) -> dict[str, Decimal]:
    """Balances by kind; another currency is no figure that a budget in USD can be held against."""
    for info in answer.balance_infos:
        if info.currency == "USD":
            return {
                "total": info.total_balance,
                "granted": info.granted_balance,
                "topped_up": info.topped_up_balance,
            }
    return {}


def _words(error: Exception) -> str:
    """What went wrong, with nothing that was sent."""
    if isinstance(error, requests.RequestException):
        return f"cannot be asked ({type(error).__name__})"
    return f"cannot be asked: {error}"[:300]
