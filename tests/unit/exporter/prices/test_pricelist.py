"""Which list prices a call: budget.yml's, genai-prices', or none; edits, and the price in force."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exporter.ledger.repricing import Reprice
from exporter.prices.genai import SOURCE
from tests.support.exporters import NOON, Exporter, event
from tests.support.prices import DEEPSEEK_2025, NONE, at, price_list, rates


def test_before_its_first_date_a_model_has_no_price_and_no_other_list_is_asked(
    tmp_path: Path,
) -> None:
    text = """
prices:
  deepseek-chat: {valid_from: 2026-12-01, input_usd_per_1k: 0.001, output_usd_per_1k: 0}
"""
    prices = price_list(tmp_path, text)
    assert rates(prices, "deepseek-chat", "2026-11-30T23:59:59") is None
    assert rates(prices, "deepseek-chat", "2026-12-01T00:00:00") == (1_000_000, 1_000_000, 0)


def test_an_edit_without_a_date_counts_from_now_on_and_moves_nothing(tmp_path: Path) -> None:
    """1,000 tokens at $1 per million, then the file says $2: a late call of before pays $2."""
    first = "prices: {m: {input_usd_per_1k: 0.001, output_usd_per_1k: 0}}"
    with Exporter(tmp_path, first) as exporter:
        exporter.book(event(1000, 0, model="m", id="a"))
        assert exporter.spend() == Decimal("0.001")
    with Exporter(tmp_path, first.replace("0.001", "0.002"), now=NOON + 60) as exporter:
        assert exporter.spend() == Decimal("0.001")
        exporter.book(event(1000, 0, model="m", at=NOON - 60))
        assert exporter.spend() == Decimal("0.003")
        assert exporter.book(event(1000, 0, model="m", id="a"))["duplicate"] == 1
        assert exporter.spend() == Decimal("0.003")


def test_an_edit_with_a_date_prices_a_late_call_at_its_own_time(tmp_path: Path) -> None:
    old = "{input_usd_per_1k: 0.001, output_usd_per_1k: 0}"
    new = "{input_usd_per_1k: 0.002, output_usd_per_1k: 0, valid_from: '2027-01-15T12:00Z'}"
    with Exporter(tmp_path, f"prices: {{m: [{old}, {new}]}}", now=NOON + 60) as exporter:
        exporter.book(event(1000, 0, model="m", at=NOON - 0.001))
        assert exporter.spend() == Decimal("0.001")
        exporter.book(event(1000, 0, model="m", at=NOON))
        assert exporter.spend() == Decimal("0.003")


def test_without_a_provider_the_models_maker_prices_it() -> None:
    found = NONE.find("gpt-4o", "deepseek", at("2026-11-24T12:00:00"))[""]
    assert (found.provider, found.source, found.model) == ("openai", SOURCE, "gpt-4o")
    assert (found.input, found.cached_input, found.output) == (2_500_000, 1_250_000, 10_000_000)


OURS = """
prices:
  deepseek-chat: {input_usd_per_1k: 0.00028, output_usd_per_1k: 0.00042}
  gpt-4o: {input_usd_per_1k: 0.0025, cached_input_usd_per_1k: 0.00125, output_usd_per_1k: 0.01}
  GPT-5: {input_usd_per_1k: 0.001, output_usd_per_1k: 0.001}
  "o3:flex": {input_usd_per_1k: 0.001, output_usd_per_1k: 0.004}
  twice: {input_usd_per_1k: 1, output_usd_per_1k: 1}
  Twice: {input_usd_per_1k: 2, output_usd_per_1k: 1}
"""
DATE = "2026-11-24T12:00:00"


@pytest.mark.parametrize(
    ("model", "provider", "expected"),
    [
        # budget.yml's, by other spellings and its own maker's prefix
        ("deepseek/deepseek-chat", "deepseek", (280_000, 280_000, 420_000)),
        ("DeepSeek-Chat ", "deepseek", (280_000, 280_000, 420_000)),
        ("DeepSeek/DeepSeek-Chat", "deepseek", (280_000, 280_000, 420_000)),
        ("openai:gpt-4o", "openai", (2_500_000, 1_250_000, 10_000_000)),
        ("gpt-5", "openai", (1_000_000, 1_000_000, 1_000_000)),
        # a reseller charges something else: exactly listed, or withheld
        ("deepseek/deepseek-chat", "openrouter", (257_400, 257_400, 1_028_700)),
        ("openrouter/deepseek/deepseek-chat", "deepseek", None),
        ("openrouter/deepseek/deepseek-never", "deepseek", None),
        # another date or variant of what budget.yml names
        ("deepseek-chat-v3-0324", "deepseek", None),
        ("deepseek-chat:free", "deepseek", None),
        ("deepseek-chat-fast", "deepseek", None),
        ("gpt-4o-2024-08-06", "openai", (2_500_000, 1_250_000, 10_000_000)),  # lists agree
        ("gpt-4o-2024-05-13", "openai", (5_000_000, 5_000_000, 15_000_000)),
        ("o3:flex", "openai", (1_000_000, 1_000_000, 4_000_000)),
        ("O3:Flex", "openai", (1_000_000, 1_000_000, 4_000_000)),
        ("o3:batch", "openai", None),
        ("TWICE", "openai", None),  # two spellings in budget.yml that differ
        ("twice", "openai", (10**9, 10**9, 10**9)),
        # not in budget.yml: the list that the prefix names
        ("openai/gpt-4o-mini", "deepseek", (150_000, 75_000, 600_000)),
        ("gpt-4o-mini:nitro", "deepseek", None),
        ("my-gateway/gpt-4o-mini", "deepseek", None),
        ("azure/gpt-4o-mini", "openai", None),  # name and provider contradict each other
        ("models/gemini-2.5-flash", "deepseek", (300_000, 30_000, 2_500_000)),
        (
            "us.anthropic.claude-haiku-4-5-20251001-v1:0",
            "deepseek",
            (1_100_000, 110_000, 5_500_000),
        ),
        (
            "global.anthropic.claude-haiku-4-5-20251001-v1:0",
            "deepseek",
            (1_000_000, 100_000, 5_000_000),
        ),
    ],
)
def test_a_name_in_another_spelling_has_its_own_price_or_none(
    tmp_path: Path, model: str, provider: str, expected: tuple[int, int, int] | None
) -> None:
    prices = price_list(tmp_path, OURS)
    assert rates(prices, model, DATE, provider=provider) == expected


def test_no_spelling_is_cheaper_than_the_exact_name(tmp_path: Path) -> None:
    """At any hour: genai-prices' deepseek-chat costs half of it off-peak."""
    prices = price_list(tmp_path, OURS)
    for model in ("deepseek/deepseek-chat", "DEEPSEEK-CHAT", "deepseek-chat-v3-0324"):
        for hour in range(24):
            found = rates(prices, model, f"2026-11-24T{hour:02}:00:00")
            assert found in (None, (280_000, 280_000, 420_000))


@pytest.mark.parametrize(
    ("said", "withheld"),
    [
        ({"service_tier": "flex"}, True),
        ({"service_tier": "Priority"}, True),
        ({"service_tier": "default"}, False),
        ({"service_tier": "auto"}, False),
        ({"service_tier": None}, False),
        ({"service_tier": 7}, True),
        ({"service_tier": "v1:0"}, True),
        ({"usage": {"prompt_tokens": 1000, "service_tier": "batch"}}, True),
        ({"usage": {"prompt_tokens": 1000, "service_tier": "standard"}}, False),
    ],
)
def test_a_service_tier_is_another_product(
    tmp_path: Path, said: dict[str, Any], withheld: bool
) -> None:
    with Exporter(tmp_path) as exporter:
        assert exporter.book(event(1000, 0) | said)["accepted"] == 1
        pending = exporter.value("llm_unpriced_pending_tokens", model="deepseek-chat")
        assert pending == (1000 if withheld else None if pending is None else 0)
        assert exporter.spend() == (0 if withheld else Decimal("0.00027"))


def test_a_tier_that_budget_yml_prices_is_priced_at_once_and_by_a_reprice(tmp_path: Path) -> None:
    flex = 'prices: {"m:flex": {input_usd_per_1k: 0.001, output_usd_per_1k: 0}}'
    with Exporter(tmp_path, "prices: {}", tokens=False) as exporter:
        exporter.book(event(1000, 0, model="m", service_tier="flex"))
        assert exporter.spend() == 0
    with Exporter(tmp_path, flex) as exporter:
        asked = Reprice(author="tests", reason="a price")
        assert exporter.ledger.reprice(asked).result(10).report["withheld"] == []
        assert exporter.spend() == Decimal("0.001")
        exporter.book(event(1000, 0, model="m", service_tier="flex"), event(model="m"))
        assert exporter.spend() == Decimal("0.002")
        assert exporter.value("llm_unpriced_pending_tokens", model="m") == 1100


def test_beyond_the_models_cap_only_budget_yml_is_asked(tmp_path: Path) -> None:
    with Exporter(tmp_path, "limits: {models: 1}") as exporter:
        exporter.book(event(model="gpt-4o"), event(model="gpt-4o-mini"), event())
        assert exporter.value("llm_unpriced_pending_tokens", model="other") == 1100
        # gpt-4o: 1,000 x 2.50 + 100 x 10 per million; deepseek-chat: 1,000 x 0.27 + 100 x 1.10
        assert exporter.spend() == Decimal("0.0035") + Decimal("0.00038")


def test_the_price_in_force_is_published_by_the_clock(tmp_path: Path) -> None:
    with Exporter(tmp_path, DEEPSEEK_2025, now=at("2027-01-15T16:29:00")) as exporter:
        exporter.book(event(model="gpt-4o"), event(model="gemini-3.6-flash", provider="google"))

        def price(model: str, kind: str = "input") -> float | None:
            return exporter.value("llm_price_usd_per_million_tokens", model=model, type=kind)

        assert price("deepseek-chat") == 0.27
        assert price("deepseek-chat", "cached_input") == 0.07
        assert price("gpt-4o", "output") == 10
        assert price("gemini-3.6-flash") == 1.5
        exporter.clock.advance(60)
        assert price("deepseek-chat") == 0.135
    with Exporter(tmp_path, "", now=at("2027-01-16T12:00:00")) as exporter:
        page = exporter.page()
        seen = {dict(key[1])["model"] for key in page if key[0].startswith("llm_price_")}
        assert seen == {"deepseek-chat", "gpt-4o", "gemini-3.6-flash"}
