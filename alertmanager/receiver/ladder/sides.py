"""The safe side of each key: which way a ladder's operations move it, and where they contradict."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from alertmanager.receiver.ladder.effective import ROASTERS
from alertmanager.receiver.ladder.ladder import Ladder, Multiply, Operations, SetTo

ON, OFF, LOWER, HIGHER, UNSPECIFIED, FREE = "on", "off", "lower", "higher", "unspecified", "free"
_KINDS = {ON: "switch", OFF: "switch", FREE: "free"}  # any other side is a number's
_DESCRIPTIONS = {
    ON: "switches it on",
    OFF: "switches it off",
    LOWER: "lowers it",
    HIGHER: "raises it",
    UNSPECIFIED: "sets it to a number",
    FREE: "sets it to a text or a list",
}
_Operations = TypeVar("_Operations", bound=Operations)


@dataclass(frozen=True)
class Effect:
    """One operation on one key: the side to which it moves what stands there."""

    entry: str  # "level control"
    operation: str
    key: str  # as the file has it
    path: tuple[str, ...]  # * is every key
    side: str
    text: str = ""  # what is written there, for a fault

    @property
    def kind(self) -> str:
        return _KINDS.get(self.side, "number")

    @property
    def place(self) -> tuple[str, str, str]:
        return self.entry, self.operation, self.key

    def __str__(self) -> str:
        return f"{self.entry}: {self.operation}.{self.key}"


def safe(ladder: Ladder, file: Path) -> tuple[Ladder, list[str]]:
    """The ladder without what would move a key back, and a sentence on each fault.

    Of two that contradict each other the later one stays: the higher a level, the more depends on
    it. But what disables a field stays, wherever it is.
    """
    faults: list[str] = []
    kept: list[Effect] = []
    last_first = [*_effects(ladder)][::-1]
    for effect in sorted(last_first, key=lambda effect: effect.operation != "disable"):
        other = next((other for other in kept if _contradict(effect, other)), None)
        faults += [f"{file}: {fault}" for fault in _faults(effect, other)]
        if other is None and effect.path[0] != ROASTERS:
            kept.append(effect)
    return _only(ladder, {effect.place for effect in kept}), sorted(faults)


def _faults(effect: Effect, other: Effect | None) -> Iterator[str]:
    if effect.path[0] == ROASTERS:
        yield f"{effect} does nothing: take it out, the levels apply to roasters' overrides anyway"
    elif effect.side == UNSPECIFIED:
        yield (
            f"{effect} needs its safe side: write {{to: {effect.text}, keep: lower}}, or keep: "
            "higher where more is safer (until then it replaces whatever the baseline has)"
        )
    if other:
        yield (
            f"{effect} {_DESCRIPTIONS[effect.side]}, but {other} {_DESCRIPTIONS[other.side]}: "
            "a key has one safe side, take one of them out (until then the latter counts)"
        )


def _contradict(one: Effect, other: Effect) -> bool:
    """Whether together they can move a value there and back.

    A tuning's number may go against the levels': tunings apply first, and whatever number a level
    starts from, it moves it to its own side.
    """
    if len(one.path) != len(other.path) or not all(map(_keys_match, one.path, other.path)):
        return False
    if one.kind != other.kind:
        return True
    if one.kind == "switch":
        return one.side != other.side
    levels = one.entry.startswith("level ") and other.entry.startswith("level ")
    return levels and {one.side, other.side} == {LOWER, HIGHER}


def _keys_match(one: str, other: str) -> bool:
    return one == other or "*" in (one, other)


def _effects(ladder: Ladder) -> Iterator[Effect]:
    """All that the ladder does, in the order in which it is applied."""
    up = LOWER if ladder.confidence_threshold == "ask_below" else HIGHER
    for tuning in ladder.tunings:
        any_field = "*" if tuning.scope == "field" else "{field}"
        yield from _effects_of(tuning, f"tuning {tuning.tuning}", up, any_field)
    for level in ladder.levels:
        yield from _effects_of(level, f"level {level.level}", up, "{field}")


def _effects_of(operations: Operations, entry: str, up: str, any_field: str) -> Iterator[Effect]:
    sides: dict[str, Callable[[Any], str]] = {
        "set": _side_of_constant,
        "multiply": _side_of_factor,
        "at_most": lambda _: LOWER,
        "at_least": lambda _: HIGHER,
        "raise_": lambda _: up,
    }
    for name, side in sides.items():
        for key, value in getattr(operations, name).items():
            path = tuple(key.replace("{field}", any_field).split("."))
            yield Effect(entry, _operation_name(name), key, path, side(value), f"{value}")
    for key, fields in operations.disable.items():
        for field in fields:
            path = (*key.replace("{field}", any_field).split("."), field, "enabled")
            yield Effect(entry, "disable", f"{key}.{field}", path, OFF)


def _side_of_constant(value: Any) -> str:
    if isinstance(value, bool):
        return ON if value else OFF
    if isinstance(value, dict):
        return msgspec.convert(value, SetTo).keep
    return UNSPECIFIED if isinstance(value, int | float | Decimal) else FREE


def _side_of_factor(factor: Decimal | Multiply) -> str:
    by = factor.by if isinstance(factor, Multiply) else factor
    return LOWER if by <= 1 else HIGHER


def _only(ladder: Ladder, kept: set[tuple[str, str, str]]) -> Ladder:
    """The ladder with those operations alone."""
    return msgspec.structs.replace(
        ladder,
        levels=[_some(level, f"level {level.level}", kept) for level in ladder.levels],
        tunings=[_some(tuning, f"tuning {tuning.tuning}", kept) for tuning in ladder.tunings],
    )


def _some(operations: _Operations, entry: str, kept: set[tuple[str, str, str]]) -> _Operations:
    changes: dict[str, Any] = {
        name: {
            key: value
            for key, value in by_key.items()
            if (entry, _operation_name(name), key) in kept
        }
        for name in Operations.__struct_fields__
        if (by_key := getattr(operations, name)) and name != "disable"
    }
    changes["disable"] = {
        key: [field for field in fields if (entry, "disable", f"{key}.{field}") in kept]
        for key, fields in operations.disable.items()
    }
    return msgspec.structs.replace(operations, **changes)


def _operation_name(name: str) -> str:
    """The operation of a Struct's field, as the file writes it: raise, where Python has raise_."""
    return name.rstrip("_")
