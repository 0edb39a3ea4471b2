"""What to go on with at a start: the state file, or without it whatever else shows it."""

import logging
import os
from pathlib import Path

import msgspec

from alertmanager.receiver.audit import Audit, Change
from alertmanager.receiver.configs import Configs
from alertmanager.receiver.ladder.ladder import NONE, Ladder
from alertmanager.receiver.state import (
    Active,
    Override,
    Saved,
    SeenLedger,
    State,
    copy_of,
    current_override,
    in_force,
    known_tunings,
    load_state,
    name_of,
)
from common.errors import UserError

log = logging.getLogger("receiver")
UNTOLD = "a person's override, if there was one, is lost; ask for it again"


def remembered(configs: Configs, path: Path, audit: Audit, *, shadow: bool, now: float) -> State:
    """The state file's; else what audit trail and effective file show, the stricter of both.

    A file of before there was a checksum counts, too, unless these two show more, or the trail was
    written since; when neither of them tells, it must name its level.
    """
    saved, problem = None, f"there is no state file {path}"
    first = not (os.path.lexists(path) or audit.exists)
    try:
        saved = _loaded(path, configs.ladder)
    except UserError as error:
        problem = str(error)
    if saved and saved.sealed:
        return saved.state
    last, ladder = audit.newest(), configs.ladder
    last = last if last and last.level in ladder.names else None
    tunings = known_tunings(last.tunings, ladder) if last else ()
    shown = None if shadow else configs.level_on_disk(tunings)
    levels = [level for level in (shown, last and last.level) if level]
    if saved and not (last and last.asked) and (levels or saved.names_level):
        state = copy_of(saved.state)
        _raise_to(state, levels, tunings, ladder, now)
        if state == saved.state:
            return state
    if saved:
        problem = f"the state file {path} has no checksum and is not what was in force"
    if shown is None and not shadow and os.path.lexists(configs.effective_path):
        levels.append(ladder.names[-1])  # somebody else's: it may stand for anything of ours
    state, lost = (State(), "" if first else UNTOLD) if last is None else _told_by(last, ladder)
    unknown = NONE if first else ladder.names[-1]
    lost = _raise_to(state, levels or [unknown], tunings, ladder, now) or lost
    return state if first and state == State() else _noted(state, problem, lost, ladder, now)


def _loaded(path: Path, ladder: Ladder) -> Saved | None:
    """As load_state. Raises UserError also when it names a level that the ladder does not have."""
    saved = load_state(path)
    if saved:
        override = saved.state.override
        if not {saved.state.level, override.level if override else NONE} <= set(ladder.names):
            raise UserError(f"{path} names a level that the ladder does not have")
    return saved


def _told_by(last: Change, ladder: Ladder) -> tuple[State, str]:
    """The state that the trail's last line tells, and what it does not tell, in a sentence."""
    state = State(ledgers={ledger: SeenLedger(day) for ledger, day in last.ledgers.items()})
    if last.asked not in ladder.names:
        return state, UNTOLD
    state.level = last.asked
    try:
        state.override = msgspec.convert(last.override, Override | None)
        ladder.rank(state.override.level if state.override else NONE)
    except (msgspec.ValidationError, UserError):
        state.override = None
        return state, UNTOLD
    return state, ""


def _raise_to(
    state: State, levels: list[str], tunings: tuple[str, ...], ladder: Ladder, now: float
) -> str:
    """Make it show at least these; a pin that shows less has to go, and is named in a sentence."""
    automatic = {tuning.tuning for tuning in ladder.tunings if tuning.automatic}
    for entry in tunings:
        if name_of(entry) in automatic:
            state.tunings.setdefault(entry, Active())
        elif entry not in state.applied_tunings:
            state.applied_tunings.append(entry)
    highest = max(levels, key=ladder.rank, default=NONE)
    if ladder.rank(in_force(state, ladder, now).level) >= ladder.rank(highest):
        return ""
    state.level = max(state.level, highest, key=ladder.rank)
    override = current_override(state, now)
    if override is None or override.mode != "pin":
        return ""
    state.override = None
    return f"{override.author}'s pin to {override.level} is lost: more than that was in force"


def _noted(state: State, problem: str, lost: str, ladder: Ladder, now: float) -> State:
    """With the reason why it is not what was saved; said once in the log."""
    level = in_force(state, ladder, now).level
    state.recovered = f"{problem}; going on with level {level} until evidence confirms or clears it"
    state.lost = lost
    log.warning("%s", "; ".join(filter(None, (state.recovered, lost))))
    return state
