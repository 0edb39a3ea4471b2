"""llm-budget's client: copy this one file into your program. Standard library only, Python 3.9+.

    from client import allowed, record

    if allowed("notes", "blue-tokai"):               # obey: may this field ask the LLM now?
        response = llm.chat.completions.create(…)
        record("blue-tokai", "notes", response)      # report: one line in the spool, durable

`record` appends to a spool file, which the exporter on this host follows (`--log SPOOL`).
Configured by LLM_BUDGET_SPOOL, and LLM_BUDGET_EFFECTIVE or LLM_BUDGET_CONFIG_URL; or make a
Client(…). Two optional files go beside this one: client_openai.py, whose `wrap(OpenAI(…))`
records by itself, and client_delivery.py, which sends the spool to an exporter on another host.
Everything else: docs/adopt.md of llm-budget.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import http.client
import importlib
import itertools
import json
import logging
import os
import re
import stat
import sys
import threading
import time
import urllib.parse
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Union

__all__ = ["Client", "allowed", "current", "default_client", "lost", "record"]

OUTCOMES = ("success", "error", "rate_limited", "cached", "fallback")
LABELS = ("roaster", "field", "model", "provider", "service_tier")
MODEL = ("model", "model_version", "response_metadata.model_name", "llm_output.model_name")
USAGE = ("usage", "usage_metadata", "usageMetadata", "meta.billed_units", "llm_output.token_usage")
ANSWER = ("choices", "output", "content")
TIER = ("service_tier", "serviceTier", "response_metadata.service_tier")
UNBILLED = ("cached", "fallback")  # no provider was asked
# Where an answer's text is. Providers repeat the reasoning: the first of its keys counts.
REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking")
SAID = ("content", "text", "refusal", "tool_calls", "function_call", "function", "custom", "input",
        "arguments", "partial_json", "summary", "audio", "transcript")  # fmt: skip
_STREAM = "record its last chunk or final completion, or let wrap() of client_openai.py do it"
_NOT_ANSWERS = {  # by an attribute of its type
    "__await__": "await it first",
    "http_request": "record its parse()",
    "iter_lines": "record its json()",
    "index": "record the answer itself, an object or a dict",
    **dict.fromkeys(("__next__", "__anext__", "__enter__", "__aenter__"), _STREAM),
}
MAX_LABEL = 120  # characters; the exporter refuses longer or unprintable label values
MAX_ID = 390  # with #field behind it, the exporter takes 512
MAX_TOKENS = 10_000_000  # of one call; the exporter refuses more
MAX_CALLS = 100_000  # in one sum, likewise
MAX_BYTES = 256 << 20  # of the spool; beyond it calls fold into sums
LOCK_WAIT_SECONDS = 0.02  # for the spool's lock, in all
FOLD_LOCK_WAIT_SECONDS = 1.0  # the last resort waits for many busy writers before it gives up
NO_WAIT_SECONDS = 1.0  # after a lock timeout: no wait at all for so long
SPOOL_HEADER = b'{"spool": "llm-budget/1"'  # how a spool begins
SLOT = 2048  # bytes of one sum in the fold; divides a page, so a write is whole or absent
FINE_SLOTS = 4096  # sums are by the minute; in a fold beyond this, by the quarter of an hour
CONFIG_POLL_SECONDS = 0.5  # how stale the config may be (from a URL: plus the answer's time)
FIRST_CONFIG_SECONDS = 2.0  # what the very first look at a URL may wait
MAX_CONFIG_BYTES = 8 << 20  # 3,000 roasters' stops are 5 MB
REMEMBERED = 10_000  # answers about one version of the config
HTTP_TIMEOUT_SECONDS = 10.0

Field = Union[str, Sequence[str], Mapping[str, float]]  # noqa: UP007  Python 3.9
_encode = json.JSONEncoder(separators=(",", ":")).encode
_steps = functools.lru_cache(maxsize=64)(str.split)
_log = logging.getLogger("llm_budget")
_next_warning: dict[str, float] = {}


# --- what the optional files use, too -----------------------------------------------------------


def get(thing: Any, key: str) -> Any:
    """A key of a dict, an attribute of anything else; None when absent."""
    return thing.get(key) if isinstance(thing, dict) else getattr(thing, key, None)


def fields(thing: Any) -> dict[str, Any]:
    """The keys of a dict; of anything else its attributes, an openai model's unknown ones too."""
    if isinstance(thing, dict):
        return thing
    extra = getattr(thing, "__pydantic_extra__", None)
    own: dict[str, Any] = getattr(thing, "__dict__", {})
    return {**own, **extra} if extra else own


def warn(kind: str, message: str) -> None:
    """Log a kind of problem once a minute, not once a call."""
    now = time.monotonic()
    if now >= _next_warning.get(kind, 0.0):
        _next_warning[kind] = now + 60.0
        _log.warning("llm-budget: %s", message)


def tolerant(function: Callable[[Any], str]) -> Callable[[Any], str]:
    """For what reads other people's objects on the way to an estimate: at worst no text."""

    @functools.wraps(function)
    def read(value: Any) -> str:
        try:
            return function(value)
        except Exception as error:
            warn("estimate", f"no text for an estimate: {type(error).__name__}: {error}")
            return ""

    return read


@tolerant
def prompt_text(value: Any) -> str:
    """All text in messages or tools, at any depth; but not pictures, sound and files."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        media = ("image_url", "input_audio", "file", "file_data")
        return "".join(prompt_text(item) for key, item in value.items() if key not in media)
    if isinstance(value, (list, tuple)):
        return "".join(map(prompt_text, value))
    dump = getattr(value, "model_dump", None)  # an openai message object
    return prompt_text(dump()) if dump else ""


@tolerant
def answer_text(choices: Any) -> str:
    """The text of an answer's or a chunk's choices, or a response's output: all that was billed."""
    parts = [get(choice, "delta") or get(choice, "message") or choice for choice in choices or ()]
    return _said(parts)


def _said(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, (list, tuple)):
        return "".join(map(_said, part))
    found = fields(part)
    thought = next(filter(None, map(found.get, REASONING)), "")
    return _said(thought) + "".join(_said(found[key]) for key in SAID if found.get(key))


def estimate_tokens(text: str) -> int:
    """DeepSeek's rule of thumb: 0.3 tokens a character, 0.6 outside ASCII; rounded up."""
    plain = len(text.encode("ascii", "ignore"))
    return (3 * plain + 6 * (len(text) - plain) + 9) // 10


def lock_file(fd: int, kind: int, wait_seconds: float) -> bool:
    """flock, waiting at most so many seconds; whether it was had."""
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.001)


class PlantedError(OSError):
    """In a folder that others may write to lies a link, a FIFO or the like where a file should."""


def open_file(path: str, flags: int, create: int = os.O_CREAT) -> int:
    """Open or create (0640), with the folder when it is missing. Raises OSError, PlantedError."""
    if create:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    planted = PlantedError(f"{path} is a link or no regular file; remove it")
    try:
        fd = os.open(path, flags | create | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY, 0o640)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise planted from error
        raise
    state = os.fstat(fd)
    if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
        os.close(fd)
        raise planted
    return fd


def is_file_at(path: str, fd: int) -> bool:
    """Whether the path (still) leads to the open file."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except OSError:
        return False


def http_request(
    url: str, headers: Mapping[str, str], *, data: bytes | None = None, limit: int = 1 << 20
) -> tuple[int, Any, bytes]:
    """(status, headers, body up to limit bytes). Raises OSError, or ValueError on a strange URL.

    No proxy, as a scraper's is for the sites that it scrapes, and no redirect: both would carry
    the token elsewhere.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"{url} is not an http:// or https:// URL")
    secure = parts.scheme == "https"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        with contextlib.closing(kind(parts.netloc, timeout=HTTP_TIMEOUT_SECONDS)) as connection:
            method = "GET" if data is None else "POST"
            connection.request(method, target, data, {"Connection": "close", **headers})
            with connection.getresponse() as answer:
                return answer.status, answer.headers, answer.read(limit)
    except http.client.HTTPException as error:
        raise OSError(f"not an HTTP answer: {error!r}") from error


# --- events -------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def _not_an_answer(kind: Any) -> str:
    """What to do instead with a response whose usage is still to come; empty for an answer."""
    found = next(filter(functools.partial(hasattr, kind), _NOT_ANSWERS), "")
    return found and f"the response is a {kind.__name__}, not an answer: {_NOT_ANSWERS[found]}"


def own_ids(ids: str) -> bool:
    """Whether each call gets an id of its own."""
    if ids not in ("provider", "own"):
        warn("ids", f"ids is {ids!r}, neither 'provider' nor 'own': the provider's ids are used")
    return ids == "own"


def _plain(value: Any) -> str:
    """Any value as a plain string; of a str subclass (an Enum, say) its content."""
    return str.__str__(value) if isinstance(value, str) else str(value)


def _printable(value: str) -> str:
    """A label that the exporter takes: scraped text may hold anything."""
    return "".join(c if c.isprintable() else "?" for c in value[:MAX_LABEL])


def _identity(value: Any) -> str:
    """An id as plain text; a long or odd one as its hash, so that no two become one."""
    text = _plain(value)
    if len(text) <= MAX_ID and text.isascii() and text.isprintable():
        return text
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


# --- usage in any spelling: the exporter reads by this table, too; docs/usage.md has the sources --
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
PLACES = "inside", "beside", "unknown"  # of what was cached, as to the prompt
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
    usage = unwrapped(usage)
    if rounds := isinstance(usage, dict) and usage.get("iterations"):
        return _summed({**usage, "iterations": None}, rounds, whole)
    most, reads, named, strange = _found(usage)
    try:
        if "cache" in strange:  # writes to a cache cost more
            raise UsageError("a key for cached tokens that is not known")
        if "token" in strange and not most["output"] + most["thoughts"] + most["total"]:
            raise UsageError("no output by a known key, but tokens by an unknown one")
        return _counted(most, reads, whole) if named else None
    except UsageError as error:
        raise UsageError(f"{error}; found {', '.join(named[:12])} - at `$.usage`") from None


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
    prompt, cached = get("prompt_tokens"), inside.get("cached_tokens", hit) or 0
    miss, total = get("prompt_cache_miss_tokens") or 0, get("total_tokens") or 0
    output, reasoning = get("completion_tokens") or 0, outside.get("reasoning_tokens") or 0
    told = {key for key, number in (*inside.items(), *outside.items()) if number}
    types = {*map(type, (prompt, cached, output, reasoning, miss, total))}
    if types != {int} or hit not in (None, cached) or not told <= _USUAL_DETAILS:
        return None
    fits = 0 <= cached <= prompt > 0 and 0 <= reasoning <= output
    fits = fits and miss in (0, prompt - cached) and total in (0, prompt + output)
    return Tokens(prompt, cached, output, {}) if fits else None


def _found(usage: Any) -> tuple[Counter[str], list[int], list[str], set[str]]:
    """The most that is said in each role, all reads, what a refusal names, what is strange."""
    most: Counter[str] = Counter()
    reads, named, strange = [], [], set()
    for path, value in leaves(usage):
        role = role_of(path)
        if value and (role or "oken" in path or "ount" in path):
            named.append(f"{path} {value}"[:120])
        if role and value is not None:
            if type(value) is not int or value < 0:
                raise UsageError(f"not a whole number of 0 or more - at `$.usage.{path}`")
            most[role] = max(most[role], value)
            if role.startswith("read "):
                reads.append(value)
        elif value and type(value) is int:
            strange.add(_strange(path))
    return most, reads, named, strange


@functools.lru_cache(maxsize=1024)
def role_of(path: str) -> str | None:
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

    said: the call's own. `unknown` stands for what is no word, `searches` for those charged apart.
    """
    if not said and type(usage) is dict and usage.keys() <= _USUAL:
        return ""
    usage = unwrapped(usage)
    usage = usage if isinstance(usage, dict) else {}
    told = [said or usage.get("service_tier"), *map(usage.get, _TIERS)]
    named = [path for path, number in leaves(usage) if number]
    told += [tier for tier in ("priority", "flex") if f"input_token_details.{tier}" in named]
    if "searches" in map(role_of, named):
        told.append("searches")
    words = {_tier_word(value): None for value in told if value}
    return "_".join(word for word in words if word not in PLAIN_TIERS)


def _tier_word(value: Any) -> str:
    value = value.get("type") if isinstance(value, dict) else value  # Bedrock's
    word = str.__str__(value).strip().lower() if isinstance(value, str) else "unknown"
    return word if word in PLAIN_TIERS or _TIER.fullmatch(word) else "unknown"


def unwrapped(usage: Any) -> Any:
    for _ in range(4):
        if isinstance(usage, dict) and not any(map(role_of, usage)):
            inside = (usage[key] for key in _WRAPPERS if isinstance(usage.get(key), dict))
            usage = next(inside, usage)
    if isinstance(usage, dict) and "cache_audio_read_tokens" in usage:
        # Pydantic AI's: the input includes all, and its details repeat the provider's own.
        return {**usage, "prompt_tokens": usage.get("input_tokens"), "details": None}
    return usage


def leaves(value: Any, path: str = "", deep: int = 4) -> Iterator[tuple[str, Any]]:
    """(dotted path, number), bounded; [{"modality": "AUDIO", "tokenCount": 9}] is {"audio": 9}."""
    if isinstance(value, list):
        pairs = [list(item.values()) for item in value[:20] if isinstance(item, dict)]
        texts = [sorted(pair, key=lambda x: not isinstance(x, str)) for pair in pairs]
        value = {t[0].lower(): t[1] for t in texts if len(t) == 2 and isinstance(t[0], str)}
    for key, inner in value.items() if isinstance(value, dict) and deep else ():
        at = f"{path}.{key}" if path else key
        first = inner[0] if inner and isinstance(inner, list) else inner
        if isinstance(first, dict):
            yield from leaves(inner, at, deep - 1)
        elif len(at) < 100:
            yield at, whole_number(inner)


def _counted(most: Counter[str], reads: list[int], whole: bool) -> Tokens:
    five, hour = (max(most[f"write_{age} {at}"] for at in PLACES) for age in ("5m", "1h"))
    write = max(*(most[f"write {at}"] for at in PLACES), five + hour)
    apart = max(reads, default=0) + write
    prompt = max(most["prompt"], most["input"]) or (most["uncached"] and most["uncached"] + apart)
    prompt, output = prompt + most["tools"], most["output"] + most["thoughts"]
    cached = min(reads, default=0)  # where keys disagree, the dearer
    if _lies_beside(most, prompt, apart, output):
        prompt, cached = prompt + apart, max(reads, default=0)
    if not prompt and (whole or not any(most.values())):
        raise UsageError("no countable prompt")
    beyond = max(0, most["total"] - prompt - output)
    most.update(cache_write=write - hour, cache_write_1h=hour)
    most.update(unexplained=beyond if beyond != most["reasoning"] else 0)
    return Tokens(prompt, cached, output + beyond, _extras(most, prompt, cached, output + beyond))


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


def _extras(most: Counter[str], prompt: int, cached: int, output: int) -> dict[str, int]:
    """Disjoint, in what holds them: of a medium, the input as given includes what was cached."""
    for medium in ("audio", "image", "video"):
        most[f"input_{medium}"] -= most[f"cached_{medium}"]
    extras = {kind: most[kind] + most[f"extras.{kind}"] for kind in EXTRAS}
    room = {"input": prompt - cached, "cached_input": cached, "output": output}
    for kind, number in extras.items():
        room[EXTRAS[kind]] -= number
    unwritten = prompt - cached - extras["cache_write"] - extras["cache_write_1h"]
    rooms = *room.values(), unwritten - most["uncached"], output - most["reasoning"]
    if min(*rooms, *extras.values()) < 0:
        raise UsageError("details are more than their whole")
    return {kind: number for kind, number in extras.items() if number}


def as_json(thing: Any, deep: int = 5) -> Any:
    """A usage object (of pydantic, protobuf, a dataclass, a namespace …) as JSON would have it."""
    if isinstance(thing, float) and thing.is_integer():  # Cohere's
        return int(thing)
    if thing is None or isinstance(thing, (str, int, float)) or not deep:
        return thing
    if isinstance(thing, (list, tuple)):
        return [as_json(item, deep - 1) for item in thing[:20]]
    if not isinstance(thing, Mapping):
        thing = fields(thing) or {  # as of protobuf
            name: getattr(thing, name) for name in dir(thing) if not name.startswith("_")
        }
    return {str(key): as_json(item, deep - 1) for key, item in thing.items() if not callable(item)}


def _find(response: Any, *paths: str) -> Any:
    """The first of these that a response has."""
    for path in paths:
        found = functools.reduce(get, _steps(path, "."), response)
        if found is not None:
            return found
    return None


def usage_of(response: Any) -> Any:
    """Where providers and libraries have it; None where there is none."""
    found = _find(response, *USAGE)
    own = "prompt_eval_count", "eval_count", "generation_token_count"
    return response if found is None and _find(response, *own) is not None else found


def count_or_problem(usage: Any, whole: bool) -> tuple[Tokens | None, str]:
    """The tokens of a usage object or dict, or why they cannot be counted; neither of None."""
    try:
        return usual_tokens(usage) or count_tokens(as_json(usage), whole), ""
    except UsageError as error:
        return None, str(error)


def _estimate(response: Any, messages: Any) -> Tokens | None:
    """From the texts; None for no answer that we know, which may have cost anything."""
    answer = _find(response, *ANSWER)
    if answer is None:
        return None
    prompt = max(1, estimate_tokens(prompt_text(messages)))  # also one that nobody showed us
    text = answer_text([answer] if isinstance(answer, str) else answer)
    return Tokens(prompt, 0, estimate_tokens(text), {})


def _shares(total: int, weights: Sequence[int]) -> list[int]:
    """total in whole parts by weight; they sum to it exactly."""
    whole = sum(weights)
    marks = [0, *(total * end // whole for end in itertools.accumulate(weights))]
    return [high - low for low, high in zip(marks, marks[1:])]  # noqa: B905, RUF007  Python 3.9


def _whole_weights(weights: list[float]) -> list[int]:
    """Weights as integers, 0.7 as good as 7; equal ones when they are not usable as weights."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        whole = [round(weight * 1_000_000) for weight in weights]
        if min(whole) >= 0 and sum(whole) > 0:
            return whole
    return [1] * len(weights)


@functools.lru_cache(maxsize=64)
def _utc(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _shared(outcome: str, estimated: bool, at: float | None, duration: Any) -> dict[str, Any]:
    """What every part of a split response repeats."""
    if outcome not in OUTCOMES:
        warn("outcome", f"outcome {outcome!r} is recorded as error; it must be in {OUTCOMES}")
        outcome = "error"
    second, rest = divmod(time.time() if at is None else at, 1)
    moment = f"{_utc(int(second))}.{int(rest * 1000):03d}Z"  # rounded down: never in the future
    event: dict[str, Any] = {"time": moment, "outcome": outcome}
    if estimated:
        event["estimated"] = True
    if duration is not None and 0 <= duration <= 86_400:
        event["duration_seconds"] = round(float(duration), 3)
    return event


def _split(tokens: Tokens, split: Callable[[int], list[int]]) -> Iterator[Tokens]:
    """The shares, whose disjoint parts are split one by one: none has more details than tokens."""
    parts = {"input": tokens.prompt - tokens.cached, "cached_input": tokens.cached}
    parts.update(output=tokens.completion, **tokens.extras)
    for kind, number in tokens.extras.items():
        parts[EXTRAS[kind]] -= number
    for numbers in zip(*map(split, parts.values())):  # noqa: B905  Python 3.9
        share = dict(zip(parts, numbers))  # noqa: B905
        extras = {kind: share[kind] for kind in tokens.extras}
        for kind, number in extras.items():
            share[EXTRAS[kind]] += number
        prompt = share["input"] + share["cached_input"]
        yield Tokens(prompt, share["cached_input"], share["output"], extras)


def _parts(
    field: Field | None, tokens: Tokens | None, items: int, slots: int
) -> Iterable[tuple[Any, ...]]:
    """(end of the id, field, numbers): of one event, or one a field, which sum up exactly."""
    items, slots = max(0, int(items or 0)), max(0, int(slots or 0))
    if not field or isinstance(field, str):
        return [("", _plain(field or ""), tokens, items, slots)]
    weights = dict(field) if isinstance(field, Mapping) else dict.fromkeys(field, 1)
    split = functools.partial(_shares, weights=_whole_weights(list(weights.values())))
    names = list(map(_plain, weights))
    ends = [f"#{_printable(name)}" for name in names]
    shares = itertools.repeat(None) if tokens is None else _split(tokens, split)
    return zip(ends, names, shares, split(items), split(slots))  # noqa: B905


@functools.lru_cache(maxsize=4096)
def _labels(*values: str) -> dict[str, str]:
    pairs = zip(LABELS, values)  # noqa: B905  Python 3.9
    return {name: _printable(value) for name, value in pairs if value}


def _numbers(tokens: Tokens | str | None, items: int, slots: int) -> dict[str, Any]:
    batch = {"batch_items": items, "batch_slots": slots} if items or slots else {}
    if isinstance(tokens, str):  # why they cannot be counted: for the exporter to refuse
        return {"usage": {"tokens": tokens[:200]}, **batch}
    if tokens is None:
        return batch
    prompt, cached, completion, extras = tokens
    usage = {"prompt_tokens": prompt, "prompt_cache_hit_tokens": cached}
    usage["completion_tokens"] = completion
    usage.update({f"extras.{kind}": number for kind, number in extras.items()})
    return {"usage": usage, **({} if prompt else {"share": True}), **batch}


# --- the spool ----------------------------------------------------------------------------------


class _File:
    """The file at a path. A daemon that closes all may hand our number to another file."""

    def __init__(self, path: str, flags: int, look_seconds: float = 0.0) -> None:
        """look_seconds: it is not looked more often whether the file was moved away."""
        self.path, self._flags, self._look_seconds = path, flags, look_seconds
        self.fd, self._next_look = -1, 0.0

    def open(self) -> int:
        """A descriptor of what is at the path, created if need be. Raises OSError."""
        now = time.monotonic()
        if now >= self._next_look:
            if not is_file_at(self.path, self.fd):
                self.close()
                self.fd = open_file(self.path, self._flags)
                self.opened = os.fstat(self.fd)
            self._next_look = now + self._look_seconds
        return self.fd

    def close(self) -> None:
        """Give the descriptor back; the next open() has another."""
        fd, self.fd, self._next_look = self.fd, -1, 0.0
        with contextlib.suppress(OSError):
            if fd >= 0 and os.path.samestat(os.fstat(fd), self.opened):
                os.close(fd)


class _Spool:
    """Appends whole lines to a file that others append to and the exporter takes away.

    The lock is shared among writers; the reader takes it exclusively to retire a file in which
    everything is committed. Lines begin with a newline too, so that a piece left by a writer that
    was killed, or by a full disk, rejects only itself.
    """

    def __init__(self, path: str, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.lost = 0
        self._file = _File(path, os.O_WRONLY | os.O_APPEND, look_seconds=1.0)
        self._fold = _Fold(f"{path}.fold")
        self.after_fork()

    def after_fork(self) -> None:
        """A child has a lock and a descriptor of its own: flock then tells the two apart."""
        self._lock = threading.RLock()
        self._busy = False
        self._interrupting: deque[bytes] = deque()
        self._next_wait = 0.0
        self.close()

    def close(self) -> None:
        """Give the descriptors back; the next append opens them again."""
        with self._lock:
            self._file.close()
            self._fold.close()

    def append(self, data: bytes) -> bool:
        """Write lines (each between newlines); True when they are in the spool or the fold."""
        with self._lock:
            if self._busy:  # a signal handler or a finalizer inside this very section:
                self._interrupting.append(data)  # the append that it interrupted writes this too
                return True
            self._busy = True
            try:
                written = self._write(data)
                while self._interrupting:
                    self._write(self._interrupting.popleft())
                return written
            finally:
                self._busy = False

    def count_lost(self, problem: object) -> bool:
        """A call that could not be written: False, for record() to return."""
        with self._lock:
            self.lost += 1
        warn("lost", f"a call was not recorded in {self.path}: {problem}")
        return False

    def _write(self, data: bytes) -> bool:
        rest = data
        try:
            rest = self._write_to_spool(data)
        except OSError as error:
            warn("spool", f"cannot write {self.path}: {error}")
            self._file.close()
        try:
            for line in filter(None, rest.split(b"\n")):
                self._fold.add(json.loads(line))
        except OSError as error:
            self._fold.close()
            return self.count_lost(error)
        return True

    def _write_to_spool(self, data: bytes) -> bytes:
        """Returns what was not written: the whole when full or locked, else a torn end. OSError."""
        kind = fcntl.LOCK_SH
        for _ in range(4):  # retired, and then empty, and one to spare
            fd = self._file.open()
            now = time.monotonic()
            if not lock_file(fd, kind, LOCK_WAIT_SECONDS if now >= self._next_wait else 0.0):
                self._next_wait = now + NO_WAIT_SECONDS
                return data
            try:
                state = os.fstat(fd)
                if state.st_nlink and os.path.samestat(state, self._file.opened):
                    if state.st_size >= self.max_bytes:
                        return data
                    if state.st_size or (kind == fcntl.LOCK_EX and self._write_header(fd)):
                        return _unwritten(data, os.write(fd, data))
                    kind = fcntl.LOCK_EX  # empty: alone, the first to look again writes the header
                    continue
            finally:
                fcntl.flock(fd, fcntl.LOCK_UN)
            self._file.close()  # the reader retired it
        return data

    def _write_header(self, fd: int) -> bool:
        """The first line, which makes the file known as a spool and unlike any other."""
        header = b'%s, "id": "%s"}\n' % (SPOOL_HEADER, os.urandom(16).hex().encode())
        if os.write(fd, header) == len(header):
            return True
        os.ftruncate(fd, 0)
        return False


def _unwritten(data: bytes, written: int) -> bytes:
    """The lines of data that are not complete in its first so many bytes."""
    if written >= len(data) - 1:  # but for the final newline, and the next line begins with one
        return b""
    if data[written : written + 1] == b"\n":
        return data[written:]
    return data[max(0, data.rfind(b"\n", 0, written)) :]


class _Fold(_File):
    """Sums of calls, for when the spool is full or locked: fixed slots, updated in place.

    A slot is a usage event with a `count`; the reader takes the file by renaming it.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path, os.O_RDWR)
        self.close()

    def close(self) -> None:
        """Forget what was in the file, too."""
        super().close()
        self._slots_read = 0
        self._slots: dict[tuple[Any, ...], int] = {}

    def add(self, event: dict[str, Any]) -> None:
        """Add a call. Raises OSError, when it is not in the file."""
        for _ in range(10):  # a reader may take it in quick succession
            fd = self.open()
            if not lock_file(fd, fcntl.LOCK_EX, FOLD_LOCK_WAIT_SECONDS):
                raise TimeoutError(f"{self.path} stays locked")
            try:
                if is_file_at(self.path, fd):  # the reader did not take it while we waited
                    return self._add(event)
            finally:
                fcntl.flock(fd, fcntl.LOCK_UN)
        raise TimeoutError(f"{self.path} was replaced repeatedly while it was opened")

    def _add(self, event: dict[str, Any]) -> None:
        end = os.fstat(self.fd).st_size // SLOT
        self._read_new_slots(end)
        key = _fold_key(event, coarse=end > FINE_SLOTS) if _is_summable(event) else None
        number = self._slots.get(key, end) if key else end
        total = self._read_slot(number) if number < end else None
        if total and total["count"] < MAX_CALLS:
            event = _added(total, {**event, "count": 1})
        else:
            number = end
            event = {**event, "id": f"fold-{os.urandom(16).hex()}", "count": 1}
            event.pop("duration_seconds", None)
        self._write_slot(number, event, end)
        self._read_new_slots(max(end, number + 1))

    def _read_new_slots(self, end: int) -> None:
        """Those that other processes added, and our own."""
        for number in range(self._slots_read, end):
            # What is not a sum of ours raises one of these.
            with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
                event = self._read_slot(number)
                if event["count"] > 1 or _is_summable(event):
                    for coarse in (False, True):
                        self._slots[_fold_key(event, coarse)] = number
        self._slots_read = max(self._slots_read, end)

    def _read_slot(self, number: int) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(os.pread(self.fd, SLOT, number * SLOT))
        return event

    def _write_slot(self, number: int, event: dict[str, Any], end: int) -> None:
        for length in (MAX_LABEL, MAX_LABEL // 2):  # half of a label of wide characters is enough
            event.update({name: event[name][:length] for name in LABELS if name in event})
            content = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
            if len(content) < SLOT:
                break
        if os.pwrite(self.fd, content.ljust(SLOT - 1) + b"\n", number * SLOT) != SLOT:
            os.ftruncate(self.fd, end * SLOT)
            raise OSError(f"{self.path}: no room for a whole slot")


def _fold_key(event: dict[str, Any], coarse: bool) -> tuple[Any, ...]:
    """What one slot sums. Every zone's midnight falls on a quarter of an hour in UTC."""
    minute = event["time"][:16]
    period = f"{minute[:14]}{int(minute[14:]) // 15}/4" if coarse else minute
    return (period, *map(event.get, (*LABELS, "outcome", "estimated")))


def _is_summable(event: dict[str, Any]) -> bool:
    """Whether the exporter would take it: one that it refuses must not spoil a sum."""
    batch = (event.get(key, 0) for key in ("batch_items", "batch_slots"))
    numbers = *event.get("usage", {}).values(), *batch  # or why the usage cannot be counted
    return all(isinstance(number, int) and 0 <= number <= MAX_TOKENS for number in numbers)


def _added(total: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """The sum with all whole numbers of another event more."""
    for key, value in more.items():
        if isinstance(value, dict):
            total[key] = _added(total.get(key, {}), value)
        elif type(value) is int:
            total[key] = total.get(key, 0) + value
    return total


# --- the effective config -----------------------------------------------------------------------


class _Snapshot:
    """One version of the config, and what was asked of it so far. Raises ValueError."""

    def __init__(self, config: Any) -> None:
        if not isinstance(config, dict):
            raise ValueError("the config is not a mapping")
        for key in ("field_configs", "roasters"):
            inner = config.get(key) or {}
            if not isinstance(inner, dict) or not all(
                isinstance(item or {}, dict) for item in inner.values()
            ):
                raise ValueError(f"{key} is not a mapping of mappings")
        self._config = config
        # Remembered with the snapshot, and not beyond it.
        self.of = functools.lru_cache(REMEMBERED)(self._of)
        self.allows = functools.lru_cache(REMEMBERED)(self._allows)

    def _of(self, roaster: str | None) -> dict[str, Any]:
        """The config with that roaster's override merged deeply over it."""
        override = (self._config.get("roasters") or {}).get(roaster)
        merged: dict[str, Any] = _merge(self._config, override) if override else self._config
        return merged

    def _allows(self, field: str | None, roaster: str | None) -> bool:
        config = self.of(roaster)
        fields = config.get("field_configs")
        entry = fields.get(field) if isinstance(fields, dict) else None
        enabled = entry.get("enabled", True) if isinstance(entry, dict) else True
        return bool(config.get("enabled", True)) and bool(enabled)


def _merge(base: Any, over: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return {**base, **{key: _merge(base.get(key), value) for key, value in over.items()}}


def _parse_config(raw: bytes) -> _Snapshot:
    """JSON, or YAML where PyYAML is installed. Raises ValueError."""
    if len(raw) > MAX_CONFIG_BYTES:
        raise ValueError("larger than 8 MiB, which no config is")
    with contextlib.suppress(json.JSONDecodeError):
        return _Snapshot(json.loads(raw))
    try:
        yaml = importlib.import_module("yaml")
    except ImportError as error:
        raise ValueError(
            "not JSON, and for YAML PyYAML is not installed; let the receiver write a .json "
            "file, or set LLM_BUDGET_CONFIG_URL"
        ) from error
    try:
        return _Snapshot(yaml.load(raw, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


class _Config:
    """The last good config of a file (checked when used) or a URL (polled by a thread)."""

    def __init__(self, path: str, url: str) -> None:
        self._path, self._url = path, url
        self._snapshot: _Snapshot | None = None
        self._version: Any = ""  # of the file: its state; of the URL: its ETag
        self.after_fork()

    def after_fork(self) -> None:
        """The parent's thread is not in the child: the next look starts another."""
        self._stop = threading.Event()
        self._next_look = 0.0
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def snapshot(self) -> _Snapshot | None:
        """The newest config; None when there never was one. Waits for a URL's first answer only."""
        if time.monotonic() >= self._next_look:
            if self._path:
                self._next_look = time.monotonic() + CONFIG_POLL_SECONDS
                self._look()
            elif self._url:
                self._start_polling()
            else:
                self._next_look = float("inf")
                warn("config", "neither LLM_BUDGET_EFFECTIVE nor LLM_BUDGET_CONFIG_URL is set")
        return self._snapshot

    def _look(self) -> None:
        version: Any
        try:
            if self._path:
                state = os.stat(self._path)
                version = (state.st_ino, state.st_mtime_ns, state.st_size)
                if version == self._version:
                    return
                with open(self._path, "rb") as file:
                    raw = file.read(MAX_CONFIG_BYTES + 1)
                self._version = version  # what cannot be parsed is not parsed again
            else:
                headers = {"Accept": "application/json", "If-None-Match": self._version}
                status, told, raw = http_request(self._url, headers, limit=MAX_CONFIG_BYTES + 1)
                if status == 304:
                    return
                if status != 200:
                    raise ValueError(f"HTTP {status}")
                version = told.get("ETag") or ""
            self._snapshot = _parse_config(raw)
            self._version = version
        except Exception as error:  # whatever was there: the caller, or the thread, goes on
            warn("config", f"keeping the last good config; {self._path or self._url}: {error}")

    def _start_polling(self) -> None:
        with self._starting:
            if self._thread is None:
                answered = threading.Event()
                self._thread = threading.Thread(
                    target=self._poll, args=(answered,), name="llm-budget-config", daemon=True
                )
                self._thread.start()
                answered.wait(0 if self._snapshot else FIRST_CONFIG_SECONDS)
                self._next_look = float("inf")  # from now on the thread replaces the snapshot

    def _poll(self, answered: threading.Event) -> None:
        while True:
            self._look()
            answered.set()
            if self._stop.wait(CONFIG_POLL_SECONDS):
                return

    def close(self) -> None:
        self._stop.set()


# --- the client ---------------------------------------------------------------------------------

_clients: weakref.WeakSet[Client] = weakref.WeakSet()


class Client:
    """Reports to one spool and obeys one effective config; safe among threads and across fork.

    spool: the file to append to; None: record() counts every call as lost. effective: the file
    that the receiver writes (JSON, or YAML where PyYAML is installed), else config_url: its
    GET /config. provider: which prices apply (the exporter's default is deepseek). max_bytes: size
    of the spool from which calls fold into sums. ids="own": each call gets an id of its own, for a
    provider whose ids repeat.
    """

    def __init__(
        self,
        spool: str | os.PathLike[str] | None = None,
        *,
        effective: str | os.PathLike[str] | None = None,
        config_url: str | None = None,
        provider: str = "",
        max_bytes: int = MAX_BYTES,
        ids: str = "provider",
    ) -> None:
        self.provider = provider
        self._own_ids = own_ids(ids)
        # Absolute, for a program that becomes a daemon and changes to another folder.
        self._spool = _Spool(os.path.abspath(spool) if spool else "", max_bytes)
        self._config = _Config(os.path.abspath(effective) if effective else "", config_url or "")
        _clients.add(self)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Client:
        """LLM_BUDGET_SPOOL, _EFFECTIVE, _CONFIG_URL, _PROVIDER, _IDS, _SPOOL_MAX_BYTES."""
        value = environment.get
        size = value("LLM_BUDGET_SPOOL_MAX_BYTES") or str(MAX_BYTES)
        if not size.isdecimal():
            warn("environment", f"LLM_BUDGET_SPOOL_MAX_BYTES is {size!r}, not a number of bytes")
        return cls(
            value("LLM_BUDGET_SPOOL"),
            effective=value("LLM_BUDGET_EFFECTIVE"),
            config_url=value("LLM_BUDGET_CONFIG_URL"),
            provider=value("LLM_BUDGET_PROVIDER", ""),
            max_bytes=int(size) if size.isdecimal() else MAX_BYTES,
            ids=value("LLM_BUDGET_IDS") or "provider",
        )

    def record(
        self,
        roaster: str | None,
        field: Field | None,
        response: Any = None,
        *,
        outcome: str = "success",
        usage: Any = None,
        estimated: bool = False,
        model: str | None = None,
        provider: str | None = None,
        service_tier: str | None = None,
        event_id: str | None = None,
        at: float | None = None,
        duration_seconds: float | None = None,
        batch_items: int = 0,
        batch_slots: int = 0,
        messages: Any = None,
    ) -> bool:
        """Report one call; True when it is in the spool (or its fold). Never raises.

        False, too, when its usage cannot be counted: the exporter gets it, and counts it refused.
        response: the provider's response object or dict (its id, model and usage are taken), or
        None. field: one, or several that share the response (a list: equally; a dict: by weight).
        outcome: success, error, rate_limited, cached (your own cache) or fallback (your
        deterministic parser). usage, model, service_tier (`batch`, for one that the response does
        not tell), event_id, at (Unix seconds) override the response's.
        estimated: usage is your estimate. A response without usage is estimated from its text and
        messages. batch_items of batch_slots: how full the batch was.
        """
        try:
            if not self._spool.path:
                return self._spool.count_lost("LLM_BUDGET_SPOOL is not set")
            said = usage_of(response) if usage is None else usage
            said = said if type(said) is dict else as_json(said)
            kind: Any = type(response)
            if said is None and (instead := _not_an_answer(kind)):
                return self._spool.count_lost(instead)
            billed = outcome not in UNBILLED
            tokens, problem = count_or_problem(said, not estimated) if billed else (None, "")
            if outcome == "success" and tokens is None and not problem:
                tokens = None if response is None else _estimate(response, messages)
                estimated = tokens is not None
                problem = "" if estimated else "success without usage, or text to estimate it by"
            given = event_id or (get(response, "id") if billed and not self._own_ids else None)
            identity = _identity(given) if given else os.urandom(16).hex()
            roaster, provider = _plain(roaster or ""), _plain(provider or self.provider)
            model = _plain(model or _find(response, *MODEL) or "")
            tier = service_tier_of(as_json(service_tier or _find(response, *TIER)), said)
            shared = _shared(outcome, estimated, at, duration_seconds)
            lines = ""
            for end, name, share, *batch in _parts(field, tokens, batch_items, batch_slots):
                labels = _labels(roaster, name, model, provider, tier)
                numbers = _numbers(problem or share, *batch)
                event = {"id": identity + end, **shared, **labels, **numbers}
                lines += f"\n{_encode(event)}\n"
            if problem:  # the exporter refuses it, and counts that
                warn("usage", f"usage that cannot be counted: {problem}")
            return self._spool.append(lines.encode()) and not problem
        except Exception as error:  # whatever the response was made of: the caller goes on
            return self._spool.count_lost(f"{type(error).__name__}: {error}")

    def lost(self) -> int:
        """Calls that this process could write neither to the spool nor to its fold."""
        return self._spool.lost

    def current(self, roaster: str | None = None) -> dict[str, Any] | None:
        """The effective config, with the roaster's override when one is named; do not change it.

        At most about a second stale; the last good one while the file or the receiver is away or
        wrong; None when there never was one.
        """
        snapshot = self._config.snapshot()
        return snapshot.of(roaster) if snapshot else None

    def allowed(self, field: str | None, roaster: str | None = None, default: bool = False) -> bool:
        """Whether the LLM may be asked: it is enabled, and so is this field, for this roaster.

        default: the answer as long as no config was ever read (False: not asking is safe).
        """
        snapshot = self._config.snapshot()
        return snapshot.allows(field, roaster) if snapshot else default

    def close(self) -> None:
        """Close the files and end the thread that polls a URL; recording goes on if asked to."""
        self._config.close()
        self._spool.close()


def _after_fork_in_child() -> None:
    for client in list(_clients):
        client._spool.after_fork()
        client._config.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


# --- the default client, and the optional files -------------------------------------------------


@functools.lru_cache(maxsize=1)
def default_client() -> Client:
    """The client that the functions below use, made from the environment at their first call."""
    return Client.from_environment()


def record(roaster: str | None, field: Field | None, response: Any = None, **more: Any) -> bool:
    """Client.record of the default client."""
    return default_client().record(roaster, field, response, **more)


def current(roaster: str | None = None) -> dict[str, Any] | None:
    """Client.current of the default client."""
    return default_client().current(roaster)


def allowed(field: str | None, roaster: str | None = None, default: bool = False) -> bool:
    """Client.allowed of the default client."""
    return default_client().allowed(field, roaster, default)


def lost() -> int:
    """Client.lost of the default client."""
    return default_client().lost()


_OPTIONAL = {"wrap": "client_openai", "deliver": "client_delivery"}


def __getattr__(name: str) -> Any:
    """wrap and deliver, where their files lie beside this one. Raises ImportError elsewhere."""
    if name not in _OPTIONAL:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    file = _OPTIONAL[name]
    full_name = f"{__package__}.{file}" if __package__ else file
    try:
        return getattr(importlib.import_module(full_name), name)
    except ModuleNotFoundError as error:
        if error.name != full_name:
            raise
        folder = os.path.dirname(os.path.abspath(__file__))
        raise ImportError(
            f"{name} is in {file}.py of llm-budget's sdk folder: copy that file to {folder}, too"
        ) from None


if __name__ == "__main__":
    sys.exit("client.py: deliver is now: python client_delivery.py --spool FILE --exporter URL")
