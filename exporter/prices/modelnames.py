"""How a model's name is written, and whose price list that points to.

Gateways put the provider before the name (LiteLLM, OpenRouter: `deepseek/deepseek-chat`; LangChain:
`openai:gpt-4o`), Bedrock a region and a maker (`us.anthropic.claude-…`), Vertex a version behind
it (`claude-…@20240620`), Gemini's API `models/`. A date is never taken off.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from genai_prices.data_snapshot import get_snapshot

LOOKUPS_KEPT = 8192  # bounds what a client's inventions can make us remember
PROVIDERS = get_snapshot().providers
_PROVIDER_IDS = {provider.id for provider in PROVIDERS}
# Prefixes that are not a provider's id in genai-prices.
ALIASES = {
    "azure_ai": "azure", "azure_openai": "azure",
    "bedrock": "aws", "bedrock_converse": "aws", "amazon-bedrock": "aws", "amazon_bedrock": "aws",
    "vertex_ai": "google", "vertex_ai_beta": "google", "vertex": "google", "gemini": "google",
    "google-vertex": "google", "google-gla": "google", "google_genai": "google",
    "google_vertexai": "google", "models": "google",
    "together_ai": "together", "fireworks_ai": "fireworks", "xai": "x-ai", "z-ai": "zai",
    "mistralai": "mistral", "moonshot": "moonshotai",
}  # fmt: skip
# Whole paths, of Bedrock's and of Vertex's resources.
_PATHS = {
    "aws": re.compile(r"arn:aws.*/"),
    "google": re.compile(r"(?:projects/.+/)?publishers/.+/"),
}
_BEDROCK = re.compile(
    r"((?:us|us-gov|eu|apac|ap|au|jp|ca|sa|me|af|global)\.)?(?:ai21|amazon|anthropic|cohere|"
    r"deepseek|google|meta|minimax|mistral|moonshot|nvidia|openai|qwen|writer|zai)\.[a-z].*"
)
# What makes another product of a model, at another price.
_VARIANT = re.compile(
    r":[a-z][a-z_]*|-(?:batch|exacto|fast|flex|free|nitro|online|priority|scale)(?![a-z])"
)


class ModelName(NamedTuple):
    """A name, taken apart."""

    name: str  # in lower case, without outer blanks
    charger: str  # the id of the provider that it names, or empty
    listed: str  # as the charger's list may have it
    bare: str  # without any prefix


@lru_cache(LOOKUPS_KEPT)
def read(model: str) -> ModelName:
    """Take a name apart."""
    name = model.strip().lower()
    charger = next((who for who, path in _PATHS.items() if path.match(name)), "")
    bare = listed = name.rpartition("/")[2] if charger else name
    while (parts := re.split("[/:]", bare, maxsplit=1))[1:]:
        prefix = ALIASES.get(parts[0], parts[0])
        if prefix not in _PROVIDER_IDS:
            break
        bare = parts[1]
        charger, listed = (charger, listed) if charger else (prefix, bare)
    if found := _BEDROCK.fullmatch(bare):
        charger, listed, bare = charger or "aws", bare, bare.removeprefix(found[1] or "")
    if "@" in bare:
        bare = bare.removesuffix("@default").replace("@", "-")
        charger, listed = charger or "google", bare
    return ModelName(name, charger, listed, bare)


def variants(name: str) -> set[str]:
    """The parts of a lower-case name that make it another product: `:free`, `-fast`, …"""
    return set() if name.startswith("ft:") else set(_VARIANT.findall(name))
