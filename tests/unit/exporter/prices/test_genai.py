"""genai-prices: its lists as they are, exact or no price at all."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ConditionalPrice, TimeOfDateConstraint

from exporter.prices.genai import find_price
from tests.support.exporters import NOON, Exporter, event
from tests.support.prices import NONE, at, rates


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2027-01-15T00:29:59", (135_000, 35_000, 550_000)),
        ("2027-01-15T00:30:00", (550_000, 140_000, 2_190_000)),
        ("2027-01-15T16:29:59.999", (550_000, 140_000, 2_190_000)),
        ("2027-01-15T16:30:00", (135_000, 35_000, 550_000)),
    ],
)
def test_genais_times_of_day_hold_to_the_second(
    moment: str, expected: tuple[int, int, int]
) -> None:
    """Its entry for DeepSeek's R1, per million: 0.55, 0.14, 2.19 from 00:30 to 16:30 UTC."""
    assert rates(NONE, "deepseek-reasoner", moment) == expected


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-12-31T23:59:59.999", (750_000, 75_000, 3_750_000)),
        ("2027-01-01T00:00:00", (1_500_000, 150_000, 7_500_000)),
    ],
)
def test_genais_dated_prices_hold_from_their_date(
    moment: str, expected: tuple[int, int, int]
) -> None:
    """Its entry for Gemini 3.6 Flash, per million: 0.75, 0.075, 3.75; twice that from 2027 on."""
    assert rates(NONE, "gemini-3.6-flash", moment, provider="google") == expected


@pytest.mark.parametrize(
    ("prompt", "calls", "expected"),
    [
        (200_000, 1, (1_250_000, 125_000, 10_000_000)),
        (200_001, 1, (2_500_000, 250_000, 15_000_000)),
        (200_000, 7, (1_250_000, 125_000, 10_000_000)),  # the largest prompt is below: all are
        (200_001, 2, None),  # which of the two was above is not known
    ],
)
def test_a_price_by_prompt_length_is_exact_or_none(
    prompt: int, calls: int, expected: tuple[int, int, int] | None
) -> None:
    """Gemini 2.5 Pro, per million: 1.25, 0.125, 10; beyond 200,000 prompt tokens 2.5, 0.25, 15."""
    asked: dict[str, Any] = {"provider": "google", "largest_prompt": prompt, "calls": calls}
    assert rates(NONE, "gemini-2.5-pro", "2026-11-24T12:00:00", **asked) == expected


@pytest.mark.parametrize(
    ("provider", "model", "why"),
    [
        ("perplexity", "sonar", "charged per request too"),
        ("perplexity", "sonar-deep-research", "reasoning tokens have a price of their own"),
        ("huggingface_together", "meta-llama/Llama-3.3-70B-Instruct", "1.0399999999999998"),
        ("openai", "tts-1", "by characters"),
        ("openai", "text-embedding-3-small", "no output price"),
        ("openai", "gpt-unheard-of", "no such model"),
        ("nobody", "gpt-4o", "no such provider"),
        ("openrouter", "gpt-4o", "not this provider's name for it"),
    ],
)
def test_a_price_that_would_not_be_exact_is_none(provider: str, model: str, why: str) -> None:
    assert rates(NONE, model, "2026-11-24T12:00:00", provider=provider) is None, why


WRITTEN = {"cache_creation_input_tokens": 17_102, "prompt_tokens": 17_111, "completion_tokens": 50}


def test_tokens_that_the_list_charges_apart_cost_what_it_says(tmp_path: Path) -> None:
    """Claude Sonnet 4.5, per million: 3, cache writes 3.75 and for an hour 6, output 15."""
    claude = {"model": "claude-sonnet-4-5", "provider": "anthropic"}
    hour = {"cache_creation": {"ephemeral_1h_input_tokens": 102}}
    with Exporter(tmp_path) as exporter:
        exporter.book(event(**claude) | {"usage": WRITTEN})
        plain = 9 * 3 + 50 * 15
        assert exporter.spend() == (plain + 17_102 * Decimal("3.75")) / 10**6
        exporter.book(event(**claude, estimated=True) | {"usage": WRITTEN | hour})
        both = 2 * plain + 34_102 * Decimal("3.75") + 102 * 6
        assert exporter.spend() == both / 10**6
        series = {"roaster": "blue-tokai", "field": "notes", "model": "claude-sonnet-4-5"}
        assert exporter.value("llm_tokens_total", type="input", **series) == 2 * 17_111
        assert exporter.value("llm_requests_total", outcome="success", **series) == 2
        assert exporter.value("llm_unpriced_tokens_total", model="claude-sonnet-4-5") is None
        estimated = exporter.value("llm_estimated_cost_usd_total", model="claude-sonnet-4-5")
        assert estimated == pytest.approx((plain + 17_000 * 3.75 + 102 * 6) / 10**6)


def test_tokens_of_a_kind_that_the_list_has_no_price_for_are_withheld(tmp_path: Path) -> None:
    """gpt-4o has a price for cached text, but none for pictures; deepseek-chat none for writes."""
    pictured = {"prompt_tokens": 100, "prompt_tokens_details": {"image_tokens": 50}}
    above = {"prompt_tokens": 90, "completion_tokens": 5, "total_tokens": 100}
    with Exporter(tmp_path) as exporter:
        exporter.book(event(model="gpt-4o", provider="openai") | {"usage": pictured})
        exporter.book(event(model="gpt-4o", provider="openai") | {"usage": above})
        exporter.book(event() | {"usage": WRITTEN})
        assert exporter.spend() == 0
        assert exporter.value("llm_unpriced_pending_tokens", model="gpt-4o") == 200
        assert exporter.value("llm_unpriced_pending_tokens", model="deepseek-chat") == 17_161


@pytest.mark.parametrize(
    ("provider", "model", "usage", "expected"),
    [
        (
            "openai",
            "gpt-audio",
            {
                "prompt_tokens": 1000,
                "completion_tokens": 900,
                "prompt_tokens_details": {"audio_tokens": 900},
                "completion_tokens_details": {"audio_tokens": 850},
            },
            Usage(
                input_tokens=1000,
                input_audio_tokens=900,
                output_tokens=900,
                output_audio_tokens=850,
            ),
        ),
        (
            "google",
            "gemini-2.5-flash",
            {
                "promptTokenCount": 1000,
                "cachedContentTokenCount": 500,
                "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 300}],
                "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 200}],
                "candidatesTokenCount": 10,
                "thoughtsTokenCount": 20,
            },
            Usage(
                input_tokens=1000,
                cache_read_tokens=500,
                input_audio_tokens=300,
                cache_audio_read_tokens=200,
                output_tokens=30,
            ),
        ),
        (
            "anthropic",
            "claude-sonnet-4-5",
            {
                "input_tokens": 250_000,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 60,
                    "ephemeral_1h_input_tokens": 40,
                },
                "output_tokens": 7,
            },
            Usage(
                input_tokens=250_100,
                cache_write_tokens=100,
                cache_write_1h_tokens=40,
                output_tokens=7,
            ),
        ),
    ],
)
def test_extra_tokens_cost_what_genai_prices_itself_says(
    tmp_path: Path, provider: str, model: str, usage: dict[str, Any], expected: Usage
) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.book(event(model=model, provider=provider) | {"usage": usage})
        moment = datetime.fromtimestamp(NOON, UTC)
        cost = calc_price(expected, model, provider_id=provider, genai_request_timestamp=moment)
        assert exporter.spend() == cost.total_price


def every_model() -> list[tuple[str, str]]:
    return [
        (provider.id, model.id)
        for provider in get_snapshot().providers
        for model in provider.models
    ]


def test_what_we_price_costs_what_genai_prices_itself_says() -> None:
    """Every model of its data, short and long prompts, at a peak and an off-peak hour."""
    checked = 0
    for provider, model in every_model():
        for moment in (at("2026-11-24T02:00:00"), at("2027-03-01T18:00:00")):
            for prompt in (1000, 900_001):
                price = NONE.find(model, provider, moment, prompt).get("")
                if price is None:
                    continue
                expected = calc_price(
                    Usage(input_tokens=prompt, cache_read_tokens=400, output_tokens=100),
                    model,
                    provider_id=provider,
                    genai_request_timestamp=datetime.fromtimestamp(moment, UTC),
                )
                assert price.cost(prompt - 400, 400, 100) == expected.total_price * 10**12
                checked += 1
    assert checked > 6000, "most of its models have a price"


def test_genais_prices_change_on_whole_minutes_only() -> None:
    """One look-up a minute is enough, and so is unpriced usage by the minute."""
    for provider in get_snapshot().providers:
        for model in provider.models:
            for entry in model.prices if isinstance(model.prices, list) else []:
                assert isinstance(entry, ConditionalPrice)
                if isinstance(entry.constraint, TimeOfDateConstraint):
                    for moment in (entry.constraint.start_time, entry.constraint.end_time):
                        assert moment.second == moment.microsecond == 0


def test_inventions_are_looked_up_once_and_not_kept_for_ever() -> None:
    bound = find_price.cache_info().maxsize
    assert bound is not None
    for number in range(bound + 100):
        NONE.find(f"invention-{number}", "nobody", NOON)
    assert find_price.cache_info().currsize == bound
