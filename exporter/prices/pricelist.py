"""What a call costs at its own time: budget.yml's price, else genai-prices', else none."""

from exporter.budget.day import BudgetCalendar
from exporter.event import DEFAULT_PROVIDER
from exporter.prices import genai as pricing_genai
from exporter.prices.schedule import Prices, schedules
from exporter.prices.tokenprice import TokenPrice


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
        extras: bool = False,
        look_up: bool = True,
    ) -> TokenPrice | None:
        """The price of a call, or of several in one minute; None: withhold the cost.

        timestamp: Unix seconds of the call. largest_prompt: tokens of the largest prompt, for
        prices by prompt length. extras: whether some tokens may be charged apart (cache writes,
        audio). look_up: whether to ask genai-prices too.
        """
        schedule = self._schedules.get(model)
        if schedule is not None:
            return schedule.at(timestamp)
        if not look_up:
            return None
        minute = int(timestamp // 60)
        listed = pricing_genai.find_price(model, provider, minute, DEFAULT_PROVIDER)
        return listed.of(largest_prompt, calls, extras) if listed else None

    def in_force(self, timestamp: float, seen: dict[str, str]) -> dict[str, TokenPrice]:
        """Each model's price at an instant: budget.yml's models, and those of seen.

        seen: models that genai-prices priced, with their provider.
        """
        asked = dict.fromkeys(self._schedules, DEFAULT_PROVIDER) | seen
        found = {model: self.find(model, provider, timestamp) for model, provider in asked.items()}
        return {model: price for model, price in found.items() if price is not None}
