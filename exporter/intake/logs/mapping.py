"""A line of a log as a usage event, through the log's key map and filter."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from exporter.config import Log, as_text
from exporter.event import EventError, Reason, UsageEvent, parse_event
from exporter.intake.logs.lenient import decode, inner
from sdk.client import leaves, role_of, unwrapped, whole_number

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_NUMBER = re.compile(r"\d{1,18}(?:\.\d{1,18})?", re.ASCII)
_BEGINS_AS_OBJECT = re.compile(rb'\{\s*"')  # it may be the torn line of a call
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
# Seconds, milliseconds, microseconds or nanoseconds of today. 14 digits are a date without dashes.
_EPOCH = re.compile(r"(?:\d{9,10}|\d{12,13}|\d{15,16}|\d{18,19})(?:\.\d+)?", re.ASCII)
# " UTC", "+0000 UTC" (Go), "+01:00[Europe/Paris]" (Java)
_ZONE = re.compile(r"\s*(?:([+-]\d\d:?\d\d)|Z|UTC|GMT)(?: [A-Z]{3,5}|\[[A-Z/_]+\])?$", re.ASCII)
_DATE_WITH_SLASHES = re.compile(r"^(\d{4})/(\d\d)/(\d\d)", re.ASCII)
# Unix seconds stay below until the year 5138; milliseconds have been above since 1973, and so on.
_MOST_SECONDS = 1e11


def read_line(line: bytes, rule: Log | None, received: float) -> UsageEvent | None:
    """The event of a line; None when it is blank or the filter leaves it out.

    rule: None for lines that are usage events as they are. received: Unix seconds.
    Raises EventError.
    """
    line = line.lstrip(b"\0").strip().removeprefix(BYTE_ORDER_MARK)
    if not line:
        return None
    value = _decoded(line, rule)
    try:
        if rule is not None and isinstance(value, dict):
            if not all(_matches(find(value, path), wanted) for path, wanted in rule.only.items()):
                return None
            value = _mapped(value, rule)
            # Usage of a total alone becomes an estimate, where the log says how it is split.
            if rule.split and (usage := split_total(value.get("usage"), rule.split.input)):
                value.update(usage=usage, estimated=True)
        event = parse_event(value, received)
        # A line without a time may have waited in the log for hours.
        return event if value.get("time") is not None else replace(event, live=False)
    except UnicodeEncodeError as error:
        raise EventError("schema", "text that is not Unicode in a key of the event") from error


def _decoded(line: bytes, rule: Log | None) -> Any:
    """The value of a line. Raises EventError, also for lines that the rule ignores."""
    if b"\0" in line[:4] or line.startswith(UTF16_MARKS):
        raise EventError("malformed", "this line is UTF-16; the log must be written as UTF-8")
    ignoring = rule is not None and rule.other_lines == "ignore"
    try:
        value = decode(line)
    except ValueError as error:
        other = ignoring and not _BEGINS_AS_OBJECT.match(line)
        reason: Reason = "not_json" if other else "malformed"
        raise EventError(reason, "this line is not JSON") from error
    if ignoring and not isinstance(value, dict):
        raise EventError("not_json", "this line is not a JSON object")
    return value


def read_lines(
    lines: list[bytes], rule: Log | None, received: float
) -> tuple[list[UsageEvent], list[EventError]]:
    """The events of lines, and the refusals; see read_line."""
    events, refusals = [], []
    for line in lines:
        try:
            if event := read_line(line, rule, received):
                events.append(event)
        except EventError as error:
            refusals.append(error)
    return events, refusals


def find(value: Any, path: str) -> Any:
    """What a dotted path leads to, None when it leads nowhere; a key that has dots comes first.

    A step also leads into text that holds a JSON object.
    """
    value = inner(value) if isinstance(value, str) else value
    if not isinstance(value, dict):
        return None
    if path in value:
        return value[path]
    head, dot, rest = path.partition(".")
    return find(value.get(head), rest) if dot else None


def _matches(value: Any, wanted: Any) -> bool:
    options = wanted if isinstance(wanted, list) else [wanted]
    # JSON's true is not its 1, though Python's is.
    return any(value == option and type(value) is type(option) for option in options)


def _mapped(line: Mapping[str, Any], rule: Log) -> dict[str, Any]:
    """The event's raw keys; without a key map the line's own."""
    own = () if rule.keys else line.items()
    event = {key: value for key, value in own if key.isascii()}  # as an event's keys are
    for key, path in rule.keys.items():
        _put(event, key, find(line, path))
    for key, words in rule.values.items():
        word = as_text(find(event, key))
        if isinstance(word, str) and word in words:
            _put(event, key, words[word])
    for key, value in rule.defaults.items():
        if find(event, key) is None:
            _put(event, key, value)
    return {key: _as_wanted(key, value, rule) for key, value in event.items()}


def _as_wanted(key: str, value: Any, rule: Log) -> Any:
    """A value of an event in the JSON type of its key, where that loses nothing."""
    if key == "time":
        try:
            return iso_time(value, rule.timezone)
        except (ValueError, OverflowError, OSError) as error:
            raise EventError("time", "not an ISO 8601 time or Unix time - at `$.time`") from error
    if key == "usage":  # its numbers may be text for any reader of usage
        return inner(value) or value if isinstance(value, str) else value
    if key in ("duration_seconds", "batch_items", "batch_slots", "count"):
        is_number = isinstance(value, str) and _NUMBER.fullmatch(value)
        return whole_number(float(value) if is_number else value)
    value = as_text(value)
    if key == "estimated" and isinstance(value, str):
        return _FLAGS.get(value.lower(), value)
    return value


def iso_time(value: Any, zone: str | None) -> Any:
    """A time as ISO 8601; what is none is given back as it is.

    Numbers, also as text, are Unix seconds, or ms, us or ns by their size. zone: the IANA zone of
    times that name none. Raises ValueError, OverflowError and OSError for impossible times.
    """
    if isinstance(value, str):
        if not _EPOCH.fullmatch(value.strip()):
            return _iso_text(value, zone)
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    for _ in range(3):
        value = value / 1000 if abs(value) >= _MOST_SECONDS else value
    return datetime.fromtimestamp(value, UTC).isoformat()


def _iso_text(text: str, zone: str | None) -> str:
    plain = _DATE_WITH_SLASHES.sub(r"\1-\2-\3", text.strip().upper())
    if named := _ZONE.search(plain):
        plain = plain[: named.start()] + (named[1] or "Z")
    moment = datetime.fromisoformat(plain)
    if moment.tzinfo is None and zone is not None:
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    return moment.isoformat()


def split_total(usage: Any, prompt_share: float) -> dict[str, int] | None:
    """Usage of a total alone, of which so much was the prompt; None where there is more or less."""
    named = [(role_of(path), value) for path, value in leaves(unwrapped(usage)) if value]
    total = max((n for role, n in named if role == "total" and type(n) is int), default=0)
    if total <= 0 or {role for role, _ in named} - {"total", None}:
        return None
    prompt = max(1, round(total * prompt_share))
    return {"prompt_tokens": prompt, "completion_tokens": total - prompt}


def _put(event: dict[str, Any], key: str, value: Any) -> None:
    """Set an event key, also one inside usage; a value that is missing sets nothing."""
    if value is None:
        return
    head, _, below = key.partition(".")
    usage = event.get(head)
    around = usage if isinstance(usage, dict) else {}
    event[head] = {**around, below: value} if below else value
