"""Alertmanager's webhook: what each alert is about, and what is remembered of it."""

import hashlib
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import Struct

from alertmanager.receiver.ladder.ladder import Ladder, name_of
from alertmanager.receiver.state import Claim, State

log = logging.getLogger("receiver")
MAX_SCOPE_LENGTH = 256  # a label value longer than this is no roaster
MAX_NAME_LENGTH = 100  # of an alert's name, as it is remembered
MAX_CLAIMS = 10_000
RESOLVED_KEPT_SECONDS = 26 * 3600.0  # an alert's longest life: what the rules hold


class Alert(Struct, frozen=True, rename="camel"):
    """One alert of a notification; the keys that nobody here reads are ignored."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    starts_at: datetime
    ends_at: datetime
    fingerprint: str = ""


class Notification(Struct, frozen=True, rename="camel"):
    """The webhook's body, version 4."""

    version: Literal["4"]
    status: Literal["firing", "resolved"]
    alerts: list[Alert]
    truncated_alerts: int = 0


def unix(moment: datetime) -> float:
    """Unix seconds; a naive time is UTC, one that cannot be (year 1: "no end yet") is 0."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())


def entry_of(labels: Mapping[str, str], ladder: Ladder) -> str | None:
    """The entry that labels ask for; None when they ask for none, or for one not on the ladder."""
    if level := labels.get("degradation"):
        return level if level in ladder.names[1:] else None
    for tuning in ladder.tunings:
        if tuning.automatic and tuning.tuning == labels.get("tuning"):
            if tuning.scope is None:
                return tuning.tuning
            # Earlier rules named the scope by its kind alone.
            scope = labels.get("scope") or labels.get(tuning.scope, "")
            return f"{tuning.tuning}/{scope}" if 0 < len(scope) <= MAX_SCOPE_LENGTH else None
    return None


def requested_name(labels: Mapping[str, str]) -> str:
    """The name of the level or tuning that labels ask for, on the ladder or not; "": none."""
    return labels.get("degradation") or labels.get("tuning") or ""


def note_alert(state: State, alert: Alert, ladder: Ladder, now: float, can_confirm: bool) -> None:
    """Remember what one alert of a webhook says.

    can_confirm: whether an API can say that it fires. Then one that is not newer than its last
    resolve is a late repeat, and counts only where an API says the same.
    """
    entry, key = entry_of(alert.labels, ladder), alert.fingerprint[:64]
    if not key:  # the sender gave none
        pairs = msgspec.json.encode(sorted(alert.labels.items()))
        key = hashlib.blake2b(pairs, digest_size=16).hexdigest()
    if entry is None:
        if name := requested_name(alert.labels)[:MAX_NAME_LENGTH]:
            log.warning("an alert asks for %r, which the ladder does not have", name)
    elif alert.status == "resolved":
        ended = unix(alert.ends_at) or now
        if key in state.claims and state.claims[key].starts_at <= ended:
            del state.claims[key]  # else it fired again since
        state.resolved[key] = max(ended, state.resolved.get(key, 0.0))
    elif not can_confirm or unix(alert.starts_at) > state.resolved.get(key, -1.0):
        if key not in state.claims and len(state.claims) >= MAX_CLAIMS:
            key = f"one of more than {MAX_CLAIMS} that ask for {name_of(entry)}"
        name = alert.labels.get("alertname", "")[:MAX_NAME_LENGTH]
        state.claims[key] = Claim(entry, unix(alert.starts_at), now, name)


def forget_old_resolves(state: State, now: float) -> None:
    """Drop resolves so old that no alert from before them can still be firing."""
    newest = sorted(state.resolved.items(), key=lambda item: item[1])[-MAX_CLAIMS:]
    state.resolved = {key: ended for key, ended in newest if ended >= now - RESOLVED_KEPT_SECONDS}
