"""What a call costs at its own time: budget.yml's price, else genai-prices', else none."""

from collections.abc import Iterable
from typing import Any

from exporter.budget.day import BudgetCalendar
from exporter.event import DEFAULT_PROVIDER
from exporter.prices import genai as pricing_genai
from exporter.prices.schedule import Prices, schedules
from exporter.prices.tokenprice import TokenPrice, TokenPrices


class PriceList:
    """Finds prices; a model that budget.yml names is priced by budget.yml alone."""

    def __init__(self, prices: Prices, calendar: BudgetCalendar) -> None:
        """calendar gives the dates of valid_from their zone. Raises UserError naming the key."""
        self._schedules = schedules(prices, calendar)

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
        schedule = self._schedules.get(model)
        if schedule is not None:
            return schedule.at(timestamp, kind)
        if not look_up:
            return None
        minute = int(timestamp // 60)
        listed = pricing_genai.find_price(model, provider, minute, DEFAULT_PROVIDER)
        return listed.of(largest_prompt, calls, kind) if listed else None

    def find_all(self, *call: Any, kinds: Iterable[str], look_up: bool) -> TokenPrices:
        """find() for a call's extra tokens of these kinds and for the rest; all of them or none."""
        prices: TokenPrices = {}
        for kind in ("", *kinds):
            price = self.find(*call, kind=kind, look_up=look_up)
            if price is None:
                return {}
            prices[kind] = price
        return prices

    def in_force(self, timestamp: float, seen: dict[str, str]) -> dict[str, TokenPrice]:
        """Each model's price at an instant: budget.yml's models, and those of seen.

        seen: models that genai-prices priced, with their provider.
        """
        asked = dict.fromkeys(self._schedules, DEFAULT_PROVIDER) | seen
        found = {model: self.find(model, provider, timestamp) for model, provider in asked.items()}
        return {model: price for model, price in found.items() if price is not None}
