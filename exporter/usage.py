"""A provider's usage object, in any spelling, as token counts; docs/usage.md has the sources.

sdk/client.py carries a copy of what lies between the marks: `make generated` writes it, and
tests/unit/exporter/test_usage.py fails while it is not current. So that part has to run on
Python 3.9 with the standard library alone.
"""

from __future__ import annotations

import functools
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

# --- usage in any spelling: a copy of exporter/usage.py, written by make generated --------------

# Tokens that a price list may charge apart, and what they count among.
EXTRAS = {
    "cache_write": "input", "cache_write_1h": "input",
    "input_audio": "input", "cached_audio": "cached_input", "output_audio": "output",
    "input_image": "input", "cached_image": "cached_input", "output_image": "output",
    "input_video": "input", "cached_video": "cached_input", "output_video": "output",
    "unexplained": "output",  # what total_tokens has beyond all that the object names
}  # fmt: skip
# What a key says: keys in snake case; in., out. and cache. stand for objects of details. A prompt
# includes what was cached. So does an input in some spellings: the keys of what was cached tell
# whether it lies inside or beside (in AI SDK 5 it depends on the provider).
SPELLINGS = {
    "prompt": "prompt_tokens prompt_token_count prompt_eval_count in.total",
    "input": "input_tokens input_token_count",
    "output": "completion_tokens output_tokens candidates_token_count response_token_count "
    "output_token_count eval_count out.total",
    "total": "total_tokens total_token_count",
    "read inside": "prompt_cache_hit_tokens cached_content_token_count cached_input_token_count "
    "cached_tokens num_cached_tokens cached_prompt_text_tokens in.cached in.cache_read",
    "read beside": "cache_read_input_tokens cache_read_input_token_count cache_read_tokens",
    "read unknown": "cached_input_tokens",
    "write inside": "in.cache_write in.cache_creation in.cached_creation",
    "write beside": "cache_creation_input_tokens cache_write_input_tokens "
    "cache_write_input_token_count cache_write_tokens cache_creation_tokens",
    "write_5m inside": "in.ephemeral_5m_input",
    "write_1h inside": "in.ephemeral_1h_input",
    "write_5m beside": "cache_creation.ephemeral_5m_input_tokens cache_details.5m",
    "write_1h beside": "cache_creation.ephemeral_1h_input_tokens cache_details.1h",
    "uncached": "prompt_cache_miss_tokens in.no_cache",
    "reasoning": "out.reasoning out.thinking reasoning_tokens reasoning_token_count",
    "reasoning inside": "reasoning_output_tokens",  # Codex: and so is what was cached
    "thoughts": "thoughts_token_count",  # beside the candidates
    "tools": "tool_use_prompt_token_count",  # beside the prompt
    "input_audio": "in.audio", "cached_audio": "cache.audio", "output_audio": "out.audio",
    "input_image": "in.image in.document prompt_image_tokens", "output_image": "out.image",
    "cached_image": "cache.image cache.document",
    "input_video": "in.video", "cached_video": "cache.video", "output_video": "out.video",
    **{f"extras.{kind}": f"extras.{kind}" for kind in EXTRAS},  # sdk/client.py's own
}  # fmt: skip
_ROLES = {key: role for role, keys in SPELLINGS.items() for key in keys.split()}
_SHORT = tuple((re.compile(pattern), short) for pattern, short in (
    (r"(?<=[a-z\d])(?=[A-Z])", "_"),
    (r"(?i)^(prompt|input)_tokens?(_details)?\.", "in."),
    (r"(?i)^(completion|output|candidates|responses?)_tokens?(_details)?\.", "out."),
    (r"(?i)^(in\.cached|cache)_tokens?_details\.", "cache."),
    (r"(?i)^in\.cache_creation_tokens?_details\.", "in."),
    (r"(?i)(?<=^)((?:in|out|cache)\..*)_tokens$", r"\1"),
))  # fmt: skip
# What may lie around the counts. Cohere bills its billed_units, not its tokens.
_WRAPPERS = ("usage", "usage_metadata", "usageMetadata", "token_usage", "tokenUsage",
             "response_metadata", "meta", "billed_units", "tokens")  # fmt: skip
_MEDIA = ("audio", "image", "video")


class UsageError(ValueError):
    """Usage that cannot be counted: str() says why, and names its keys."""


class CountError(UsageError):
    """A count that is no whole number of 0 or more."""


class Tokens(NamedTuple):
    """Of one call. The prompt has its cached part in it; extras are of them, and disjoint."""

    prompt: int
    cached: int
    completion: int
    extras: dict[str, int]


def count_tokens(usage: Any, whole: bool = True) -> Tokens | None:
    """The tokens of a decoded JSON value; None when it names none. Raises UsageError.

    whole: it is a call's own usage, which has a prompt; an estimate or a share may have none.
    """
    found: dict[str, list[int]] = {}
    named: dict[str, Any] = {}
    for path, value in _leaves(_unwrapped(usage)):
        role = _role(path)
        if value is not None and role is not None:
            found.setdefault(role, []).append(_number(path, value))
        if value and (role or "oken" in path or "ount" in path):
            named[path] = value
    try:
        return _counted(found, whole) if named else None
    except UsageError as error:
        keys = ", ".join(f"{path} {value}"[:60] for path, value in list(named.items())[:12])
        raise UsageError(f"{error}; found {keys} - at `$.usage`") from None


@functools.lru_cache(maxsize=1024)
def _role(path: str) -> str | None:
    for pattern, short in _SHORT:
        path = pattern.sub(short, path)
    return _ROLES.get(path.lower())


def _unwrapped(usage: Any) -> Any:
    """What lies inside usage_metadata and the like, when no count stands beside it."""
    for _ in range(4):
        if not isinstance(usage, dict) or any(map(_role, usage)):
            break
        inside = (usage[key] for key in _WRAPPERS if isinstance(usage.get(key), dict))
        usage = next(inside, None) or usage
    return usage


def _leaves(value: Any, path: str = "", deep: int = 4) -> Iterator[tuple[str, Any]]:
    """(dotted path, value), also of [{"modality": "AUDIO", "tokenCount": 9}]."""
    if isinstance(value, list):
        value = dict(_named(item) for item in value[:20] if isinstance(item, dict))
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        at = f"{path}.{key}" if path else key
        if isinstance(inner, (dict, list)) and deep:
            yield from _leaves(inner, at, deep - 1)
        elif len(at) < 100:
            yield at, inner


def _named(item: dict[str, Any]) -> tuple[str, Any]:
    """An element of a list of details: the text in it, and what is no text."""
    texts = [str.lower(value) for value in item.values() if isinstance(value, str)]
    return (texts or ["?"])[0], next((v for v in item.values() if not isinstance(v, str)), None)


def _number(path: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise CountError(f"not a whole number of 0 or more - at `$.usage.{path}`")
    return value


def _counted(found: dict[str, list[int]], whole: bool) -> Tokens:
    most = Counter({role: max(numbers) for role, numbers in found.items()})
    reads = [n for role, numbers in found.items() if role.startswith("read ") for n in numbers]
    hour = max(most["write_1h inside"], most["write_1h beside"])
    write = max(_written(most, "inside"), _written(most, "beside"))
    apart = max(reads, default=0) + write
    prompt = max(most["prompt"], most["input"]) or (most["uncached"] and most["uncached"] + apart)
    prompt += most["tools"]
    output = most["output"] + most["thoughts"]
    if _lies_beside(most, prompt, apart, output):
        prompt, cached = prompt + apart, max(reads, default=0)
    else:
        cached = min(reads, default=0)  # where keys disagree, the dearer
    if not prompt and whole:
        raise UsageError("no countable prompt")
    beyond = max(0, most["total"] - prompt - output)
    extras = {"cache_write": write - hour, "cache_write_1h": hour, **_media(most)}
    extras["unexplained"] = beyond if beyond != most["reasoning"] else 0
    for kind in EXTRAS:
        extras[kind] += most[f"extras.{kind}"]
    parts = {"input": prompt - cached, "cached_input": cached, "output": output + beyond}
    _check(most, parts, extras)
    return Tokens(prompt, cached, output + beyond, {k: n for k, n in extras.items() if n})


def _written(most: Counter[str], place: str) -> int:
    """Written to the cache: the sum, or its parts by time to live where there is no such sum."""
    parts = most[f"write_5m {place}"] + most[f"write_1h {place}"]
    return max(most[f"write {place}"], parts)


def _lies_beside(most: Counter[str], prompt: int, apart: int, output: int) -> bool:
    """Whether the prompt as given lacks what was cached: by the keys and the total."""
    places = {role.split()[1] for role, number in most.items() if number and " " in role}
    if most["prompt"] >= max(1, most["input"]) or "input" not in most:
        places = {"inside"}
    if len(places) > 1:
        places.discard("unknown")
    rest, outputs = most["total"] - prompt, (output, output + most["reasoning"])
    inside, beside = rest in outputs and apart <= prompt, rest - apart in outputs
    if not apart or inside == beside:  # the total does not say
        inside = beside = False
    if places <= {"inside"} or not apart:
        return beside
    if places == {"beside"} and not inside:
        return True
    if beside or apart > prompt:
        return True
    if inside and len(places) > 1:
        return False
    raise UsageError(
        "whether input tokens include cached ones cannot be told: "
        "say prompt_tokens and prompt_cache_hit_tokens"
    )


def _media(most: Counter[str]) -> dict[str, int]:
    """Tokens of sound and pictures, the cached ones apart from the others."""
    kinds = {kind: most[kind] for kind in EXTRAS if kind.endswith(_MEDIA)}
    for medium in _MEDIA:
        kinds[f"input_{medium}"] -= kinds[f"cached_{medium}"]
    return kinds


def _check(most: Counter[str], parts: dict[str, int], extras: dict[str, int]) -> None:
    """No detail is larger than its whole. Raises UsageError."""
    for part, tokens in parts.items():
        details = [extras[kind] for kind, among in EXTRAS.items() if among == part]
        if min(details) < 0 or sum(details) > tokens:
            raise UsageError("details are more than their whole")
    uncached = parts["input"] - extras["cache_write"] - extras["cache_write_1h"]
    if most["reasoning"] > parts["output"] or most["uncached"] > uncached:
        raise UsageError("details are more than their whole")


# --- end of the copy ----------------------------------------------------------------------------


def split_total(usage: Any, prompt_share: float) -> dict[str, int] | None:
    """Usage of a total alone, of which so much was the prompt; None where there is more or less."""
    named = [(_role(path), value) for path, value in _leaves(_unwrapped(usage)) if value]
    totals = [value for role, value in named if role == "total" and type(value) is int]
    if max(totals, default=0) <= 0 or any(role not in ("total", None) for role, _ in named):
        return None
    prompt = max(1, round(max(totals) * prompt_share))
    return {"prompt_tokens": prompt, "completion_tokens": max(totals) - prompt}


def copied(client: str) -> str:
    """A client's source with a fresh copy of the part between the marks."""
    marks = re.compile(r"# --- usage in any spelling.*# --- end of the copy -+\n", re.DOTALL)
    part = marks.search(Path(__file__).read_text(encoding="utf-8"))
    assert part is not None
    return marks.sub(lambda _: part[0], client, count=1)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(copied(path.read_text(encoding="utf-8")), encoding="utf-8")
