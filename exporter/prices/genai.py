"""Prices of the models that budget.yml does not name, from genai-prices' bundled data.

Its prices of text tokens are taken as they are: dated prices, times of day, and tiers by
prompt length. A price that would not be exact (finer than 1 pico-dollar a token, charged per
request, by reasoning token, by page, …) counts as no price: withheld is visible, wrong is not.
"""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from genai_prices.data_snapshot import find_provider_by_id
from genai_prices.types import ClauseEquals, ClauseOr, ModelInfo, ModelPrice, Provider, TieredPrices

from common.errors import UserError
from exporter.prices.modelnames import LOOKUPS_KEPT, PROVIDERS, read, variants
from exporter.prices.tokenprice import TokenPrice, TokenPrices, token_price
from sdk.client import EXTRAS

SOURCE = f"genai-prices {version('genai-prices')}"
# What a text call without these features never pays; any other key but the three is a reason to
# withhold.
OPTIONAL = ("cache_write", "audio_mtok", "audio_read", "image", "video", "searches")
# What every token of a prompt of more than so many tokens costs, the longest first.
Tiers = list[tuple[int, TokenPrices]]


@lru_cache(LOOKUPS_KEPT)
def find_price(model: str, provider: str, minute: int, default: str) -> Tiers:
    """A model's prices in a minute (Unix time / 60), as its provider charges it.

    default is the provider of an event that named none: then the list is the one that the name
    points to by its prefix, else the default's, else that of the model's maker.
    """
    charger, info = _find_model(model, provider, by_name=provider == default)
    if info is None or not info.prices:
        return []
    price = info.get_prices(datetime.fromtimestamp(minute * 60, UTC))
    try:
        return _tiers(price, TokenPrice(info.id, SOURCE, 0, 0, 0, charger, _validity(info, price)))
    except UserError:  # finer than 1 pico-dollar, or absurd
        return []


@lru_cache(LOOKUPS_KEPT)
def _find_model(model: str, provider: str, by_name: bool) -> tuple[str, ModelInfo | None]:
    """A model, and whose list it is on."""
    said = read(model)
    named = find_provider_by_id(PROVIDERS, provider)
    charger = find_provider_by_id(PROVIDERS, said.charger) if said.charger else None
    lists: list[tuple[Provider | None, str]] = []
    if not by_name or not charger:
        lists.append((named, said.name))
    if by_name and not charger:
        lists.append((maker(said.name), said.name))
    if charger and (by_name or charger is named):  # else provider and name contradict each other
        lists += [(charger, said.listed), (charger, said.bare)]
    for one, name in ((one, name) for one, name in lists if one):
        info = one.find_model(name, all_providers=PROVIDERS)
        # `:free`, `-fast` are no suffix to overlook.
        if info and (variants(name) <= variants(info.id.lower()) or _names(info.match, name)):
            return one.id, info
    return "", None


@lru_cache(LOOKUPS_KEPT)
def maker(name: str) -> Provider | None:
    """Whose own model a bare name is; None when that is not known."""
    return next((p for p in PROVIDERS if p.model_match and p.model_match.is_match(name)), None)


def _names(match: object, name: str) -> bool:
    """Whether a condition of genai-prices has exactly this name."""
    if isinstance(match, ClauseOr):
        return any(_names(clause, name) for clause in match.or_)
    return isinstance(match, ClauseEquals) and match.equals.lower() == name


def _validity(info: ModelInfo, price: ModelPrice) -> str:
    """In words, which of the model's conditions chose this price."""
    if isinstance(info.prices, ModelPrice):
        return ""
    condition = next(entry.constraint for entry in info.prices if entry.prices is price)
    if condition is None:
        return "otherwise"
    return " ".join(f"{name}={value}" for name, value in vars(condition).items())


def _tiers(price: ModelPrice, named: TokenPrice) -> Tiers:
    """named: the price without its rates. Raises UserError when they are not exact."""
    rates = {key: value for key, value in vars(price).items() if value is not None}
    rest = rates.keys() - {"input_mtok", "cache_read_mtok", "output_mtok"}
    optional = all(any(word in key for word in OPTIONAL) for key in rest)
    if not optional or not rates.keys() >= {"input_mtok", "output_mtok"}:
        return []
    plain = {
        "input": rates["input_mtok"],
        "cached_input": rates.get("cache_read_mtok", rates["input_mtok"]),
        "output": rates["output_mtok"],
    }
    extras = {kind: rates[key] for kind in EXTRAS if (key := _key(kind)) in rates}
    charged = (*plain.values(), *extras.values())
    starts = {t.start for r in charged if isinstance(r, TieredPrices) for t in r.tiers}
    found = []
    for start in sorted({-1, *starts}, reverse=True):
        condition = f" prompt > {start}" if start >= 0 else ""
        exact: dict[str, Any] = {name: _rate(rate, start + 1) for name, rate in plain.items()}
        base = replace(named, **exact, validity=f"{named.validity}{condition}".strip())
        prices = {"": base}
        for kind, rate in extras.items():
            with suppress(UserError):  # this kind alone has no exact price
                prices[kind] = base.of_extra(kind, _rate(rate, start + 1))
        found.append((start, prices))
    return found


def _key(kind: str) -> str:
    """What it calls the price of a kind of extra tokens."""
    medium = kind.removeprefix("cached_")
    return f"{kind}_mtok" if medium == kind else f"cache_{medium}_read_mtok"


def _rate(rate: Decimal | TieredPrices, prompt: int) -> int:
    """Pico-dollars per token for a prompt of so many tokens. Raises UserError when inexact."""
    if isinstance(rate, TieredPrices):
        reached = [tier.price for tier in rate.tiers if prompt > tier.start]
        rate = reached[-1] if reached else rate.base
    return token_price(rate.scaleb(-3))
