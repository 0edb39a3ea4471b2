"""A provider's usage object, in any spelling, as token counts; docs/usage.md has the sources.

sdk/client.py carries what lies between the marks, without comments: `make generated` writes it, and
tests/unit/exporter/test_usage.py fails while it is not current. So it has to run on Python 3.9.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

# --- usage in any spelling ----------------------------------------------------------------------
# Tokens that a price list may charge apart, and what they count among; unexplained is what the
# total has beyond all that the object names.
EXTRAS = {
    "cache_write": "input", "cache_write_1h": "input",
    "input_audio": "input", "cached_audio": "cached_input", "output_audio": "output",
    "input_image": "input", "cached_image": "cached_input", "output_image": "output",
    "input_video": "input", "cached_video": "cached_input", "output_video": "output",
    "unexplained": "output",
}  # fmt: skip
# What keys say: in snake case; in., out. and cache. stand for objects of details, extras. is the
# client's own. A prompt includes what was cached. So does an input in some spellings: the keys of
# what was cached tell whether it lies inside or beside (in AI SDK 5 that depends on the provider).
# Thoughts lie beside the output, tools beside the prompt.
SPELLINGS = """
prompt: prompt_tokens prompt_token_count prompt_eval_count in.total
input: input_tokens input_token_count
output: completion_tokens output_tokens candidates_token_count response_token_count eval_count
output: output_token_count out.total
total: total_tokens total_token_count
read inside: prompt_cache_hit_tokens cached_content_token_count cached_input_token_count in.cached
read inside: cached_tokens num_cached_tokens cached_prompt_text_tokens in.cache_read
read beside: cache_read_input_tokens cache_read_input_token_count cache_read_tokens
read unknown: cached_input_tokens
write inside: in.cache_write in.cache_creation in.cached_creation
write beside: cache_creation_input_tokens cache_write_input_tokens cache_write_input_token_count
write beside: cache_write_tokens cache_creation_tokens
write_5m inside: in.ephemeral_5m_input
write_1h inside: in.ephemeral_1h_input
write_5m beside: cache_creation.ephemeral_5m_input_tokens cache_details.5m
write_1h beside: cache_creation.ephemeral_1h_input_tokens cache_details.1h
uncached: prompt_cache_miss_tokens in.no_cache
reasoning: out.reasoning out.thinking reasoning_tokens reasoning_token_count
reasoning inside: reasoning_output_tokens
thoughts: thoughts_token_count
tools: tool_use_prompt_token_count
input_image: prompt_image_tokens in.document
cached_image: cache.document
""" + "".join(
    f"input_{medium}: in.{medium}\ncached_{medium}: cache.{medium}\noutput_{medium}: out.{medium}\n"
    for medium in ("audio", "image", "video")
)
_ROLES = {f"extras.{kind}": f"extras.{kind}" for kind in EXTRAS}
for _line in SPELLINGS.strip().splitlines():
    _ROLES.update(dict.fromkeys(_line.partition(": ")[2].split(), _line.partition(": ")[0]))
_SHORT = (
    (r"(?<=[a-z\d])(?=[A-Z])", "_"),
    (r"(?i)^(prompt|input)_tokens?(_details)?\.(cache_creation_tokens?_details\.)?", "in."),
    (r"(?i)^(completion|output|candidates|responses?)_tokens?(_details)?\.", "out."),
    (r"(?i)^(in\.cached|cache)_tokens?_details\.", "cache."),
    (r"(?i)^((in|out|cache)\..*)_tokens$", r"\1"),
)
_PLAIN = {"prompt", "read inside", "output", "total"}
# What may lie around the counts. Cohere bills its billed_units, not its tokens.
_WRAPPERS = ("usage", "usage_metadata", "usageMetadata", "token_usage", "tokenUsage",
             "response_metadata", "meta", "billed_units", "tokens")  # fmt: skip


class UsageError(ValueError):
    """Usage that cannot be counted: str() says why, and names its keys."""


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
    named: list[tuple[str, Any]] = []
    for path, value in _leaves(_unwrapped(usage)):
        role = _role(path)
        if value and (role or "oken" in path or "ount" in path):
            named.append((path, value))
        if role and value is not None:
            if type(value) is not int or value < 0:
                raise UsageError(f"not a whole number of 0 or more - at `$.usage.{path}`")
            found.setdefault(role, []).append(value)
    try:
        return _counted(found, whole) if named else None
    except UsageError as error:
        keys = ", ".join(f"{path} {value}"[:120] for path, value in named[:12])
        raise UsageError(f"{error}; found {keys} - at `$.usage`") from None


@functools.lru_cache(maxsize=1024)
def _role(path: str) -> str | None:
    for pattern, short in _SHORT:
        path = re.sub(pattern, short, path)
    return _ROLES.get(path.lower())


def _unwrapped(usage: Any) -> Any:
    for _ in range(4):
        if isinstance(usage, dict) and not any(map(_role, usage)):
            inside = (usage[key] for key in _WRAPPERS if isinstance(usage.get(key), dict))
            usage = next(inside, usage)
    return usage


def _leaves(value: Any, path: str = "", deep: int = 4) -> Iterator[tuple[str, Any]]:
    """(dotted path, value), bounded; [{"modality": "AUDIO", "tokenCount": 9}] is {"audio": 9}."""
    if isinstance(value, list):
        pairs = [list(item.values()) for item in value[:20] if isinstance(item, dict)]
        texts = [sorted(pair, key=lambda x: not isinstance(x, str)) for pair in pairs]
        value = {t[0].lower(): t[1] for t in texts if len(t) == 2 and isinstance(t[0], str)}
    for key, inner in value.items() if isinstance(value, dict) and deep else ():
        at = f"{path}.{key}" if path else key
        if isinstance(inner, (dict, list)):
            yield from _leaves(inner, at, deep - 1)
        elif len(at) < 100:
            yield at, inner


def _counted(found: dict[str, list[int]], whole: bool) -> Tokens:
    most = Counter({role: max(numbers) for role, numbers in found.items()})
    prompt, cached, output = most["prompt"], most["read inside"], most["output"]
    if found.keys() <= _PLAIN and cached <= prompt > 0 and most["total"] in (0, prompt + output):
        return Tokens(prompt, min(found.get("read inside", [0])), output, {})  # the same, sooner
    reads = [n for role, numbers in found.items() if role.startswith("read ") for n in numbers]
    hour = max(most["write_1h inside"], most["write_1h beside"])
    five = max(most["write_5m inside"], most["write_5m beside"])
    write = max(most["write inside"], most["write beside"], five + hour)
    apart = max(reads, default=0) + write
    prompt = max(most["prompt"], most["input"]) or (most["uncached"] and most["uncached"] + apart)
    prompt, output = prompt + most["tools"], most["output"] + most["thoughts"]
    cached = min(reads, default=0)  # where keys disagree, the dearer
    if _lies_beside(most, prompt, apart, output):
        prompt, cached = prompt + apart, max(reads, default=0)
    if not prompt and (whole or not any(most.values())):
        raise UsageError("no countable prompt")
    beyond = max(0, most["total"] - prompt - output)
    unexplained = beyond if beyond != most["reasoning"] else 0
    extras = _extras(most, cache_write=write - hour, cache_write_1h=hour, unexplained=unexplained)
    parts = {"input": prompt - cached, "cached_input": cached, "output": output + beyond}
    _check(parts, extras, uncached=most["uncached"], reasoning=most["reasoning"])
    return Tokens(prompt, cached, output + beyond, {k: n for k, n in extras.items() if n})


def _lies_beside(most: Counter[str], prompt: int, apart: int, output: int) -> bool:
    """Whether the prompt as given lacks what was cached: by the keys and the total."""
    places = {role.split()[1] for role, number in most.items() if number and " " in role}
    if most["prompt"] >= max(1, most["input"]) or "input" not in most:
        places = {"inside"}
    if len(places) > 1:
        places.discard("unknown")
    rest, outputs = most["total"] - prompt, (output, output + most["reasoning"])
    inside, beside = rest in outputs and apart <= prompt, rest - apart in outputs
    if inside == beside or not apart:  # the total does not say
        inside = beside = False
    if places <= {"inside"} or not apart:
        return beside
    if beside or apart > prompt or (places == {"beside"} and not inside):
        return True
    if inside and len(places) > 1:
        return False
    raise UsageError("whether input tokens include cached ones cannot be told: "
                     "say prompt_tokens and prompt_cache_hit_tokens")  # fmt: skip


def _extras(most: Counter[str], **others: int) -> dict[str, int]:
    """Disjoint: what is given of a medium as input includes what of it was cached."""
    extras = {kind: others.get(kind, most[kind]) for kind in EXTRAS}
    for medium in ("audio", "image", "video"):
        extras[f"input_{medium}"] -= extras[f"cached_{medium}"]
    return {kind: number + most[f"extras.{kind}"] for kind, number in extras.items()}


def _check(parts: dict[str, int], extras: dict[str, int], uncached: int, reasoning: int) -> None:
    room = dict(parts)
    for kind, number in extras.items():
        room[EXTRAS[kind]] -= number
    written = extras["cache_write"] + extras["cache_write_1h"]
    rooms = *room.values(), parts["output"] - reasoning, parts["input"] - written - uncached
    if min(*rooms, *extras.values()) < 0:
        raise UsageError("details are more than their whole")


# --- end of the copy ----------------------------------------------------------------------------


def split_total(usage: Any, prompt_share: float) -> dict[str, int] | None:
    """Usage of a total alone, of which so much was the prompt; None where there is more or less."""
    named = [(_role(path), value) for path, value in _leaves(_unwrapped(usage)) if value]
    total = max((n for role, n in named if role == "total" and type(n) is int), default=0)
    if total <= 0 or {role for role, _ in named} - {"total", None}:
        return None
    prompt = max(1, round(total * prompt_share))
    return {"prompt_tokens": prompt, "completion_tokens": total - prompt}
