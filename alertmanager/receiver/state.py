"""What the receiver must remember through a restart, as one JSON file."""

from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, field

from alertmanager.receiver.ladder.ladder import NONE
from common.errors import UserError
from common.files import replace_file

VERSION = 1


class Active(Struct, omit_defaults=True):
    """A protection in force: the level, a tuning or the backstop. Times are Unix seconds."""

    changed_at: float = 0.0
    risen_day: float | None = None  # start of the budget day on which it rose, when known
    clear_since: float | None = None  # evidence has allowed lifting without a break since then
    clear_seen: float | None = None  # and did so last at


class Claim(Struct):
    """A firing alert that a webhook told of."""

    entry: str
    starts_at: float
    received_at: float
    alert: str = ""  # its name


class Override(Struct):
    """A person's word. until: Unix seconds, or None until released."""

    mode: Literal["degrade", "pin"]
    level: str
    reason: str
    author: str
    at: float
    until: float | None = None


class State(Struct, omit_defaults=True):
    """Everything."""

    version: int = VERSION
    level: str = NONE  # what the alerts ask for and evidence has not yet cleared
    active: Active = field(default_factory=Active)
    tunings: dict[str, Active] = field(default_factory=dict)  # automatic ones, by entry
    applied_tunings: list[str] = field(default_factory=list)  # people's, until released
    backstop: Active | None = None
    exhausted_since: float | None = None  # the exporters' own figures have said so since then
    override: Override | None = None
    claims: dict[str, Claim] = field(default_factory=dict)  # by fingerprint
    resolved: dict[str, float] = field(default_factory=dict)  # fingerprint: last endsAt


def actives(state: State) -> list[Active]:
    """Every protection that may be in force."""
    backstop = [state.backstop] if state.backstop else []
    return [state.active, *state.tunings.values(), *backstop]


class CorruptStateError(UserError):
    """The state file is there and cannot be understood."""


def load_state(path: Path) -> State | None:
    """The remembered state, None when there is no file. Raises CorruptStateError."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CorruptStateError(f"cannot read the state file {path}: {error.strerror}") from error
    try:
        state = msgspec.json.decode(raw, type=State)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptStateError(f"the state file {path} is corrupt: {error}") from error
    if state.version != VERSION:
        raise CorruptStateError(f"the state file {path} is of another version, {state.version}")
    return state


def save_state(path: Path, state: State) -> None:
    """Durably replace the state file. Raises OSError."""
    replace_file(path, msgspec.json.format(msgspec.json.encode(state), indent=1), mode=0o600)


def copy_of(state: State) -> State:
    """An independent copy: decisions are made on one, and kept only when they are durable."""
    return msgspec.json.decode(msgspec.json.encode(state), type=State)
