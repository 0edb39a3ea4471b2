"""One usage event: decoded, checked and normalised, or refused with a reason."""

import re
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from common.names import UNKNOWN
from sdk import client

MAX_ID_LENGTH = 512
DEFAULT_PROVIDER = "deepseek"
LIVE_SECONDS = 60.0  # within so long of its own time, an event says what happens now
# Controls, line and paragraph separators, and lone surrogates, which no UTF-8 page can carry.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

Sum = Annotated[int, Meta(ge=0, le=client.MAX_TOKENS * client.MAX_CALLS)]  # over an event's calls
Outcome = Literal["success", "error", "rate_limited", "cached", "fallback"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
Reason = Literal[
    "malformed", "not_json", "too_long", "schema", "time", "label", "usage", "too_old", "conflict",
    "implausible", "unstorable",
]  # fmt: skip
# The details of usage that are in a digest.
_DETAILS = {
    "prompt_tokens_details": ("cached_tokens", "cache_write_tokens", "audio_tokens"),
    "completion_tokens_details": ("audio_tokens",),
}
_IN_DETAILS = {"cache_write", "input_audio", "output_audio"}  # the extras that these say


class EventError(ValueError):
    """An event is refused; reason is a label value, str() says which key and why."""

    def __init__(self, reason: Reason, message: str) -> None:
        # It may quote a key with half an emoji, which no answer and no log line can carry.
        super().__init__(message.encode("utf-8", "backslashreplace").decode())
        self.reason: Reason = reason
        self.success = False  # whether the call succeeded, so that money was spent


class _RawEvent(Struct, omit_defaults=True):  # so that a key added later changes no old content
    outcome: Outcome
    id: str | None = None
    time: str | None = None
    roaster: str | None = None
    field: str | None = None
    model: str | None = None
    provider: str | None = None
    usage: dict[str, Any] | None = None
    estimated: bool = False
    duration_seconds: Annotated[float, Meta(ge=0, le=86_400)] | None = None
    batch_items: Sum = 0
    batch_slots: Sum = 0
    count: Annotated[int, Meta(ge=1, le=client.MAX_CALLS)] = 1
    share: bool = False  # one field's part of a call, which may have no tokens
    service_tier: Any = None


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One call, ready to be booked. Tokens are disjoint: input excludes cached input."""

    roaster: str
    field: str
    model: str
    product: str  # what has a price: the model, or the model in a service tier (`gpt-4o:flex`)
    outcome: Outcome
    time: float  # Unix seconds at which it is booked
    claimed: float  # Unix seconds of its own time; later than time when that lies in the future
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    extras: tuple[tuple[str, int], ...] = ()  # of these, what a list may charge apart, by kind
    estimated: bool = False
    provider: str = DEFAULT_PROVIDER
    duration_seconds: float | None = None
    batch_items: int = 0
    batch_slots: int = 0
    count: int = 1  # calls folded into this event
    live: bool = False  # received within LIVE_SECONDS of the time that it gives
    digest: bytes | None = None  # 16 bytes of (provider, id); None: not idempotent
    content: bytes = b""  # digest of everything but the id, to tell a repeat from a conflict

    @property
    def prompt_tokens(self) -> int:
        return self.input_tokens + self.cached_input_tokens

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens


def parse_event(raw: Any, received: float) -> UsageEvent:
    """Check one decoded JSON value. received: Unix seconds. Raises EventError."""
    try:
        return _parse(msgspec.convert(raw, _RawEvent), received)
    except msgspec.ValidationError as error:
        refused = EventError("schema", str(error))
    except EventError as error:
        refused = error
    refused.success = isinstance(raw, dict) and raw.get("outcome") == "success"
    raise refused


def _parse(event: _RawEvent, received: float) -> UsageEvent:
    tokens = _tokens(event)
    provider = _label("provider", event.provider, DEFAULT_PROVIDER)
    # A plain one is not told from none in the event's content.
    tier = client.service_tier_of(event.service_tier, event.usage)
    event.service_tier = tier or None
    model = _label("model", event.model)
    claimed = received if event.time is None else _timestamp(event.time)
    if event.id and len(event.id) > MAX_ID_LENGTH:
        raise EventError("schema", f"longer than {MAX_ID_LENGTH} characters - at `$.id`")
    return UsageEvent(
        roaster=_label("roaster", event.roaster),
        field=_label("field", event.field),
        model=model,
        product=model if not tier or model.endswith(f":{tier}") else f"{model}:{tier}",
        outcome=event.outcome,
        time=min(claimed, received),
        claimed=claimed,
        input_tokens=tokens.prompt - tokens.cached,
        cached_input_tokens=tokens.cached,
        output_tokens=tokens.completion,
        extras=tuple(tokens.extras.items()),
        estimated=event.estimated,
        provider=provider,
        duration_seconds=event.duration_seconds,
        batch_items=event.batch_items,
        batch_slots=event.batch_slots,
        count=event.count,
        live=abs(received - claimed) <= LIVE_SECONDS,
        digest=digest_of(provider, event.id) if event.id else None,
        content=_content(event, tokens),
    )


def _tokens(event: _RawEvent) -> client.Tokens:
    """The event's tokens; only what asked nobody, or failed, may have none."""
    try:
        tokens = client.count_tokens(event.usage, whole=not (event.estimated or event.share))
    except client.UsageError as error:
        raise EventError("usage", str(error)) from error
    if tokens is None and event.outcome == "success" and not event.share:
        keys = ", ".join(key[:40] for key in list(event.usage or ())[:12]) or "none"
        raise EventError("usage", f"success without usage; keys found: {keys} - at `$.usage`")
    tokens = tokens or client.Tokens(0, 0, 0, {})
    for key, number in (
        ("batch_items", event.batch_items),
        ("batch_slots", event.batch_slots),
        ("usage.prompt_tokens", tokens.prompt),
        ("usage.completion_tokens", tokens.completion),
    ):
        if number > client.MAX_TOKENS * event.count:  # the bound of each call that it sums up
            raise EventError("schema", f"more than {client.MAX_TOKENS} a call - at `$.{key}`")
    return tokens


def is_label(value: str) -> bool:
    """Whether a roaster, field or model may be called so."""
    return 0 < len(value) <= client.MAX_LABEL and not _CONTROLS.search(value)


def _label(name: str, value: str | None, missing: str = UNKNOWN) -> str:
    """A label value: missing or empty becomes unknown; long or with controls is refused."""
    if not value:
        return missing
    if not is_label(value):
        rule = f"at most {client.MAX_LABEL} characters without controls"
        raise EventError("label", f"must be {rule} - at `$.{name}`")
    return value


def _timestamp(text: str) -> float:
    """Unix seconds of an ISO 8601 time. Raises EventError."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo:
            return moment.timestamp()
    except (ValueError, OverflowError) as error:
        raise EventError("time", "not an ISO 8601 time - at `$.time`") from error
    raise EventError("time", "needs a zone, e.g. a trailing Z - at `$.time`")


def digest_of(*parts: str) -> bytes:
    """16 bytes that stand for an id in its scope."""
    return blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _content(event: _RawEvent, tokens: client.Tokens) -> bytes:
    """A digest of the event without its id, as it was written; the order of keys does not matter.

    Defaults are left out, so that a key which a later version learns does not change old digests.
    For the same reason usage is what it was when only OpenAI's and DeepSeek's keys were known; the
    counts follow where they say more.
    """
    event.id = None
    if (usage := event.usage) is not None:
        known = {
            key: client.whole_number(usage[key])
            for key in ("prompt_tokens", "completion_tokens")
            if usage.get(key)
        }
        known |= _given(usage, ("prompt_cache_hit_tokens",))
        for key, inner in _DETAILS.items():
            if isinstance(usage.get(key), dict):
                known[key] = _given(usage[key], inner)
        cached = known.get("prompt_tokens_details", {}).get("cached_tokens", 0)
        cached = known.get("prompt_cache_hit_tokens", cached)
        said = (known.get("prompt_tokens", 0), cached, known.get("completion_tokens", 0))
        if said != tokens[:3] or tokens.extras.keys() - _IN_DETAILS:
            known["counts"] = tokens
        event.usage = known
    return blake2b(msgspec.msgpack.encode(event), digest_size=16).digest()


def _given(usage: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: client.whole_number(usage[key]) for key in keys if usage.get(key) is not None}
