"""What a call costs: whole pico-dollars, from budget.yml."""

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.config import Price, token_price


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """Pico-dollars per token; source says where the price comes from."""

    model: str
    source: str
    input: int
    cached_input: int
    output: int

    def cost(self, input_tokens: int, cached_input_tokens: int, output_tokens: int) -> int:
        """Pico-dollars of a call."""
        return (
            input_tokens * self.input
            + cached_input_tokens * self.cached_input
            + output_tokens * self.output
        )


class PriceList:
    """Finds the price of a model; None when nobody prices it."""

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self._configured = {model: configured_price(model, p) for model, p in prices.items()}

    def find(self, model: str) -> TokenPrice | None:
        """The price in force for a model."""
        return self._configured.get(model)

    def configured(self) -> list[TokenPrice]:
        """What budget.yml prices, for llm_price_usd_per_million_tokens."""
        return list(self._configured.values())


def configured_price(model: str, price: Price) -> TokenPrice:
    """A price of budget.yml; without a cached price, cached input costs as input."""
    cached = price.cached_input_usd_per_1k
    return TokenPrice(
        model=model,
        source="budget.yml",
        input=token_price(price.input_usd_per_1k),
        cached_input=token_price(price.input_usd_per_1k if cached is None else cached),
        output=token_price(price.output_usd_per_1k),
    )
