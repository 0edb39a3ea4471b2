"""What a call costs at its own time: budget.yml's price, else genai-prices', else none.

The exact name comes first, then other spellings of it. Two prices for one name that differ are
none: withheld is visible, wrong is not.
"""

from collections import defaultdict

from exporter.budget.day import BudgetCalendar
from exporter.event import DEFAULT_PROVIDER
from exporter.prices import genai
from exporter.prices.modelnames import read
from exporter.prices.schedule import Prices, Schedule, schedules
from exporter.prices.tokenprice import TokenPrice, TokenPrices, agreed


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
        timestamp: float,  # Unix seconds of the call
        largest_prompt: int = 0,  # tokens of the largest prompt, for prices by prompt length
        calls: int = 1,
        *,
        look_up: bool = True,  # whether to ask genai-prices too
    ) -> TokenPrices:
        """The prices of a call, or of several in one minute; what has none is withheld."""
        if schedule := self._schedules.get(model):
            return schedule.at(timestamp)
        said = read(model)
        if said.name in self._spellings:
            return self._own(said.name, timestamp)
        charger = said.charger if provider == DEFAULT_PROVIDER else provider
        maker = genai.maker(said.bare) if said.bare in self._spellings else None
        if maker and maker.id == charger:
            return self._own(said.bare, timestamp)
        if not look_up:
            return {}
        tiers = genai.find_price(model, provider, int(timestamp // 60), DEFAULT_PROVIDER)
        reached = [prices for start, prices in tiers if largest_prompt > start]
        # Which tier each of several calls reached is known when there is one alone.
        listed = reached[0] if reached and (calls == 1 or len(reached) == 1) else {}
        product = listed[""].model.lower() if listed else said.bare
        if product != said.name:  # else the list names exactly this
            # A model of budget.yml's that a reseller sells, or that the list counts to it.
            for ours in (said.bare, product):
                if ours in self._spellings:
                    return agreed([listed, self._own(ours, timestamp)])
        return listed

    def _own(self, name: str, timestamp: float) -> TokenPrices:
        """budget.yml's prices for a name in lower case, where its spellings do not differ."""
        return agreed([schedule.at(timestamp) for schedule in self._spellings[name]])

    def in_force(self, timestamp: float, seen: dict[str, str]) -> dict[str, TokenPrice]:
        """Each model's price at an instant: of budget.yml's, and of seen with their providers."""
        asked = dict.fromkeys(self._schedules, DEFAULT_PROVIDER) | seen
        found = {model: self.find(model, provider, timestamp) for model, provider in asked.items()}
        return {model: prices[""] for model, prices in found.items() if "" in prices}
