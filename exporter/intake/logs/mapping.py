"""A line of a log as a usage event, through the log's key map and filter."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from exporter.config import Log, as_text
from exporter.event import EventError, Reason, UsageEvent, parse_event, split_total
from exporter.intake.logs.lenient import decode, inner
from exporter.intake.logs.times import iso_time

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_NUMBER = re.compile(r"\d{1,18}(?:\.\d{1,18})?", re.ASCII)
_BEGINS_AS_OBJECT = re.compile(rb'\{\s*"')  # it may be the torn line of a call
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


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
            value = _split(_mapped(value, rule), rule)
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
    if key in ("usage", "duration_seconds", "batch_items", "batch_slots", "count"):
        value = inner(value) or value if isinstance(value, str) else value
        return _numbers(value)
    value = as_text(value)
    if key == "estimated" and isinstance(value, str):
        return _FLAGS.get(value.lower(), value)
    return value


def _numbers(value: Any, depth: int = 3) -> Any:
    """Numbers written as text or as whole floats (100.0), also those in a usage object."""
    if isinstance(value, dict) and depth:
        return {key: _numbers(item, depth - 1) for key, item in value.items()}
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value) if "." in value else int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _split(event: dict[str, Any], rule: Log) -> dict[str, Any]:
    """Usage of a total alone becomes an estimate, where the log says how it is split."""
    usage = rule.split and split_total(event.get("usage"), rule.split.input)
    return {**event, "usage": usage, "estimated": True} if usage else event


def _put(event: dict[str, Any], key: str, value: Any) -> None:
    """Set an event key, also one inside usage; a value that is missing sets nothing."""
    if value is None:
        return
    head, _, below = key.partition(".")
    usage = event.get(head)
    around = usage if isinstance(usage, dict) else {}
    event[head] = {**around, below: value} if below else value
