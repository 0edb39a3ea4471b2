"""What to go on with at a start: the state file, or without it whatever else tells."""

import logging
from collections.abc import Iterable
from pathlib import Path

from alertmanager.receiver.audit import Audit
from alertmanager.receiver.configs import Configs
from alertmanager.receiver.entries import kind
from alertmanager.receiver.ladder.ladder import NONE, Ladder
from alertmanager.receiver.state import Active, CorruptStateError, State, load_state

log = logging.getLogger("receiver")


def remembered(configs: Configs, path: Path, audit: Audit, *, shadow: bool) -> State:
    """The state file's, else what the effective file and the trail show: protecting goes on."""
    problem = f"there is no state file {path}"
    try:
        state = load_state(path)
        if state is None:
            found = _recovered(configs, audit, shadow=shadow, first=True)
        elif _levels(state) <= set(configs.ladder.names):
            return state
        else:
            raise CorruptStateError(f"{path} names a level that the ladder lacks")
    except CorruptStateError as error:
        problem = str(error)
        found = _recovered(configs, audit, shadow=shadow, first=False)
    if found != State():
        log.warning("%s; going on with level %s until evidence clears it", problem, found.level)
    return found


def known(ladder: Ladder, entries: Iterable[str]) -> list[str]:
    """Those tunings that the ladder has, in order."""
    names = {tuning.tuning for tuning in ladder.tunings}
    return sorted({entry for entry in entries if kind(entry) in names})


def _levels(state: State) -> set[str]:
    return {state.level, state.override.level if state.override else NONE}


def _recovered(configs: Configs, audit: Audit, *, shadow: bool, first: bool) -> State:
    """What the audit trail and the effective file show, the higher of both.

    first: it may be the first start. A file that shows no level of ours means the highest.
    """
    ladder = configs.ladder
    told = next(iter(audit.last(1)), None)
    tunings = known(ladder, told.tunings) if told else []
    shown = configs.level_on_disk(tunings)
    if shown is None:
        foreign = configs.effective_path.exists() and not shadow
        shown = ladder.names[-1] if foreign or not (first or told) else NONE
    levels = {shown, told.level if told else NONE} & set(ladder.names)
    automatic = {tuning.tuning for tuning in ladder.tunings if tuning.automatic}
    return State(
        level=max(levels, key=ladder.rank),
        tunings={entry: Active() for entry in tunings if kind(entry) in automatic},
        applied_tunings=[entry for entry in tunings if kind(entry) not in automatic],
    )
