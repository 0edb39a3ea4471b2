"""What the receiver remembers through a restart, as one JSON file, and what that puts in force.

An entry is a level, or a tuning with its scope ("roaster/blue-tokai").
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct, field

from alertmanager.receiver.ladder.ladder import NONE, Ladder
from common.errors import UserError
from common.files import read_file, replace_file

VERSION = 2  # 1 had no checksum and left out what was as by default
MAX_BYTES = 64 << 20  # 10,000 claims with the longest names are a third of it
OverrideMode = Literal["degrade", "pin"]  # a floor, exactly this level


class Active(Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A protection in force: the level, a tuning or the backstop. Times are Unix seconds."""

    changed_at: float = 0.0
    risen_day: float | None = None  # start of the budget day on which it rose, when known
    clear_since: float | None = None  # evidence has allowed lowering without a break since then
    clear_seen: float | None = None  # and did so last at

    def restart_hold(self) -> None:
        """The evidence is not clear: the hold starts anew when it is."""
        self.clear_since = self.clear_seen = None


class Claim(Struct, forbid_unknown_fields=True):
    """A firing alert that a webhook reported."""

    entry: str
    starts_at: float
    received_at: float
    alert: str = ""  # its name


class Override(Struct, forbid_unknown_fields=True):
    """A person's degrade or pin. until: Unix seconds, or None until released."""

    mode: OverrideMode
    level: str
    reason: str
    author: str
    at: float
    until: float | None = None


class SeenLedger(Struct, forbid_unknown_fields=True):
    """A ledger seen today. day: the budget day's start, Unix seconds; exporter: its address."""

    day: float
    exporter: str = ""
    retired: bool = False  # a person waived its evidence for the day


class State(Struct, forbid_unknown_fields=True):
    """Everything. Each key is written, so that none can be lost unseen."""

    version: int = VERSION
    level: str = NONE  # what the alerts ask for and evidence has not yet cleared
    active: Active = field(default_factory=Active)
    tunings: dict[str, Active] = field(default_factory=dict)  # automatic ones, by entry
    applied_tunings: list[str] = field(default_factory=list)  # people's, until released
    backstop: Active | None = None
    exhausted_since: float | None = None  # the exporters' figures say so since then
    override: Override | None = None
    claims: dict[str, Claim] = field(default_factory=dict)  # by fingerprint
    resolved: dict[str, float] = field(default_factory=dict)  # fingerprint: last endsAt
    recovered: str = ""  # why it is not the one that was saved, until evidence confirms it
    lost: str = ""  # a person's override that is lost with it, until a person speaks again
    ledgers: dict[str, SeenLedger] = field(default_factory=dict)  # by id

    def claimed(self) -> set[str]:
        """Entries that webhooks claim are asked for."""
        return {claim.entry for claim in self.claims.values()}


@dataclass(frozen=True)
class InForce:
    """What the effective config shows."""

    level: str
    tunings: tuple[str, ...] = ()


def in_force(state: State, ladder: Ladder, now: float) -> InForce:
    """Override > backstop > alerts decide the level; all tunings that the ladder still has."""
    tunings = known_tunings([*state.tunings, *state.applied_tunings], ladder)
    override = current_override(state, now)
    if override and override.mode == "pin":
        return InForce(override.level, tunings)
    ranks = [ladder.rank(state.level)]
    ranks += [len(ladder.levels)] if state.backstop else []
    ranks += [ladder.rank(override.level)] if override else []
    return InForce(ladder.names[max(ranks)], tunings)


def current_override(state: State, now: float) -> Override | None:
    """The override, unless its time is over."""
    override = state.override
    return override if override and (override.until is None or now < override.until) else None


def name_of(entry: str) -> str:
    """The level's or the tuning's name, without the scope."""
    return entry.partition("/")[0]


def known_tunings(entries: list[str], ladder: Ladder) -> tuple[str, ...]:
    """Those entries whose tuning the ladder has, each once, in order."""
    names = {tuning.tuning for tuning in ladder.tunings}
    return tuple(sorted({entry for entry in entries if name_of(entry) in names}))


def actives(state: State) -> list[Active]:
    """Every protection that may be in force."""
    backstop = [state.backstop] if state.backstop else []
    return [state.active, *state.tunings.values(), *backstop]


class Saved(NamedTuple):
    """A state file's content. sealed: its checksum proves it; names_level: it says the level."""

    state: State
    sealed: bool
    names_level: bool


def load_state(path: Path) -> Saved | None:
    """What was saved, None when there is no file. Raises UserError when it is damaged."""
    try:
        document = msgspec.json.decode(read_file(path, MAX_BYTES), type=dict[str, Any])
        seal, version = document.pop("checksum", None), document.get("version", 1)
        state = msgspec.convert(document, State)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"cannot read the state file {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UserError(f"the state file {path} is corrupt: {error}") from error
    if seal is None and version == 1:
        state.version = VERSION
        return Saved(state, False, "level" in document)
    if seal != _checksum(document):
        raise UserError(f"the state file {path} is corrupt: its checksum does not fit")
    if version != VERSION:
        raise UserError(f"the state file {path} is of another version, {version}")
    return Saved(state, True, True)


def save_state(path: Path, state: State) -> None:
    """Durably replace the state file. Raises OSError."""
    document = msgspec.to_builtins(state)
    sealed = {"checksum": _checksum(document), **document}
    replace_file(path, msgspec.json.format(msgspec.json.encode(sealed), indent=1), mode=0o600)


def _checksum(document: dict[str, Any]) -> str:
    """Of the content: spaces and the keys' order do not count."""
    content = msgspec.json.encode(document, order="sorted")
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def copy_of(state: State) -> State:
    """An independent copy: decisions are made on one, and kept only when they are durable."""
    return msgspec.json.decode(msgspec.json.encode(state), type=State)
