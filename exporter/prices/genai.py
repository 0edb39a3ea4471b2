"""Prices of the models that budget.yml does not name, from genai-prices' bundled data.

Its prices of text tokens are taken as they are: dated prices, times of day, and tiers by
prompt length. A price that would not be exact (finer than 1 pico-dollar a token, charged per
request, by reasoning token, by page, …) counts as no price: withheld is visible, wrong is not.
"""

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version

from genai_prices.data_snapshot import find_provider_by_id, get_snapshot
from genai_prices.types import (
    ClauseEquals,
    ClauseOr,
    ModelInfo,
    ModelPrice,
    Provider,
    TieredPrices,
)

from common.errors import UserError
from exporter.prices.modelnames import ModelName, read_name, variants
from exporter.prices.tokenprice import TokenPrice, TokenPrices, token_price
from exporter.usage import EXTRAS

SOURCE = f"genai-prices {version('genai-prices')}"
# What a text call without these features never pays; any other key but the three is a reason to
# withhold.
OPTIONAL = ("cache_write", "audio_mtok", "audio_read", "image", "video", "searches")
LOOKUPS_KEPT = 8192  # bounds what a client's inventions can make us remember


@dataclass(frozen=True, slots=True)
class TieredPrice:
    """prices[i] is what every token of a prompt of more than starts[i - 1] tokens costs."""

    starts: tuple[int, ...]
    prices: tuple[TokenPrices, ...]

    def of(self, largest_prompt: int, calls: int, kind: str) -> TokenPrice | None:
        """The price of several calls' tokens of a kind; None when it would not be exact.

        That is when the tier depends on prompts not known singly.
        """
        if not self.starts or largest_prompt <= self.starts[0]:
            return self.prices[0].get(kind)
        if calls != 1:
            return None
        return self.prices[bisect_left(self.starts, largest_prompt)].get(kind)


@lru_cache(LOOKUPS_KEPT)
def find_price(model: str, provider: str, minute: int, default: str) -> TieredPrice | None:
    """A model's price in a minute (Unix time / 60), as its provider charges it.

    default is the provider of an event that named none: then the list is the one that the name
    points to by its prefix, else the default's, else that of the model's maker.
    """
    found = _find_model(model, provider, by_name=provider == default)
    if found is None:
        return None
    provider_id, info = found
    if not info.prices:
        return None
    price = info.get_prices(datetime.fromtimestamp(minute * 60, UTC))
    validity = "" if isinstance(info.prices, ModelPrice) else _validity(info, price)
    try:
        return _tiers(price, TokenPrice(info.id, SOURCE, 0, 0, 0, provider_id, validity))
    except UserError:  # finer than 1 pico-dollar, or absurd
        return None


@lru_cache(LOOKUPS_KEPT)
def read(model: str) -> ModelName:
    """A model's name, read with genai-prices' providers in mind."""
    return read_name(model, frozenset(provider.id for provider in get_snapshot().providers))


@lru_cache(LOOKUPS_KEPT)
def _find_model(model: str, provider: str, by_name: bool) -> tuple[str, ModelInfo] | None:
    providers = get_snapshot().providers
    for candidate, name in _candidates(read(model), provider, by_name):
        info = candidate and candidate.find_model(name, all_providers=providers)
        if candidate and info and _is_product(info, name):
            return candidate.id, info
    return None


def _candidates(
    said: ModelName, provider: str, by_name: bool
) -> Iterator[tuple[Provider | None, str]]:
    """Where to look for a model, and under which name."""
    providers = get_snapshot().providers
    named = find_provider_by_id(providers, provider)
    charger = find_provider_by_id(providers, said.charger) if said.charger else None
    if not by_name or not charger:
        yield named, said.name
    if by_name and not charger:
        yield maker(said.name), said.name
    if charger and (by_name or charger is named):  # else provider and name contradict each other
        yield from ((charger, name) for name in (said.listed, said.bare))


@lru_cache(LOOKUPS_KEPT)
def maker(name: str) -> Provider | None:
    """Whose own model a bare name is; None when that is not known."""
    providers = get_snapshot().providers
    return next((p for p in providers if p.model_match and p.model_match.is_match(name)), None)


def _is_product(info: ModelInfo, name: str) -> bool:
    """Whether a list means a name as it is: `:free`, `-fast` are no suffix to overlook."""
    return variants(name) <= variants(info.id.lower()) or _names(info.match, name)


def _names(match: object, name: str) -> bool:
    """Whether a condition of genai-prices has exactly this name."""
    if isinstance(match, ClauseOr):
        return any(_names(clause, name) for clause in match.or_)
    return isinstance(match, ClauseEquals) and match.equals.lower() == name


def _validity(info: ModelInfo, price: ModelPrice) -> str:
    """In words, which of the model's conditions chose this price."""
    assert not isinstance(info.prices, ModelPrice)
    chosen = next(entry for entry in info.prices if entry.prices is price)
    if chosen.constraint is None:
        return "otherwise"
    return " ".join(f"{name}={value}" for name, value in vars(chosen.constraint).items())


def _tiers(price: ModelPrice, named: TokenPrice) -> TieredPrice | None:
    rates = {key: value for key, value in vars(price).items() if value is not None}
    if not _is_text(set(rates)):
        return None
    full, output = rates["input_mtok"], rates["output_mtok"]
    cached = rates.get("cache_read_mtok", full)
    extras = {kind: rates[key] for kind in EXTRAS if (key := _key(kind)) in rates}
    charged = (full, cached, output, *extras.values())
    tiers = {t.start for r in charged if isinstance(r, TieredPrices) for t in r.tiers}

    def from_prompt(tokens: int) -> TokenPrices:
        """The prices of a prompt of so many tokens."""
        condition = f" prompt > {tokens - 1}" if tokens else ""
        price = replace(
            named,
            input=_rate(full, tokens),
            cached_input=_rate(cached, tokens),
            output=_rate(output, tokens),
            validity=f"{named.validity}{condition}".strip(),
        )
        found = {"": price}
        for kind, rate in extras.items():
            with suppress(UserError):  # this kind alone has no exact price
                found[kind] = price.of_extra(kind, _rate(rate, tokens))
        return found

    starts = tuple(sorted(tiers))
    return TieredPrice(starts, tuple(map(from_prompt, (0, *(start + 1 for start in starts)))))


def _key(kind: str) -> str:
    """What it calls the price of a kind of extra tokens."""
    medium = kind.removeprefix("cached_")
    return f"{kind}_mtok" if medium == kind else f"cache_{medium}_read_mtok"


def _is_text(keys: set[str]) -> bool:
    """Whether a price charges a text call for its tokens and for nothing else."""
    rest = keys - {"input_mtok", "cache_read_mtok", "output_mtok"}
    needed = keys >= {"input_mtok", "output_mtok"}
    return needed and all(any(word in key for word in OPTIONAL) for key in rest)


def _rate(rate: Decimal | TieredPrices, prompt: int) -> int:
    """Pico-dollars per token for a prompt of so many tokens. Raises UserError when inexact."""
    if isinstance(rate, TieredPrices):
        reached = [tier.price for tier in rate.tiers if prompt > tier.start]
        rate = reached[-1] if reached else rate.base
    return token_price(rate.scaleb(-3))
