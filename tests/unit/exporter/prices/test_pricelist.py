"""Which list prices a call: budget.yml's, genai-prices', or none; edits, and the price in force."""

from decimal import Decimal
from pathlib import Path

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
    found = NONE.find("gpt-4o", "deepseek", at("2026-11-24T12:00:00"))
    assert found is not None
    assert (found.provider, found.source, found.model) == ("openai", SOURCE, "gpt-4o")
    assert (found.input, found.cached_input, found.output) == (2_500_000, 1_250_000, 10_000_000)


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
