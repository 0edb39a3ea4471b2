"""A provider's usage object, in any spelling, as token counts; docs/usage.md has the sources.

The reader is sdk/client.py's, which has to stand alone in a scraper: one table for all ways in.
"""

from typing import Any

from sdk.client import (
    EXTRAS,
    Tokens,
    UsageError,
    count_tokens,
    leaves,
    role_of,
    service_tier_of,
    unwrapped,
    whole_number,
)

# The client's, for the exporter's modules.
__all__ = ["EXTRAS", "Tokens", "UsageError", "count_tokens", "service_tier_of", "whole_number"]


def split_total(usage: Any, prompt_share: float) -> dict[str, int] | None:
    """Usage of a total alone, of which so much was the prompt; None where there is more or less."""
    named = [(role_of(path), value) for path, value in leaves(unwrapped(usage)) if value]
    total = max((n for role, n in named if role == "total" and type(n) is int), default=0)
    if total <= 0 or {role for role, _ in named} - {"total", None}:
        return None
    prompt = max(1, round(total * prompt_share))
    return {"prompt_tokens": prompt, "completion_tokens": total - prompt}
