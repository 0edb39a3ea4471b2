"""degradation.yml: its schema and what must hold between its parts."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from common.errors import UserError
from common.yamlfile import decode, parse_document

MAX_NODES = 20_000  # keys and values
NONE = "none"  # the level below the first: the baseline as it is
Seconds = Annotated[float, Meta(gt=0, le=600)]
Name = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]*$")]


class _Strict(Struct, frozen=True, forbid_unknown_fields=True):
    """An unknown key is an error that names it."""


class SetTo(_Strict, frozen=True):
    """A constant that spares a value already on the safe side of it."""

    to: Decimal
    keep: Literal["lower", "higher"]


class Multiply(_Strict, frozen=True):
    """A factor; the product is rounded down, at least 1, and never beyond up_to."""

    by: Decimal
    up_to: Decimal | None = None


class Raise(_Strict, frozen=True):
    """A step up to a cap, for confidence thresholds (0 to 1)."""

    by: Decimal
    up_to: Decimal


class Operations(_Strict, frozen=True, kw_only=True):
    """What a level or a tuning does, by key path."""

    set: dict[str, Any] = field(default_factory=dict)
    multiply: dict[str, Decimal | Multiply] = field(default_factory=dict)
    at_most: dict[str, Decimal] = field(default_factory=dict)
    at_least: dict[str, Decimal] = field(default_factory=dict)
    raise_: dict[str, Raise] = field(name="raise", default_factory=dict)
    disable: dict[str, list[str]] = field(default_factory=dict)


class Level(Operations, frozen=True, kw_only=True):
    """One rung; it includes those before it."""

    level: Name


class Tuning(Operations, frozen=True, kw_only=True):
    """A change of its own. scope: what its instances are about; level: for scope roaster."""

    tuning: Name
    automatic: bool = False
    scope: Literal["roaster", "field"] | None = None
    level: str | None = None


class Action(_Strict, frozen=True):
    """A program (no shell) or an HTTP endpoint."""

    argv: list[str] | None = None
    url: str | None = None
    timeout_seconds: Seconds = 10.0

    def __post_init__(self) -> None:
        if bool(self.argv) == bool(self.url):
            raise ValueError("exactly one of argv and url is needed")


class Ladder(_Strict, frozen=True, kw_only=True):
    """The whole of degradation.yml."""

    levels: list[Level]
    tunings: list[Tuning] = field(default_factory=list)
    confidence_threshold: Literal["accept_above", "ask_below"] = "accept_above"
    extra_keys: Literal["allow", "drop"] = "allow"
    hook: Action | None = None
    verify: Action | None = None

    def __post_init__(self) -> None:
        names = [level.level for level in self.levels] + [t.tuning for t in self.tunings]
        if len(names) != len(set(names)) or NONE in names:
            raise UserError(f"levels and tunings need names of their own, none of them {NONE!r}")
        if not self.levels:
            raise UserError("levels must name at least one level")
        for tuning in self.tunings:
            if (tuning.scope == "roaster") != (tuning.level is not None):
                raise UserError(f"tuning {tuning.tuning}: scope roaster and level go together")
            if tuning.level is not None:
                self.rank(tuning.level)

    @property
    def names(self) -> list[str]:
        """none and the levels, the mildest first."""
        return [NONE, *(level.level for level in self.levels)]

    @property
    def automatic(self) -> list[str]:
        """What alerts ask for: every level, and the automatic tunings."""
        return [*self.names[1:], *(one.tuning for one in self.tunings if one.automatic)]

    def rank(self, level: str) -> int:
        """0 for none, 1 for the mildest level. Raises UserError for a level that does not exist."""
        if level not in self.names:
            raise UserError(f"there is no level {level!r}; the ladder has {', '.join(self.names)}")
        return self.names.index(level)

    def tuning(self, name: str) -> Tuning:
        """A tuning by its name. Raises UserError for one that does not exist."""
        for tuning in self.tunings:
            if tuning.tuning == name:
                return tuning
        known = ", ".join(tuning.tuning for tuning in self.tunings)
        raise UserError(f"there is no tuning {name!r}; the ladder has {known}")


def parse_ladder(raw: bytes, path: Path) -> Ladder:
    """degradation.yml from its bytes. Raises UserError naming the file and the key path."""
    document = parse_document(raw, path, MAX_NODES) or {}
    for place, entry in _entries(document):
        for name, kind in _KINDS.items():
            operations = entry.get(name)
            for key, value in operations.items() if isinstance(operations, dict) else ():
                _check(value, kind, key, f"{path}: {place}.{name}.{key}")
    return decode(document, Ladder, path)


# What stands behind a key of each operation; set takes any constant, or a mapping with `to`.
_KINDS: dict[str, Any] = {
    "set": SetTo | Any,
    "multiply": Decimal | Multiply,
    "at_most": Decimal,
    "at_least": Decimal,
    "raise": Raise,
    "disable": list[str],
}


def _entries(document: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Levels and tunings with their place, as far as they have the right shape."""
    for part in ("levels", "tunings"):
        entries = document.get(part) if isinstance(document, dict) else None
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, dict):
                yield f"{part}[{index}]", entry


def _check(value: Any, kind: Any, key: Any, where: str) -> None:
    """One operation. msgspec names no keys of mappings: its errors would say […] for them."""
    kind = SetTo if kind is _KINDS["set"] and isinstance(value, dict) else kind
    try:
        found = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {error}") from error
    if not isinstance(key, str) or not all(key.split(".")):
        raise UserError(f"{where}: the key must be names with dots between them")
    problem = _out_of_range(found, factor=kind is _KINDS["multiply"])
    if problem:
        raise UserError(f"{where}: {problem}")


def _out_of_range(found: Any, *, factor: bool) -> str | None:
    """What is wrong with an operation's numbers, if anything. factor: a plain one is a factor."""
    by = getattr(found, "by", found if factor else None)
    numbers = [found, by, getattr(found, "up_to", None), getattr(found, "to", None)]
    decimals = [number for number in numbers if isinstance(number, Decimal)]
    if not all(number.is_finite() for number in decimals):
        return "it must be a finite number"
    if isinstance(by, Decimal) and by <= 0:
        return "the factor or step must be above 0"
    if isinstance(found, Raise) and not (found.by <= 1 and 0 <= found.up_to <= 1):
        return "a confidence threshold is between 0 and 1"
    return None
