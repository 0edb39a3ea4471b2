"""Names as gateways write them."""

import pytest

from exporter.prices.modelnames import ModelName, read, variants


@pytest.mark.parametrize(
    ("model", "charger", "listed", "bare"),
    [
        ("deepseek-chat", "", "deepseek-chat", "deepseek-chat"),
        (" DeepSeek-Chat\t", "", "deepseek-chat", "deepseek-chat"),
        ("deepseek/deepseek-chat", "deepseek", "deepseek-chat", "deepseek-chat"),
        (
            "openrouter/deepseek/deepseek-chat",
            "openrouter",
            "deepseek/deepseek-chat",
            "deepseek-chat",
        ),
        ("openai:gpt-4o", "openai", "gpt-4o", "gpt-4o"),
        ("azure_ai/gpt-4o", "azure", "gpt-4o", "gpt-4o"),
        ("azure/eu/gpt-4o", "azure", "eu/gpt-4o", "eu/gpt-4o"),
        ("models/gemini-2.5-pro", "google", "gemini-2.5-pro", "gemini-2.5-pro"),
        ("publishers/google/models/gemini-2.5-pro", "google", "gemini-2.5-pro", "gemini-2.5-pro"),
        (
            "projects/p/locations/l/publishers/anthropic/models/claude-opus-4@20250514",
            "google",
            "claude-opus-4-20250514",
            "claude-opus-4-20250514",
        ),
        ("vertex_ai/claude-sonnet-4@default", "google", "claude-sonnet-4", "claude-sonnet-4"),
        (
            "us.anthropic.claude-x-v1:0",
            "aws",
            "us.anthropic.claude-x-v1:0",
            "anthropic.claude-x-v1:0",
        ),
        ("bedrock/eu.meta.llama3-v1:0", "aws", "eu.meta.llama3-v1:0", "meta.llama3-v1:0"),
        (
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.amazon.nova-lite-v1:0",
            "aws",
            "us.amazon.nova-lite-v1:0",
            "amazon.nova-lite-v1:0",
        ),
        ("meta-llama/Llama-3.3-70B", "", "meta-llama/llama-3.3-70b", "meta-llama/llama-3.3-70b"),
        ("my-gateway/gpt-4o", "", "my-gateway/gpt-4o", "my-gateway/gpt-4o"),
        ("gpt-4o:flex", "", "gpt-4o:flex", "gpt-4o:flex"),
        ("", "", "", ""),
        ("/", "", "/", "/"),
    ],
)
def test_a_name_says_who_charges_and_what(model: str, charger: str, listed: str, bare: str) -> None:
    assert read(model) == ModelName(model.strip().lower(), charger, listed, bare)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("deepseek-chat:free", {":free"}),
        ("claude-opus-4.6-fast", {"-fast"}),
        ("grok-4-fast-reasoning", {"-fast"}),
        ("a-fastidious-model", set()),
        ("amazon.nova-lite-v1:0", set()),
        ("ft:gpt-4o:my-org::id", set()),
    ],
)
def test_what_makes_another_product_of_a_name(name: str, found: set[str]) -> None:
    assert variants(name) == found
