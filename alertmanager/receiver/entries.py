"""What an alert asks for: a level, or a tuning with its scope ("roaster/blue-tokai")."""

from collections.abc import Mapping

from alertmanager.receiver.ladder.ladder import Ladder

MAX_SCOPE_LENGTH = 256  # a label value longer than this is no roaster


def entry_of(labels: Mapping[str, str], ladder: Ladder) -> str | None:
    """The entry that an alert with these labels asks for, None when it asks for none we know."""
    level = labels.get("degradation")
    if level:
        return level if level in ladder.names[1:] else None
    name = labels.get("tuning")
    for tuning in ladder.tunings:
        if tuning.automatic and tuning.tuning == name:
            return _scoped(name, labels.get(tuning.scope or ""), scoped=tuning.scope is not None)
    return None


def asks(labels: Mapping[str, str]) -> bool:
    """Whether the alert is addressed to the receiver at all."""
    return bool(labels.get("degradation") or labels.get("tuning"))


def kind(entry: str) -> str:
    """The level's or the tuning's name, without the scope."""
    return entry.partition("/")[0]


def _scoped(name: str, scope: str | None, *, scoped: bool) -> str | None:
    if not scoped:
        return name
    return f"{name}/{scope}" if scope and len(scope) <= MAX_SCOPE_LENGTH else None
