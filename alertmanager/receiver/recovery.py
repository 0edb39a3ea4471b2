"""What to go on with at a start: the state file, or without it whatever else shows it."""

import logging
from pathlib import Path

from alertmanager.receiver.audit import Audit
from alertmanager.receiver.configs import Configs
from alertmanager.receiver.ladder.ladder import NONE
from alertmanager.receiver.state import Active, State, known_tunings, load_state, name_of
from common.errors import UserError

log = logging.getLogger("receiver")


def remembered(configs: Configs, path: Path, audit: Audit, *, shadow: bool) -> State:
    """The state file's, else what the effective file and the trail show: protection continues."""
    problem, first = f"there is no state file {path}", True
    try:
        state = load_state(path)
        if state is not None:
            levels = {state.level, state.override.level if state.override else NONE}
            if levels <= set(configs.ladder.names):
                return state
            raise UserError(f"{path} names a level that the ladder does not have")
    except UserError as error:
        problem, first = str(error), False
    found = _recovered(configs, audit, shadow=shadow, first=first)
    if found != State():
        log.warning("%s; going on with level %s until evidence clears it", problem, found.level)
    return found


def _recovered(configs: Configs, audit: Audit, *, shadow: bool, first: bool) -> State:
    """What the audit trail and the effective file show, the higher of both.

    first: it may be the first start. A file that shows no level of ours means the highest.
    """
    ladder = configs.ladder
    last = next(iter(audit.last(1)), None)
    tunings = known_tunings(last.tunings, ladder) if last else ()
    shown = configs.level_on_disk(tunings)
    if shown is None:
        foreign = configs.effective_path.exists() and not shadow
        shown = ladder.names[-1] if foreign or not (first or last) else NONE
    levels = {shown, last.level if last else NONE} & set(ladder.names)
    automatic = {tuning.tuning for tuning in ladder.tunings if tuning.automatic}
    return State(
        level=max(levels, key=ladder.rank),
        tunings={entry: Active() for entry in tunings if name_of(entry) in automatic},
        applied_tunings=[entry for entry in tunings if name_of(entry) not in automatic],
    )
