"""The price of a token: whole pico-dollars, or no price at all."""

from dataclasses import dataclass, replace
from decimal import Decimal
from operator import mul
from typing import Any

from common.errors import UserError
from common.money import picodollars
from sdk.client import EXTRAS

# Ten dollars per thousand tokens: far above any list, small enough that no sum overflows 64 bits.
MAX_PICODOLLARS_PER_TOKEN = 10**10


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """Pico-dollars per token, and what an accountant asks about them."""

    model: str  # as the source names it
    source: str  # budget.yml, or genai-prices and its version
    input: int
    cached_input: int
    output: int
    provider: str = ""  # whose list it is; none for budget.yml
    validity: str = ""  # when it holds, in words

    @property
    def rates(self) -> tuple[int, int, int]:
        return self.input, self.cached_input, self.output

    @property
    def words(self) -> str:
        return " ".join(filter(None, (self.source, self.provider, self.validity)))

    def of_extra(self, kind: str, rate: int) -> "TokenPrice":
        """The price of a kind of extra tokens (EXTRAS): a rate for what they count among."""
        rates: dict[str, Any] = {"input": 0, "cached_input": 0, "output": 0, EXTRAS[kind]: rate}
        return replace(self, **rates, validity=f"{self.validity} {kind}".strip())

    def cost(self, *tokens: int) -> int:
        """Pico-dollars of so many input, cached input and output tokens."""
        return sum(map(mul, tokens, self.rates))


# By kind of extra tokens; "" the price of all others. A kind that is missing has no price.
TokenPrices = dict[str, TokenPrice]


def agreed(lists: list[TokenPrices]) -> TokenPrices:
    """Of several lists for one model, the prices that are the same on all."""
    first, *others = lists
    return {
        kind: price
        for kind, price in first.items()
        if all(kind in other and other[kind].rates == price.rates for other in others)
    }


def token_price(usd_per_1k: Decimal) -> int:
    """Pico-dollars per token. Raises UserError: negative, too high, finer than 1 pico-dollar."""
    price = picodollars(usd_per_1k.scaleb(-3))
    if not 0 <= price <= MAX_PICODOLLARS_PER_TOKEN:
        raise UserError(f"the price {usd_per_1k} USD per 1,000 tokens is not between 0 and 10")
    return price
