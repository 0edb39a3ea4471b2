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
prompt: prompt_tokens prompt_token_count prompt_eval_count in.total request_tokens
input: input_tokens input_token_count
output: completion_tokens output_tokens candidates_token_count response_token_count eval_count
output: output_token_count out.total generation_token_count generated_token_count
output: generated_tokens generation_tokens response_tokens
total: total_tokens total_token_count
read inside: prompt_cache_hit_tokens cached_content_token_count cached_input_token_count in.cached
read inside: cached_tokens num_cached_tokens cached_prompt_text_tokens in.cache_read
read inside: in.priority_cache_read in.flex_cache_read
read beside: cache_read_input_tokens cache_read_input_token_count
read unknown: cached_input_tokens cache_read_tokens
write inside: in.cache_write in.cache_creation in.cached_creation in.cache_creation_input
write beside: cache_creation_input_tokens cache_write_input_tokens cache_write_input_token_count
write unknown: cache_write_tokens cache_creation_tokens
write_5m inside: in.ephemeral_5m_input
write_1h inside: in.ephemeral_1h_input
write_5m beside: cache_creation.ephemeral_5m_input_tokens cache_details.5m
write_1h beside: cache_creation.ephemeral_1h_input_tokens cache_details.1h
uncached: prompt_cache_miss_tokens in.no_cache
reasoning: out.reasoning out.thinking reasoning_tokens reasoning_token_count
reasoning: out.priority_reasoning out.flex_reasoning
reasoning inside: reasoning_output_tokens
thoughts: thoughts_token_count
tools: tool_use_prompt_token_count
input_image: prompt_image_tokens in.document
cached_image: cache.document
text: in.text out.text cache.text
searches: server_tool_use.web_search_requests web_search_requests num_search_queries
searches: num_sources_used
""" + "".join(
    f"input_{medium}: in.{medium} {medium}_tokens input_{medium}_tokens\n"
    f"cached_{medium}: cache.{medium} cache_{medium}_read_tokens\n"
    f"output_{medium}: out.{medium} output_{medium}_tokens\n"
    for medium in ("audio", "image", "video")
)
_ROLES = {f"extras.{kind}": f"extras.{kind}" for kind in EXTRAS}
for _line in SPELLINGS.strip().splitlines():
    _ROLES.update(dict.fromkeys(_line.partition(": ")[2].split(), _line.partition(": ")[0]))
_SHORT = (
    (r"(?<=[a-z\d])(?=[A-Z])", "_"),
    (r"(?i)^(prompt|input)_tokens?(_details)?\.(cache_creation(_tokens?_details)?\.)?", "in."),
    (r"(?i)^(completion|output|candidates|responses?)_tokens?(_details)?\.", "out."),
    (r"(?i)^(in\.cached|cache)_tokens?_details\.", "cache."),
    (r"(?i)^((in|out|cache)\..*)_token(s|_count)$", r"\1"),
)
# Most objects have these alone, and are read sooner; of the details, others than these are 0.
_USUAL = {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_cache_hit_tokens",
          "prompt_cache_miss_tokens", "prompt_tokens_details",
          "completion_tokens_details"}  # fmt: skip
_USUAL_DETAILS = {"cached_tokens", "reasoning_tokens"}
_DIGITS = re.compile(r"\d{1,18}(?:\.0{1,18})?", re.ASCII)
# Where a usage object says that it has another price: Anthropic, Bedrock, Gemini, LangChain.
_TIERS = "serviceTier", "speed", "traffic_type", "trafficType", "inference_geo"
# At the list's own price: OpenAI's and Bedrock's default and auto (as the project is set up),
# Anthropic's standard, global and not_available, Groq's and Gemini's on_demand.
PLAIN_TIERS = {"", "default", "auto", "standard", "on_demand", "global", "not_available"}
_TIER = re.compile("[a-z][a-z_]{0,40}")
# What may lie around the counts. Cohere bills its billed_units, not its tokens.
_WRAPPERS = ("usage", "usage_metadata", "usageMetadata", "token_usage", "tokenUsage",
             "response_metadata", "meta", "billed_units", "tokens")  # fmt: skip


MAX_ITERATIONS = 100  # of one answer; bounds what a hostile event costs


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
    if usual := usual_tokens(usage):
        return usual
    usage = _unwrapped(usage)
    if rounds := isinstance(usage, dict) and usage.get("iterations"):
        return _summed({**usage, "iterations": None}, rounds, whole)
    found, named, strange = _found(usage)
    try:
        _check_known(found, strange)
        return _counted(found, whole) if named else None
    except UsageError as error:
        keys = ", ".join(f"{path} {value}"[:120] for path, value in named[:12])
        raise UsageError(f"{error}; found {keys} - at `$.usage`") from None


def usual_tokens(usage: Any) -> Tokens | None:
    """The same, sooner, of OpenAI's and DeepSeek's usual objects; None: look closely."""
    if type(usage) is not dict or not usage.keys() <= _USUAL:
        return None
    get: Any = usage.get
    inside: Any = get("prompt_tokens_details") or {}
    outside: Any = get("completion_tokens_details") or {}
    if type(inside) is not dict or type(outside) is not dict:
        return None
    hit = get("prompt_cache_hit_tokens")
    cached = inside.get("cached_tokens") or 0 if inside.get("cached_tokens") is not None else hit
    prompt, cached, output = get("prompt_tokens"), cached or 0, get("completion_tokens") or 0
    miss, total = get("prompt_cache_miss_tokens") or 0, get("total_tokens") or 0
    reasoning = outside.get("reasoning_tokens") or 0
    told = {key for key, number in (*inside.items(), *outside.items()) if number}
    types = {*map(type, (prompt, cached, output, reasoning, miss, total))}
    if types != {int} or hit not in (None, cached) or not told <= _USUAL_DETAILS:
        return None
    fits = 0 <= cached <= prompt > 0 and 0 <= reasoning <= output
    fits = fits and miss in (0, prompt - cached) and total in (0, prompt + output)
    return Tokens(prompt, cached, output, {}) if fits else None


def _found(usage: Any) -> tuple[dict[str, list[int]], list[tuple[str, Any]], list[str]]:
    """Counts by role, what a refusal names, and why unknown keys may hide money."""
    found: dict[str, list[int]] = {}
    named: list[tuple[str, Any]] = []
    strange: list[str] = []
    for path, value in _leaves(usage):
        role = _role(path)
        if type(value) is not int:
            value = whole_number(value)
        if value and (role or "oken" in path or "ount" in path):
            named.append((path, value))
        if role and value is not None:
            if type(value) is not int or value < 0:
                raise UsageError(f"not a whole number of 0 or more - at `$.usage.{path}`")
            found.setdefault(role, []).append(value)
        elif value and type(value) is int:
            strange.append(_strange(path))
    return found, named, strange


@functools.lru_cache(maxsize=1024)
def _role(path: str) -> str | None:
    return _ROLES.get(_short(path))


def _short(path: str) -> str:
    for pattern, short in _SHORT:
        path = re.sub(pattern, short, path)
    return path.lower()


@functools.lru_cache(maxsize=1024)
def _strange(path: str) -> str:
    """Why an unknown key may hide money: `cache` or `token`; empty for one that cannot."""
    short = _short(path)
    if "token" not in path.lower() or short.startswith("cache."):
        return ""
    return "cache" if "cache" in short else "token"


def _check_known(found: dict[str, list[int]], strange: list[str]) -> None:
    """Writes to a cache cost more, and an output under a strange name would cost nothing."""
    if "cache" in strange:
        raise UsageError("a key for cached tokens that is not known")
    if "token" in strange and not any(
        map(sum, (found.get(k, []) for k in ("output", "thoughts", "total")))
    ):
        raise UsageError("no output by a known key, but tokens by an unknown one")


def whole_number(value: Any) -> Any:
    """Of digits and of a whole float (protobuf's, Cohere's) the number; else the value."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value.partition(".")[0])
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _summed(usage: Any, rounds: Any, whole: bool) -> Tokens | None:
    """Anthropic's iterations: the figures above them leave out compactions and advisors."""
    last = count_tokens(usage, whole)
    rounds = [item for item in rounds if isinstance(item, dict)] if type(rounds) is list else []
    if len(rounds) > MAX_ITERATIONS:
        raise UsageError(f"more than {MAX_ITERATIONS} iterations - at `$.usage.iterations`")
    total: Counter[str] = Counter()
    extras: Counter[str] = Counter()
    for item in rounds:
        tokens = count_tokens({**item, "iterations": None}, whole=False) or Tokens(0, 0, 0, {})
        total.update(prompt=tokens.prompt, cached=tokens.cached, completion=tokens.completion)
        extras.update(tokens.extras)
        if item.get("model"):  # another one, at another price
            extras["unexplained"] += tokens.completion
    if last and total["prompt"] + total["completion"] < last.prompt + last.completion:
        return last
    return Tokens(total["prompt"], total["cached"], total["completion"], dict(extras))


def service_tier_of(said: Any, usage: Any) -> str:
    """Every word for another price than the list's, joined by `_`; empty for none.

    said: the call's own; `unknown` stands for what is no word, `searches` for those that the
    provider charges beside the tokens.
    """
    if not said and type(usage) is dict and usage.keys() <= _USUAL:
        return ""
    usage = _unwrapped(usage)
    usage = usage if isinstance(usage, dict) else {}
    told = [said or usage.get("service_tier"), *map(usage.get, _TIERS)]
    details = usage.get("input_token_details")
    details = details if isinstance(details, dict) else {}
    told += [tier for tier in ("priority", "flex") if details.get(tier)]
    if any(number and _role(path) == "searches" for path, number in _leaves(usage)):
        told.append("searches")
    words = {_tier_word(value): None for value in told if value}
    return "_".join(word for word in words if word not in PLAIN_TIERS)


def _tier_word(value: Any) -> str:
    value = value.get("type") if isinstance(value, dict) else value  # Bedrock's
    word = str.__str__(value).strip().lower() if isinstance(value, str) else "unknown"
    return word if word in PLAIN_TIERS or _TIER.fullmatch(word) else "unknown"


def _unwrapped(usage: Any) -> Any:
    for _ in range(4):
        if isinstance(usage, dict) and not any(map(_role, usage)):
            inside = (usage[key] for key in _WRAPPERS if isinstance(usage.get(key), dict))
            usage = next(inside, usage)
    if isinstance(usage, dict) and "cache_audio_read_tokens" in usage:
        # Pydantic AI's: the input includes all, and its details repeat the provider's own.
        return {**usage, "prompt_tokens": usage.get("input_tokens"), "details": None}
    return usage


def _leaves(value: Any, path: str = "", deep: int = 4) -> Iterator[tuple[str, Any]]:
    """(dotted path, value), bounded; [{"modality": "AUDIO", "tokenCount": 9}] is {"audio": 9}."""
    if isinstance(value, list):
        pairs = [list(item.values()) for item in value[:20] if isinstance(item, dict)]
        texts = [sorted(pair, key=lambda x: not isinstance(x, str)) for pair in pairs]
        value = {t[0].lower(): t[1] for t in texts if len(t) == 2 and isinstance(t[0], str)}
    for key, inner in value.items() if isinstance(value, dict) and deep else ():
        at = f"{path}.{key}" if path else key
        first = inner[0] if inner and isinstance(inner, list) else inner
        if isinstance(first, dict):
            yield from _leaves(inner, at, deep - 1)
        elif len(at) < 100:
            yield at, inner


def _counted(found: dict[str, list[int]], whole: bool) -> Tokens:
    most = Counter({role: max(numbers) for role, numbers in found.items()})
    reads = [n for role, numbers in found.items() if role.startswith("read ") for n in numbers]
    hour = max(most["write_1h inside"], most["write_1h beside"])
    five = max(most["write_5m inside"], most["write_5m beside"])
    write = max(*(most[f"write {where}"] for where in ("inside", "beside", "unknown")), five + hour)
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
