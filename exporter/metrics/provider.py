"""What the provider says: its balance, polled and published; DeepSeek's GET /user/balance."""

import logging
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

from msgspec import Struct
from prometheus_client.metrics_core import Metric

from common import names
from common.auth import read_token
from common.errors import UserError
from common.fetch import FetchError, fetch
from common.money import MAX_USD
from exporter.config import Provider
from exporter.ledger.balances import MILLIONTHS, USD
from exporter.metrics.page import family

MAX_ANSWER_BYTES = 64 << 10
KINDS = ("total", "granted", "topped_up")
_CURRENCY = re.compile("[A-Z]{3}")  # ISO 4217; others do not become label values
MAX_CURRENCIES = 8
LOOK_SECONDS = 5.0  # how soon a `provider:` that a reload brought is noticed
NO_KEY = "no key: name provider.key_file or set LLM_BUDGET_PROVIDER_TOKEN_FILE"
_LOG = logging.getLogger(__name__)
Balances = dict[tuple[str, str], Decimal]  # by currency and kind
Kept = dict[str, tuple[int, int]]  # total and granted by currency, in millionths


class _Balance(Struct):
    currency: str
    total_balance: Decimal
    granted_balance: Decimal = Decimal(0)
    topped_up_balance: Decimal = Decimal(0)


class _Answer(Struct):
    is_available: bool
    balance_infos: list[_Balance]


class ProviderPoller:
    """Asks in a thread of its own, and publishes the last answer; a scrape never waits for it."""

    def __init__(
        self, config: Callable[[], Provider | None], keep: Callable[[Kept], object]
    ) -> None:
        """config: gives `provider:` as it is now, None = do not ask. keep: is given each answer."""
        self._config, self._keep = config, keep
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="provider", daemon=True)
        self._families: Sequence[Metric] = ()  # of the last answer
        self._problem = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; a request that hangs is left to end by itself."""
        self._stop.set()

    def collect(self) -> Sequence[Metric]:
        return self._families if self._config() else ()

    def poll(self, provider: Provider) -> None:
        """Ask once. What goes wrong is published as not available, and logged when it changes."""
        try:
            key = read_token("provider", provider.key_file)
            if key is None:
                raise UserError(NO_KEY)
            url, most = provider.balance_url, MAX_ANSWER_BYTES
            said = fetch(url, token=key, max_bytes=most, use_environment=True)
            answer = said.decode(_Answer, strict=False)
            balances = _balances(answer)
            self._families = list(_families(answer.is_available, balances))
            kept = {pair: int(amount * MILLIONTHS) for pair, amount in balances.items()}
            self._keep({one: (kept[one, "total"], kept[one, "granted"]) for one, _ in kept if one})
            problem = ""
        except UserError as error:
            self._families = list(_families(False, {}))
            cause = error.cause if isinstance(error, FetchError) else str(error)
            problem = f"cannot be asked: {cause}"
        if problem != self._problem:
            _LOG.warning("provider: %s", problem or "answers again")
        self._problem = problem

    def _run(self) -> None:
        wait = 0.0
        while not self._stop.wait(wait):
            if provider := self._config():
                self.poll(provider)
            else:
                self._families = ()
            wait = provider.every_seconds if provider else LOOK_SECONDS


def _balances(answer: _Answer) -> Balances:
    """As the provider lists them, "" for what is no currency's name. Raises UserError."""
    sums: Balances = defaultdict(Decimal)
    named = {info.currency for info in answer.balance_infos if _CURRENCY.fullmatch(info.currency)}
    known = {USD, *sorted(named - {USD})[:MAX_CURRENCIES]}
    for info in answer.balance_infos:
        for kind in KINDS:
            amount: Decimal = getattr(info, f"{kind}_balance")
            if not amount.is_finite() or abs(amount) > MAX_USD // len(answer.balance_infos):
                raise UserError("a balance is not a number, or is more than anybody has")
            sums[info.currency if info.currency in known else "", kind] += amount
    return sums


def _families(available: bool, balances: Balances) -> Iterator[Metric]:
    """Without USD when the account's money is in another currency.

    An account in yuan may list a row of 0 USD, too: that is no empty account.
    """
    funded = {unit for (unit, _), amount in balances.items() if amount}
    text = "Whether the provider answers and says that calls can be made."
    yield family(names.PROVIDER_AVAILABLE, text, available)
    shown = {USD} if USD in funded or not funded else ()
    usd = {kind: float(amount) for (unit, kind), amount in balances.items() if unit in shown}
    rest = {pair: float(amount) for pair, amount in balances.items() if pair[0] not in ("", USD)}
    yield family(names.PROVIDER_BALANCE, "The provider's balance in USD.", usd, "kind")
    text = "The provider's balance in another currency than USD."
    yield family(names.PROVIDER_BALANCE_ELSEWHERE, text, rest, "currency", "kind")
