"""Person > backstop > alerts: which of them decides the level."""

from alertmanager.receiver.ladder.ladder import Ladder
from alertmanager.receiver.state import Override, State


def level_in_force(state: State, ladder: Ladder, now: float) -> str:
    """A person's word, else the higher of backstop, floor and what the alerts ask for."""
    override = in_force(state.override, now)
    if override and override.mode == "pin":
        return override.level
    ranks = [ladder.rank(state.level)]
    ranks += [len(ladder.levels)] if state.backstop else []
    ranks += [ladder.rank(override.level)] if override else []
    return ladder.names[max(ranks)]


def in_force(override: Override | None, now: float) -> Override | None:
    """The override unless its time is over."""
    return override if override and (override.until is None or now < override.until) else None
