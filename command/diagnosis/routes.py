"""Which way an alert goes by an Alertmanager's own config, without sending one."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Labels = Mapping[str, str]
_MATCHER = re.compile(r'\s*"?([^"=!~\s]+)"?\s*(=~|!~|!=|=)\s*(.*?)\s*', re.DOTALL)
_MUTES = ("mute_time_intervals", "active_time_intervals")
HIDDEN = "<secret>"  # what Alertmanager's API shows of a URL that may hold a token


class Arrival(NamedTuple):
    """One receiver that gets an alert. wait: its group_wait; muted: at some times it does not."""

    receiver: str
    wait: str
    muted: bool


def arrivals(
    route: Mapping[str, Any], labels: Labels, receiver: str = "", wait: str = "30s"
) -> list[Arrival]:
    """Who gets an alert with these labels. receiver, wait: what the route inherits."""
    if any(not holds(one, labels) for one in matchers(route)):
        return []
    receiver, wait = route.get("receiver") or receiver, route.get("group_wait") or wait
    found: list[Arrival] = []
    for child in route.get("routes") or []:
        below = arrivals(child, labels, receiver, wait)
        found += below
        if below and not child.get("continue"):
            break
    return found or [Arrival(receiver, wait, any(route.get(key) for key in _MUTES))]


def matchers(holder: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Those of a route, or with the prefix source_ or target_ of an inhibit rule."""
    old = ((f"{prefix}match", "="), (f"{prefix}match_re", "=~"))
    pairs = (
        (op, name, value) for key, op in old for name, value in (holder.get(key) or {}).items()
    )
    return [
        *(holder.get(f"{prefix}matchers") or ()),
        *(f"{n}{op}{json.dumps(v)}" for op, n, v in pairs),
    ]


def holds(matcher: str, labels: Labels) -> bool:
    """Whether labels satisfy one matcher. Raises ValueError for one that cannot be read."""
    if not (found := _MATCHER.fullmatch(matcher)):
        raise ValueError(f"matcher {matcher!r}")
    name, operator, text = found.groups()
    value = json.loads(text) if text.startswith('"') else text
    have = labels.get(name, "")
    try:
        same = bool(re.fullmatch(value, have)) if "~" in operator else have == value
    except re.error as error:
        raise ValueError(f"matcher {matcher!r}: {error}") from error
    return same is not operator.startswith("!")


def unmet(
    route: Mapping[str, Any], labels: Labels, targets: set[str], above: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Of each route that ends at one of the targets: the matchers that keep the labels out."""
    here = (*above, *(one for one in matchers(route) if not holds(one, labels)))
    if route.get("receiver") in targets:
        yield here
    for child in route.get("routes") or []:
        yield from unmet(child, labels, targets, here)


def hooks(config: Mapping[str, Any]) -> set[str]:
    """The receivers by which the degradation receiver gets alerts: a webhook to /alerts.

    Where the API hides the webhook's URL, the receiver's name must say degradation.
    """
    found = set()
    for receiver in config.get("receivers") or []:
        urls = [str(one.get("url")) for one in receiver.get("webhook_configs") or []]
        known = any(url.rstrip("/").endswith("/alerts") for url in urls)
        if known or (HIDDEN in urls and "degradation" in receiver["name"]):
            found.add(receiver["name"])
    return found
