"""Alertmanager's webhook, version 4: validated, and reduced to what each alert says."""

import hashlib
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import Struct, field

from common.http import HttpError


class Alert(Struct, frozen=True, rename="camel"):
    """One alert of a notification; the keys that nobody here reads are ignored."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    starts_at: datetime
    ends_at: datetime
    fingerprint: str = ""


class Notification(Struct, frozen=True, rename="camel"):
    """The webhook's body."""

    version: Literal["4"]
    status: Literal["firing", "resolved"]
    alerts: list[Alert]
    truncated_alerts: int = 0
    receiver: str = ""
    group_labels: dict[str, str] = field(default_factory=dict)


def parse_notification(body: bytes) -> Notification:
    """The notification. Raises HttpError 400 that says what is wrong with it."""
    try:
        return msgspec.json.decode(body, type=Notification)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, f"not an Alertmanager webhook of version 4: {error}") from error


def identity(alert: Alert) -> str:
    """The alert's fingerprint; of its labels where the sender gave none."""
    if alert.fingerprint:
        return alert.fingerprint[:64]
    pairs = msgspec.json.encode(sorted(alert.labels.items()))
    return hashlib.blake2b(pairs, digest_size=16).hexdigest()


def unix(moment: datetime) -> float:
    """Unix seconds; a naive time is UTC, one that cannot be (year 1: "no end yet") is 0."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
