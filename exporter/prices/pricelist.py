"""What a call costs at its own time: budget.yml's price, else genai-prices', else none.

The exact name comes first, then other spellings of it. Two prices for one name that differ are
none: withheld is visible, wrong is not.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from exporter.budget.day import BudgetCalendar
from exporter.event import DEFAULT_PROVIDER
from exporter.prices import genai as pricing_genai
from exporter.prices.modelnames import ModelName
from exporter.prices.schedule import Prices, Schedule, schedules
from exporter.prices.tokenprice import TokenPrice, TokenPrices


class PriceList:
    """Finds prices; a model that budget.yml names is priced by budget.yml alone."""

    def __init__(self, prices: Prices, calendar: BudgetCalendar) -> None:
        """calendar gives the dates of valid_from their zone. Raises UserError naming the key."""
        self._schedules = schedules(prices, calendar)
        self._spellings: defaultdict[str, list[Schedule]] = defaultdict(list)
        for model, schedule in self._schedules.items():
            self._spellings[model.strip().lower()].append(schedule)

    def find(
        self,
        model: str,
        provider: str,
        timestamp: float,
        largest_prompt: int = 0,
        calls: int = 1,
        *,
        kind: str = "",
        look_up: bool = True,
    ) -> TokenPrice | None:
        """The price of a call, or of several in one minute; None: withhold the cost.

        timestamp: Unix seconds of the call. largest_prompt: tokens of the largest prompt, for
        prices by prompt length. kind: of extra tokens (usage.EXTRAS). look_up: whether to ask
        genai-prices too.
        """
        if schedule := self._schedules.get(model):
            return schedule.at(timestamp, kind)
        said = pricing_genai.read(model)
        if said.name in self._spellings:
            return self._own(said.name, timestamp, kind)
        charger = said.charger if provider == DEFAULT_PROVIDER else provider
        maker = pricing_genai.maker(said.bare) if said.bare in self._spellings else None
        if maker and maker.id == charger:
            return self._own(said.bare, timestamp, kind)
        if not look_up:
            return None
        minute = int(timestamp // 60)
        listed = pricing_genai.find_price(model, provider, minute, DEFAULT_PROVIDER)
        price = listed.of(largest_prompt, calls, kind) if listed else None
        ours = self._same_model(said, price)
        if ours is None:
            return price
        own = self._own(ours, timestamp, kind)
        return price if own and price and own.rates == price.rates else None

    def find_all(self, *call: Any, kinds: Iterable[str], look_up: bool) -> TokenPrices:
        """find() for a call's extra tokens of these kinds and for the rest; all of them or none."""
        prices: TokenPrices = {}
        for kind in ("", *kinds):
            price = self.find(*call, kind=kind, look_up=look_up)
            if price is None:
                return {}
            prices[kind] = price
        return prices

    def _same_model(self, said: ModelName, listed: TokenPrice | None) -> str | None:
        """budget.yml's name for a model that a reseller sells, or that the list counts to it."""
        product = listed.model.lower() if listed else said.bare
        if product == said.name:  # the list names exactly this
            return None
        return next((name for name in (said.bare, product) if name in self._spellings), None)

    def _own(self, name: str, timestamp: float, kind: str) -> TokenPrice | None:
        """budget.yml's price for a name in lower case; None when its spellings differ."""
        found = [schedule.at(timestamp, kind) for schedule in self._spellings[name]]
        same = all(price and found[0] and price.rates == found[0].rates for price in found)
        return found[0] if same else None

    def in_force(self, timestamp: float, seen: dict[str, str]) -> dict[str, TokenPrice]:
        """Each model's price at an instant: budget.yml's models, and those of seen.

        seen: models that genai-prices priced, with their provider.
        """
        asked = dict.fromkeys(self._schedules, DEFAULT_PROVIDER) | seen
        found = {model: self.find(model, provider, timestamp) for model, provider in asked.items()}
        return {model: price for model, price in found.items() if price is not None}
