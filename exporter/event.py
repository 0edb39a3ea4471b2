"""One usage event: decoded, checked and normalised, or refused with a reason."""

import re
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from common.names import UNKNOWN

MAX_TOKENS = 10_000_000  # per number of one call; beyond that a client is broken
MAX_CALLS = 100_000  # that one event may sum up
MAX_LABEL_LENGTH = 120
MAX_ID_LENGTH = 512
DEFAULT_PROVIDER = "deepseek"
# Controls, line and paragraph separators, and lone surrogates, which no UTF-8 page can carry.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

Sum = Annotated[int, Meta(ge=0, le=MAX_TOKENS * MAX_CALLS)]  # over the calls of one event
Outcome = Literal["success", "error", "rate_limited", "cached", "fallback"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
Reason = Literal["malformed", "too_long", "schema", "time", "label", "usage", "too_old", "conflict"]


class EventError(ValueError):
    """An event is refused; reason is a label value, str() says which key and why."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


class _PromptDetails(Struct, omit_defaults=True):
    cached_tokens: Sum | None = None
    cache_write_tokens: Sum | None = None
    audio_tokens: Sum | None = None


class _CompletionDetails(Struct, omit_defaults=True):
    audio_tokens: Sum | None = None


class _Usage(Struct, omit_defaults=True):
    """The provider's usage object; keys beyond these are ignored."""

    prompt_tokens: Sum = 0
    completion_tokens: Sum = 0
    prompt_cache_hit_tokens: Sum | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _RawEvent(Struct, omit_defaults=True):  # so that a key added later changes no old content
    outcome: Outcome
    id: str | None = None
    time: str | None = None
    roaster: str | None = None
    field: str | None = None
    model: str | None = None
    provider: str | None = None
    usage: _Usage | None = None
    estimated: bool = False
    duration_seconds: Annotated[float, Meta(ge=0, le=86_400)] | None = None
    batch_items: Sum = 0
    batch_slots: Sum = 0
    count: Annotated[int, Meta(ge=1, le=MAX_CALLS)] = 1


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One call, ready to be booked. Tokens are disjoint: input excludes cached input."""

    roaster: str
    field: str
    model: str
    outcome: Outcome
    time: float  # Unix seconds at which it is booked
    claimed: float  # Unix seconds of its own time; later than time when that lies in the future
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    extras: bool = False  # some of the tokens are such as a list may charge apart
    estimated: bool = False
    provider: str = DEFAULT_PROVIDER
    duration_seconds: float | None = None
    batch_items: int = 0
    batch_slots: int = 0
    count: int = 1  # calls folded into this event
    digest: bytes | None = None  # 16 bytes of (provider, id); None: not idempotent
    content: bytes = b""  # digest of everything but the id, to tell a repeat from a conflict

    @property
    def time_adjusted(self) -> bool:
        """Whether it claimed to be in the future."""
        return self.claimed > self.time

    @property
    def prompt_tokens(self) -> int:
        return self.input_tokens + self.cached_input_tokens

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens


def parse_event(raw: Any, received: float) -> UsageEvent:
    """Check one decoded JSON value. received: Unix seconds. Raises EventError."""
    try:
        event = msgspec.convert(raw, _RawEvent)
    except msgspec.ValidationError as error:
        raise EventError("schema", str(error)) from error
    if event.outcome == "success" and event.usage is None:
        raise EventError("usage", "success without usage - at `$.usage`")
    usage = event.usage or _Usage()
    _check_size(event, usage)
    cached = _cached_tokens(usage)
    provider = _label("provider", event.provider, DEFAULT_PROVIDER)
    claimed = received if event.time is None else _timestamp(event.time)
    return UsageEvent(
        roaster=_label("roaster", event.roaster),
        field=_label("field", event.field),
        model=_label("model", event.model),
        outcome=event.outcome,
        time=min(claimed, received),
        claimed=claimed,
        input_tokens=usage.prompt_tokens - cached,
        cached_input_tokens=cached,
        output_tokens=usage.completion_tokens,
        extras=_extras(usage),
        estimated=event.estimated,
        provider=provider,
        duration_seconds=event.duration_seconds,
        batch_items=event.batch_items,
        batch_slots=event.batch_slots,
        count=event.count,
        digest=_id_digest(provider, event.id),
        content=_content(event),
    )


def _check_size(event: _RawEvent, usage: _Usage) -> None:
    """The bound of one call holds for each of those that the event sums up."""
    numbers = {
        "batch_items": event.batch_items,
        "batch_slots": event.batch_slots,
        "usage.prompt_tokens": usage.prompt_tokens,
        "usage.completion_tokens": usage.completion_tokens,
    }
    for key, number in numbers.items():
        if number > MAX_TOKENS * event.count:
            raise EventError("schema", f"more than {MAX_TOKENS} a call - at `$.{key}`")


def _cached_tokens(usage: _Usage) -> int:
    """DeepSeek's key, else OpenAI's."""
    cached, key = usage.prompt_cache_hit_tokens, "prompt_cache_hit_tokens"
    if cached is None and usage.prompt_tokens_details is not None:
        cached = usage.prompt_tokens_details.cached_tokens
        key = "prompt_tokens_details.cached_tokens"
    if cached is not None and cached > usage.prompt_tokens:
        raise EventError("usage", f"more cached than prompt tokens - at `$.usage.{key}`")
    return cached or 0


def _extras(usage: _Usage) -> bool:
    """Whether there are cache writes or audio among the tokens."""
    prompt = usage.prompt_tokens_details or _PromptDetails()
    completion = usage.completion_tokens_details or _CompletionDetails()
    return bool(prompt.cache_write_tokens or prompt.audio_tokens or completion.audio_tokens)


def _label(name: str, value: str | None, missing: str = UNKNOWN) -> str:
    """A label value: missing or empty becomes unknown; long or with controls is refused."""
    if not value:
        return missing
    if len(value) > MAX_LABEL_LENGTH or _CONTROLS.search(value):
        rule = f"at most {MAX_LABEL_LENGTH} characters without controls"
        raise EventError("label", f"must be {rule} - at `$.{name}`")
    return value


def _timestamp(text: str) -> float:
    """Unix seconds of an ISO 8601 time. Raises EventError."""
    try:
        moment = datetime.fromisoformat(text)
        timestamp = moment.timestamp() if moment.tzinfo else None
    except (ValueError, OverflowError) as error:
        raise EventError("time", "not an ISO 8601 time - at `$.time`") from error
    if timestamp is None:
        raise EventError("time", "needs a zone, e.g. a trailing Z - at `$.time`")
    return timestamp


def _id_digest(provider: str, identity: str | None) -> bytes | None:
    if not identity:
        return None
    if len(identity) > MAX_ID_LENGTH:
        raise EventError("schema", f"longer than {MAX_ID_LENGTH} characters - at `$.id`")
    text = f"{provider}\0{identity}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).digest()


def _content(event: _RawEvent) -> bytes:
    """A digest of the event without its id, as it was written; the order of keys does not matter.

    Defaults are left out, so that a key which a later version learns does not change old digests.
    """
    event.id = None
    return blake2b(msgspec.msgpack.encode(event), digest_size=16).digest()
