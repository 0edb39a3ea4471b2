"""What the receiver remembers through a restart, as one JSON file, and what that puts in force.

An entry is a level, or a tuning with its scope ("roaster/blue-tokai").
"""

import hashlib
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
    risen_epoch: int = 0  # the state's when it rose

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
    epoch: int | None = None  # the newest grant or reset that the evidence knew of


class InForce(NamedTuple):
    """What the effective config shows."""

    level: str
    tunings: tuple[str, ...] = ()


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
    # By "2026-11/ledger": the most that the rules said it had spent of that month, in USD.
    months: dict[str, float] = field(default_factory=dict)
    epoch: int = 0  # how often the evidence learnt of a grant or reset, of whatever ledger
    epoch_at: float = 0.0  # when the records first showed the last of them

    def claimed(self) -> set[str]:
        """Entries that webhooks claim are asked for."""
        return {claim.entry for claim in self.claims.values()}

    def actives(self) -> list[Active]:
        """Every protection that may be in force."""
        backstop = [self.backstop] if self.backstop else []
        return [self.active, *self.tunings.values(), *backstop]

    def current_override(self, now: float) -> Override | None:
        """The override, unless its time is over."""
        override = self.override
        return override if override and (override.until is None or now < override.until) else None

    def in_force(self, ladder: Ladder, now: float) -> InForce:
        """Override > backstop > alerts decide the level; all tunings that the ladder still has."""
        tunings = ladder.known_tunings([*self.tunings, *self.applied_tunings])
        override = self.current_override(now)
        if override and override.mode == "pin":
            return InForce(override.level, tunings)
        ranks = [ladder.rank(self.level)]
        ranks += [len(ladder.levels)] if self.backstop else []
        ranks += [ladder.rank(override.level)] if override else []
        return InForce(ladder.names[max(ranks)], tunings)

    def copy(self) -> "State":
        """An independent one: decisions are made on it, and kept only when they are durable."""
        return msgspec.json.decode(msgspec.json.encode(self), type=State)

    def save(self, path: Path) -> None:
        """Durably replace the state file. Raises OSError."""
        document = msgspec.to_builtins(self)
        sealed = {"checksum": _checksum(document), **document}
        replace_file(path, msgspec.json.format(msgspec.json.encode(sealed), indent=1), mode=0o600)


def load_state(path: Path, ladder: Ladder) -> tuple[State, bool, bool] | None:
    """What was saved, None when there is no file. Raises UserError when it is damaged.

    With it: whether its checksum proves it, and whether it says the level.
    """
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
    sealed = (seal, version) != (None, 1)
    if sealed and seal != _checksum(document):
        raise UserError(f"the state file {path} is corrupt: its checksum does not fit")
    if sealed and version != VERSION:
        raise UserError(f"the state file {path} is of another version, {version}")
    if not {state.level, state.override.level if state.override else NONE} <= set(ladder.names):
        raise UserError(f"{path} names a level that the ladder does not have")
    state.version = VERSION
    return state, sealed, "level" in document


def _checksum(document: dict[str, Any]) -> str:
    """Of the content: spaces and the keys' order do not count."""
    content = msgspec.json.encode(document, order="sorted")
    return hashlib.blake2b(content, digest_size=16).hexdigest()
