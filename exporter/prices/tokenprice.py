"""The price of a token: whole pico-dollars, or no price at all."""

from dataclasses import dataclass, replace
from decimal import Decimal

from common.errors import UserError
from common.money import picodollars
from exporter.usage import EXTRAS

# Ten dollars per thousand tokens: far above any list, small enough that no sum overflows 64 bits.
MAX_PICODOLLARS_PER_TOKEN = 10**10


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """Pico-dollars per token, and what an accountant asks about them.

    model: as the source names it. source: budget.yml, or genai-prices and its version.
    provider: whose list it is ("" for budget.yml). validity: when it holds, in words.
    """

    model: str
    source: str
    input: int
    cached_input: int
    output: int
    provider: str = ""
    validity: str = ""

    @property
    def rates(self) -> tuple[int, int, int]:
        """Input, cached input, output."""
        return self.input, self.cached_input, self.output

    def of_extra(self, kind: str, rate: int) -> "TokenPrice":
        """The price of a kind of extra tokens (usage.EXTRAS): a rate for what they count among."""
        rates = {EXTRAS[kind]: rate}
        return replace(
            self,
            input=rates.get("input", 0),
            cached_input=rates.get("cached_input", 0),
            output=rates.get("output", 0),
            validity=f"{self.validity} {kind}".strip(),
        )

    def cost(self, input_tokens: int, cached_input_tokens: int, output_tokens: int) -> int:
        """Pico-dollars of so many tokens."""
        return (
            input_tokens * self.input
            + cached_input_tokens * self.cached_input
            + output_tokens * self.output
        )


# By kind of extra tokens; "" the price of all others.
TokenPrices = dict[str, TokenPrice]


def token_price(usd_per_1k: Decimal) -> int:
    """Pico-dollars per token.

    Raises UserError when negative, absurdly high, or finer than 1 pico-dollar.
    """
    price = picodollars(usd_per_1k.scaleb(-3))
    if not 0 <= price <= MAX_PICODOLLARS_PER_TOKEN:
        raise UserError(f"the price {usd_per_1k} USD per 1,000 tokens is not between 0 and 10")
    return price
