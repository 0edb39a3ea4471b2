"""Usage objects as providers, gateways and libraries spell them: counted alike, or refused."""

import re
from typing import Any

import pytest

from exporter.intake.logs.mapping import split_total
from sdk.client import EXTRAS, SPELLINGS, UsageError, count_tokens, service_tier_of
from tests.support.paths import ROOT

PAGE = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", (ROOT / "docs" / "usage.md").read_text()).lower()


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        # Prompt (cached ones included), cached, completion, what may be charged apart.
        ({"input_tokens": 812, "output_tokens": 143, "total_tokens": 955}, (812, 0, 143, {})),
        (
            {
                "input_tokens": 2006,
                "input_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 6},
                "output_tokens": 300,
                "output_tokens_details": {"reasoning_tokens": 200},
                "total_tokens": 2306,
            },
            (2006, 1000, 300, {"cache_write": 6}),
        ),
        (
            {"input_tokens": 12, "cache_read_input_tokens": 800, "output_tokens": 143},
            (812, 800, 143, {}),
        ),
        (
            {
                "input_tokens": 3,
                "cache_creation_input_tokens": 100,
                "cache_read_input_tokens": 40,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 60,
                    "ephemeral_1h_input_tokens": 40,
                },
                "output_tokens": 7,
                "server_tool_use": None,
                "service_tier": "standard",
            },
            (143, 40, 7, {"cache_write": 60, "cache_write_1h": 40}),
        ),
        (
            {"prompt_cache_hit_tokens": 100, "prompt_cache_miss_tokens": 20,
             "completion_tokens": 3},
            (120, 100, 3, {}),
        ),
        ({"promptTokens": 9, "completionTokens": 2, "totalTokens": 11}, (9, 0, 2, {})),
        ({"inputTokens": 812, "outputTokens": 143, "totalTokens": 955}, (812, 0, 143, {})),
        (
            {
                "inputTokens": 2224,
                "inputTokenDetails": {
                    "noCacheTokens": 170,
                    "cacheReadTokens": 2048,
                    "cacheWriteTokens": 6,
                },
                "outputTokens": 1469,
                "outputTokenDetails": {"textTokens": 317, "reasoningTokens": 1152},
                "totalTokens": 3693,
                "reasoningTokens": 1152,
                "cachedInputTokens": 2048,
            },
            (2224, 2048, 1469, {"cache_write": 6}),
        ),
        (
            {
                "inputTokens": {"total": 2224, "noCache": 176, "cacheRead": 2048},
                "outputTokens": {"total": 10, "text": 10, "reasoning": 0},
            },
            (2224, 2048, 10, {}),
        ),
        ({"inputTokens": 3, "cachedInputTokens": 800, "outputTokens": 1}, (803, 800, 1, {})),
        (
            {
                "promptTokenCount": 812,
                "cachedContentTokenCount": 500,
                "candidatesTokenCount": 143,
                "thoughtsTokenCount": 100,
                "toolUsePromptTokenCount": 5,
                "totalTokenCount": 1060,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 512},
                    {"modality": "AUDIO", "tokenCount": 300},
                ],
                "cacheTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 400},
                    {"modality": "AUDIO", "tokenCount": 100},
                ],
            },
            (817, 500, 243, {"input_audio": 200, "cached_audio": 100}),
        ),
        (
            {
                "inputTokens": 4,
                "outputTokens": 5,
                "cacheReadInputTokens": 10,
                "cacheWriteInputTokens": 20,
                "cacheDetails": [{"inputTokens": 20, "ttl": "1h"}],
                "totalTokens": 39,
            },
            (34, 10, 5, {"cache_write_1h": 20}),
        ),
        (
            {
                "billed_units": {"input_tokens": 5, "output_tokens": 418},
                "tokens": {"input_tokens": 71, "output_tokens": 418},
            },
            (5, 0, 418, {}),
        ),
        ({"prompt_eval_count": 26, "eval_count": 290, "total_duration": 5e9}, (26, 0, 290, {})),
        (
            {
                "input_tokens": 350,
                "output_tokens": 240,
                "total_tokens": 590,
                "input_token_details": {"audio": 10, "cache_creation": 200, "cache_read": 100},
                "output_token_details": {"audio": 10, "reasoning": 200},
            },
            (350, 100, 240, {"cache_write": 200, "input_audio": 10, "output_audio": 10}),
        ),
        (
            {  # langchain-anthropic: the parts replace the sum
                "input_tokens": 350,
                "output_tokens": 2,
                "input_token_details": {"cache_creation": 0, "ephemeral_1h_input_tokens": 200},
            },
            (350, 0, 2, {"cache_write_1h": 200}),
        ),
        ({"usage_metadata": {"input_tokens": 350, "output_tokens": 240}}, (350, 0, 240, {})),
        (
            {"response_metadata": {"token_usage": {"prompt_tokens": 9, "completion_tokens": 2}}},
            (9, 0, 2, {}),
        ),
        ({"usage": {"prompt_tokens": 9, "completion_tokens": 2}, "cost": 0.1}, (9, 0, 2, {})),
        (
            {  # Codex: inside, as OpenAI has it
                "input_tokens": 226616,
                "cache_creation_input_tokens": 0,
                "cached_input_tokens": 176640,
                "output_tokens": 1670,
                "reasoning_output_tokens": 529,
                "total_tokens": 228286,
            },
            (226616, 176640, 1670, {}),
        ),
        (
            {"inputTokens": 4, "cacheReadTokens": 10, "cacheWriteTokens": 20, "outputTokens": 5},
            (34, 10, 5, {"cache_write": 20}),
        ),
        (
            {  # a gateway: both families of names, one of them empty
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "input_tokens": 0,
                "output_tokens": 0,
                "input_tokens_details": None,
            },
            (9, 0, 2, {}),
        ),
        (
            {"prompt_tokens": 10, "cache_read_input_tokens": 90, "completion_tokens": 5,
             "total_tokens": 105},
            (100, 90, 5, {}),
        ),
        ({"prompt_tokens": 9, "cached_tokens": 4, "completion_tokens": 2}, (9, 4, 2, {})),
        ({"input_tokens": 0, "cache_read_input_tokens": 7, "output_tokens": 1}, (7, 7, 1, {})),
        (
            {  # two keys that disagree: the dearer
                "prompt_tokens": 9,
                "prompt_cache_hit_tokens": 0,
                "prompt_tokens_details": {"cached_tokens": 4},
            },
            (9, 0, 0, {}),
        ),
        ({"prompt_tokens": 8, "total_tokens": 8}, (8, 0, 0, {})),  # embeddings
        # Llama on Bedrock, watsonx, Spring AI.
        ({"prompt_token_count": 9, "generation_token_count": 4}, (9, 0, 4, {})),
        ({"input_token_count": 9, "generated_token_count": 4}, (9, 0, 4, {})),
        ({"promptTokens": 9, "generationTokens": 4, "totalTokens": 13}, (9, 0, 4, {})),
        # Protobuf's numbers as JSON has them, and Cohere's.
        ({"promptTokenCount": "9", "candidatesTokenCount": "4"}, (9, 0, 4, {})),
        ({"billed_units": {"input_tokens": 9.0, "output_tokens": 4.0}}, (9, 0, 4, {})),
        (
            {  # OpenAI's .NET library
                "InputTokenCount": 108,
                "OutputTokenCount": 30,
                "InputTokenDetails": {"CachedTokenCount": 40, "AudioTokenCount": 50},
                "OutputTokenDetails": {"ReasoningTokenCount": 4, "AudioTokenCount": 10},
            },
            (108, 40, 30, {"input_audio": 50, "output_audio": 10}),
        ),
        (
            {  # Qwen, whose input says pictures beside its details, too
                "input_tokens": 1270,
                "input_tokens_details": {"text_tokens": 23},
                "image_tokens": 1247,
                "output_tokens": 54,
            },
            (1270, 0, 54, {"input_image": 1247}),
        ),
        (
            {  # SGLang says where the cached ones lay
                "prompt_tokens": 100,
                "completion_tokens": 3,
                "prompt_tokens_details": {
                    "cached_tokens": 60,
                    "cached_tokens_details": {"device": 50, "host": 10},
                },
            },
            (100, 60, 3, {}),
        ),
        (
            {  # Pydantic AI, whose details are Anthropic's own figures
                "input_tokens": 108,
                "cache_read_tokens": 60,
                "cache_write_tokens": 40,
                "cache_audio_read_tokens": 0,
                "output_tokens": 3,
                "details": {"input_tokens": 8, "cache_read_input_tokens": 60},
            },
            (108, 60, 3, {"cache_write": 40}),
        ),
        (
            {  # LangChain, of a call in a service tier
                "input_tokens": 108,
                "input_token_details": {"priority_cache_read": 60, "priority": 48},
                "output_tokens": 3,
                "output_token_details": {"priority_reasoning": 2, "priority": 1},
            },
            (108, 60, 3, {}),
        ),
    ],
)  # fmt: skip
def test_a_spelling_is_counted(usage: dict[str, Any], expected: Any) -> None:
    assert count_tokens(usage) == expected


@pytest.mark.parametrize(
    "written",
    [
        {"prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 17102}},
        {"prompt_tokens_details": {"cached_tokens": 0, "cache_creation_tokens": 17102}},
        {"prompt_tokens_details": {"cached_creation_tokens": 17102}},
        {"cache_creation_input_tokens": 17102, "cache_read_input_tokens": 0},
        {"cache_creation_input_tokens": 17102, "prompt_tokens_details": {"cached_tokens": 0}},
        {"prompt_tokens_details": {
            "cache_creation_token_details": {"ephemeral_5m_input_tokens": 17102}}},
        {"prompt_tokens_details": {  # Qwen
            "cache_creation": {"ephemeral_5m_input_tokens": 17102},
            "cache_creation_input_tokens": 17102, "cache_type": "ephemeral"}},
    ],
)  # fmt: skip
def test_cache_writes_are_found(written: dict[str, Any]) -> None:
    usage = {"prompt_tokens": 17111, "completion_tokens": 50, **written}
    assert count_tokens(usage) == (17111, 0, 50, {"cache_write": 17102})


@pytest.mark.parametrize("key", ["completion_tokens_details", "output_tokens_details"])
def test_a_total_above_the_sum_is_output_where_reasoning_says_so(key: str) -> None:
    usage = {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 341}
    assert count_tokens({**usage, key: {"reasoning_tokens": 300}}) == (32, 0, 309, {})
    for reasoning in (None, 0, 299):
        usage[key] = {"reasoning_tokens": reasoning}
        if not reasoning or reasoning <= 309:
            assert count_tokens(usage) == (32, 0, 309, {"unexplained": 300})


def test_a_total_below_the_sum_is_no_evidence_of_less() -> None:
    usage = {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 40}
    assert count_tokens(usage) == (32, 0, 9, {})


@pytest.mark.parametrize(
    ("usage", "why"),
    [
        ({"total_tokens": 955}, "no countable prompt; found total_tokens 955"),
        ({"completion_tokens": 5}, "no countable prompt; found completion_tokens 5"),
        ({"prompt_tokens": 0, "completion_tokens": 5}, "no countable prompt"),
        ({"cachedInputTokens": 7, "inputTokens": None}, "no countable prompt"),
        ({"cache_read_input_tokens": 7, "total_tokens": 40}, "no countable prompt"),
        ({"tokens_evaluated": 8, "tokens_predicted": 3}, "tokens_evaluated 8, tokens_predicted 3"),
        ({"prompt_tokens": 3, "prompt_cache_hit_tokens": 4}, "more than their whole"),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"audio_tokens": 4}}, "their whole"),
        ({"prompt_tokens": 3, "prompt_tokens_details":
            {"cached_tokens": 2, "cache_write_tokens": 2}}, "their whole"),
        ({"prompt_tokens": 3, "completion_tokens": 2,
            "completion_tokens_details": {"reasoning_tokens": 3}}, "their whole"),
        ({"prompt_tokens": 3, "completion_tokens": 2,
            "completion_tokens_details": {"audio_tokens": 3}}, "their whole"),
        ({"prompt_tokens": 3, "prompt_tokens_details":
            {"cached_tokens_details": {"audio_tokens": 1}}}, "their whole"),
        ({"prompt_tokens": 20, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 17},
            "their whole"),
        # Cursor's exclude what was cached, GitHub Copilot's include it.
        ({"input_tokens": 108, "cache_read_tokens": 100, "output_tokens": 3}, "cannot be told"),
        # An output, or a write to a cache, that would be booked as nothing.
        ({"prompt_tokens": 9, "new_tokens": 4}, "no output by a known key"),
        ({"prompt_tokens": 9, "completion_tokens": {"count": 4}}, "no output by a known key"),
        ({"promptTokenCount": 8, "candidatesTokenCount": [5, 6]}, "not a whole number"),
        ({"prompt_tokens": 8, "completion_tokens": 3, "prompt_cache_write_tokens": 2},
            "a key for cached tokens that is not known"),
        # AI SDK 5 hands on what its provider says: OpenAI's include, Anthropic's do not.
        ({"inputTokens": 2224, "cachedInputTokens": 2048, "outputTokens": 9, "totalTokens": 2233},
            "cannot be told"),
        # The keys say beside, the total says inside.
        ({"input_tokens": 812, "cache_read_input_tokens": 800, "output_tokens": 143,
          "total_tokens": 955}, "cannot be told"),
        *(({"prompt_tokens": odd}, "not a whole number of 0 or more - at `$.usage.prompt_tokens`")
          for odd in (-1, 1.5, "-7", "7.5", "", True, [7])),
        ({"inputTokenDetails": {"cacheReadTokens": -1}}, "$.usage.inputTokenDetails.cacheReadTok"),
    ],
)  # fmt: skip
def test_what_cannot_be_counted_is_refused_naming_the_keys(usage: Any, why: str) -> None:
    with pytest.raises(UsageError) as refusal:
        count_tokens(usage)
    assert why in str(refusal.value)
    assert len(str(refusal.value)) < 1200


COMPACTION: dict[str, Any] = {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500}
ADVICE: dict[str, Any] = {
    "type": "advisor_message",
    "model": "m",
    "input_tokens": 800,
    "output_tokens": 90,
}
ANSWER: dict[str, Any] = {
    "type": "message",
    "input_tokens": 10,
    "cache_read_input_tokens": 7,
    "output_tokens": 100,
}


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        (None, (17, 7, 100, {})),
        ([], (17, 7, 100, {})),
        ([ANSWER], (17, 7, 100, {})),
        ([COMPACTION, ANSWER], (180_017, 7, 3600, {})),
        ([ADVICE, ANSWER], (817, 7, 190, {"unexplained": 90})),  # at another model's price
        ([{"type": "message", "input_tokens": 1}], (17, 7, 100, {})),  # never below the sum
        ("odd", (17, 7, 100, {})),
        ([None, 5], (17, 7, 100, {})),
    ],
)
def test_iterations_are_counted_of_which_the_figures_above_know_nothing(
    rounds: Any, expected: Any
) -> None:
    assert count_tokens({**ANSWER, "iterations": rounds}) == expected


def test_iterations_are_bounded() -> None:
    nested: Any = ANSWER
    for _ in range(900):
        nested = {**ANSWER, "iterations": [nested]}
    assert count_tokens(nested) == (17, 7, 100, {})
    with pytest.raises(UsageError, match="more than 100 iterations"):
        count_tokens({**ANSWER, "iterations": [ANSWER] * 101})


@pytest.mark.parametrize(
    ("said", "usage", "tier"),
    [
        (None, None, ""),
        ("Flex", {"service_tier": "standard"}, "flex"),
        ({"type": "priority"}, {}, "priority"),  # Bedrock
        ({"type": "default"}, {}, ""),
        (None, {"speed": "fast", "inference_geo": "us"}, "fast_us"),  # Anthropic
        (None, {"speed": "standard", "inference_geo": "not_available"}, ""),
        (None, {"trafficType": "ON_DEMAND"}, ""),
        (None, {"usage_metadata": {"traffic_type": "ON_DEMAND_PRIORITY"}}, "on_demand_priority"),
        (None, {"input_token_details": {"flex": 48}}, "flex"),
        (None, {"server_tool_use": {"web_search_requests": 2}}, "searches"),
        ("flex", {"prompt_tokens": 9, "num_sources_used": 15}, "flex_searches"),
        (None, {"server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 1}}, ""),
        (7, {}, "unknown"),
        ("v1:0", [], "unknown"),
    ],
)
def test_another_price_is_told_wherever_a_usage_object_says_so(
    said: Any, usage: Any, tier: str
) -> None:
    assert service_tier_of(said, usage) == tier


@pytest.mark.parametrize("usage", [None, {}, [], "x", 5, {"prompt_tokens": 0, "total_tokens": 0},
                                   {"prompt_tokens": None}, {"cost": 0.1}])  # fmt: skip
def test_nothing_is_none(usage: Any) -> None:
    assert count_tokens(usage) is None


def test_any_object_is_read_in_bounded_time() -> None:
    deep: Any = {"prompt_tokens": 1}
    for _ in range(5000):
        deep = {"usage": deep, "x": deep}
    assert count_tokens(deep) is None
    wide = {"k" * 99 + str(n): n for n in range(10_000)}
    assert count_tokens({**wide, "prompt_tokens": 3}) == (3, 0, 0, {})


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"total_tokens": 955}, (764, 191)),
        ({"totalTokens": 955, "cost": 0.1}, (764, 191)),
        ({"total_tokens": 1}, (1, 0)),
        ({"total_tokens": 955, "completion_tokens": 5}, None),
        ({"total_tokens": 0}, None),
        ({"total_tokens": -5}, None),
        ({"total_tokens": "955"}, (764, 191)),
        ({"total_tokens": 955, "completion_tokens": "5"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_total_alone_is_split_where_the_log_map_says_how(usage: Any, expected: Any) -> None:
    made = split_total(usage, 0.8)
    assert (made and tuple(made.values())) == expected


def test_every_key_is_documented() -> None:
    for line in SPELLINGS.strip().splitlines():
        for key in line.partition(": ")[2].split():
            assert key.rpartition(".")[2] in PAGE, f"docs/usage.md does not name {key}"
    for kind in EXTRAS:
        assert f"`{kind}`" in PAGE
