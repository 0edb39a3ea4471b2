"""What a person asks for: degrade, pin or release a level, apply or release a tuning."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from alertmanager.receiver.alerts import MAX_SCOPE_LENGTH, unix
from alertmanager.receiver.configs import Configs
from alertmanager.receiver.evidence.observations import Observations
from alertmanager.receiver.ladder.effective import effective
from alertmanager.receiver.ladder.ladder import NONE, Ladder, Tuning
from alertmanager.receiver.ledgers import retire
from alertmanager.receiver.state import Override, OverrideMode, State
from common.clock import iso8601
from common.errors import UserError

LAST_MOMENT = unix(datetime(9999, 12, 31, tzinfo=UTC))
Sentence = Annotated[str, Meta(min_length=1, max_length=500)]


class OverrideRequest(Struct, forbid_unknown_fields=True):
    """The body of /api/v1/override."""

    mode: Literal[OverrideMode, "release", "tune", "untune", "retire"]
    reason: Sentence
    author: Sentence
    level: str | None = None
    tuning: str | None = None
    ledger: str | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        # They go to logs and terminals, where control characters could hide or forge lines.
        if not f"{self.reason}{self.author}{self.tuning or ''}{self.ledger or ''}".isprintable():
            raise ValueError("reason, author, tuning, ledger must be printable text in one line")


def apply_request(
    request: OverrideRequest, state: State, configs: Configs, now: float, observed: Observations
) -> str:
    """Change the state as asked; the request in short, for the audit trail. Raises UserError."""
    match request.mode:
        case "tune" | "untune":
            return _tune(request, state, configs)
        case "retire":
            return retire(request.ledger or "", state, observed)
        case "release":
            state.override = None
            return "release"
        case mode:
            override = state.override = _override(mode, request, configs.ladder, now)
            end = f" until {iso8601(override.until)}" if override.until else ""
            return f"{mode} {override.level}{end}"


def _override(mode: OverrideMode, request: OverrideRequest, ladder: Ladder, now: float) -> Override:
    if request.level is None:
        raise UserError("the key level is missing: which level?")
    if mode == "pin" and request.until is None:
        raise UserError("the key until is missing: a pin needs an end")
    until = unix(request.until) if request.until else None
    if until is not None and not now < until < LAST_MOMENT:
        raise UserError("until is not in the future, or lies beyond the year 9999")
    ladder.rank(request.level)
    return Override(mode, request.level, request.reason, request.author, now, until)


def _tune(request: OverrideRequest, state: State, configs: Configs) -> str:
    if request.tuning is None:
        raise UserError("the key tuning is missing: which tuning?")
    entry, others = request.tuning, set(state.applied_tunings) - {request.tuning}
    name, _, scope = entry.partition("/")
    tuning = configs.ladder.tuning(name)
    if bool(scope) != (tuning.scope is not None) or len(scope) > MAX_SCOPE_LENGTH:
        raise UserError(f"the tuning is written {written(tuning)}, not {entry[:300]!r}")
    if request.mode == "untune":
        state.applied_tunings = sorted(others)
        return f"release {entry}"
    if tuning.automatic:
        raise UserError(f"{name} is automatic and cannot be applied by hand")
    alone = effective(configs.ladder, configs.baseline, NONE, [entry])
    if alone.no_ops and alone.document == configs.baseline:
        raise UserError(f"the baseline has nothing for {entry}: no {', '.join(alone.no_ops)}")
    state.applied_tunings = sorted({*others, entry})
    return f"apply {entry}"


def written(tuning: Tuning) -> str:
    """How people write a tuning, such as field_threshold/FIELD."""
    return f"{tuning.tuning}/{tuning.scope.upper()}" if tuning.scope else tuning.tuning
