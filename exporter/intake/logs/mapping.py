"""A line of a log as a usage event, through the log's key map and filter."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from exporter.config import Log
from exporter.event import EventError, UsageEvent, parse_event
from exporter.usage import split_total


def read_line(line: bytes, rule: Log | None, received: float) -> UsageEvent | None:
    """The event of a line; None when it is blank or the filter leaves it out.

    rule: None for lines that are usage events as they are. received: Unix seconds.
    Raises EventError.
    """
    line = line.lstrip(b"\0").strip()
    if not line:
        return None
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EventError("malformed", "this line is not JSON") from error
    if rule is None or not isinstance(value, dict):
        return parse_event(value, received)
    if not all(_matches(find(value, path), wanted) for path, wanted in rule.only.items()):
        return None
    return parse_event(_split(_mapped(value, rule), rule), received)


def read_lines(
    lines: list[bytes], rule: Log | None, received: float
) -> tuple[list[UsageEvent], list[EventError]]:
    """The events of lines, and the refusals; see read_line."""
    events, refusals = [], []
    for line in lines:
        try:
            event = read_line(line, rule, received)
        except EventError as error:
            refusals.append(error)
            continue
        if event is not None:
            events.append(event)
    return events, refusals


def find(value: Any, path: str) -> Any:
    """What a dotted path leads to, None when it leads nowhere; a key that has dots comes first."""
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
    event: dict[str, Any] = {} if rule.keys else dict(line)
    for key, path in rule.keys.items():
        _put(event, key, find(line, path))
    for key, words in rule.values.items():
        value = find(event, key)
        if isinstance(value, str) and value in words:
            _put(event, key, words[value])
    for key, value in rule.defaults.items():
        if find(event, key) is None:
            _put(event, key, value)
    if "time" in event:
        event["time"] = _time(event["time"], rule.timezone)
    return event


def _split(event: dict[str, Any], rule: Log) -> dict[str, Any]:
    """Usage of a total alone becomes an estimate, where the log says how it is split."""
    usage = rule.split and split_total(event.get("usage"), rule.split.input)
    return {**event, "usage": usage, "estimated": True} if usage else event


def _put(event: dict[str, Any], key: str, value: Any) -> None:
    """Set an event key, also one inside usage; a value that is missing sets nothing."""
    if value is None:
        return
    head, _, inner = key.partition(".")
    if not inner:
        event[head] = value
        return
    usage = event.get(head)
    event[head] = {**(usage if isinstance(usage, dict) else {}), inner: value}


def _time(value: Any, zone: str | None) -> Any:
    """Unix seconds become ISO 8601; a time without a zone gets the log's."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC).isoformat()
        if zone is not None and isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))).isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise EventError("time", "not an ISO 8601 time or Unix seconds - at `$.time`") from error
    return value
