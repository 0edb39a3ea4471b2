"""The safe side of each key: which way a ladder's operations move it, and where they contradict.

Also `python -m alertmanager.receiver --check`: does the ladder fit the baseline?
"""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from alertmanager.receiver.ladder.baseline import parse_baseline
from alertmanager.receiver.ladder.effective import ROASTERS, effective
from alertmanager.receiver.ladder.ladder import (
    Ladder,
    Level,
    Multiply,
    Raise,
    SetTo,
    Step,
    Tuning,
    parse_ladder,
)
from common.yamlfile import read_raw

# The sides, as they are told to people.
ON, OFF, FREE = "switches it on", "switches it off", "sets it to a text or a list"
LOWER, HIGHER, UNSPECIFIED = "lowers it", "raises it", "sets it to a number"
_NUMBER = {LOWER, HIGHER, UNSPECIFIED}


class Effect(NamedTuple):
    """One step of a level or a tuning, and the side to which it moves what stands there."""

    entry: Level | Tuning
    step: Step
    path: tuple[str, ...]  # with * for any field
    side: str

    def __str__(self) -> str:
        return f"{self.entry}: {self.step.written}"

    def contradicts(self, other: "Effect") -> bool:
        """Whether together they can move a value there and back.

        A tuning's number may go against the levels': tunings apply first, and whatever number a
        level starts from, it moves it to its own side. But a threshold has one reading.
        """
        pairs = zip(self.path, other.path, strict=False)
        alike = all(mine == its or "*" in (mine, its) for mine, its in pairs)
        if not alike or len(self.path) != len(other.path):
            return False
        sides = {self.side, other.side}
        if sides == {LOWER, HIGHER}:
            values = {type(self.step.value), type(other.step.value)}
            return {type(self.entry), type(other.entry)} == {Level} or values == {Raise}
        return len(sides) == 2 and not sides <= _NUMBER


def safe(ladder: Ladder, file: Path) -> tuple[Ladder, list[str]]:
    """The ladder without what would move a key back, and a sentence on each fault.

    Of two that contradict each other the later one stays: the higher a level, the more depends on
    it. But what disables a field stays, wherever it is.
    """
    entries: list[Tuning | Level] = [*ladder.tunings, *ladder.levels]  # as they are applied
    effects: list[Effect] = []
    for entry in entries:
        any_field = "*" if isinstance(entry, Tuning) and entry.scope == "field" else "{field}"
        effects += [
            Effect(entry, step, step.about(any_field).path, _side(step.value))
            for step in entry.steps
        ]
    faults: list[str] = []
    kept: list[Effect] = []
    last_first = effects[::-1]
    for effect in sorted(last_first, key=lambda one: not one.step.written.startswith("disable.")):
        other = next((other for other in kept if effect.contradicts(other)), None)
        faults += [f"{file}: {fault}" for fault in _faults(effect, other)]
        if other is None and effect.path[0] != ROASTERS:
            kept.append(effect)
    names = {str(effect) for effect in kept}
    steps = {
        str(entry): [step for step in entry.steps if f"{entry}: {step.written}" in names]
        for entry in entries
    }
    levels = [replace(level, steps=steps[str(level)]) for level in ladder.levels]
    tunings = [replace(tuning, steps=steps[str(tuning)]) for tuning in ladder.tunings]
    return replace(ladder, levels=levels, tunings=tunings), sorted(faults)


def _faults(effect: Effect, other: Effect | None) -> Iterator[str]:
    if effect.path[0] == ROASTERS:
        yield f"{effect} does nothing: take it out, the levels apply to roasters' overrides anyway"
    elif effect.side == UNSPECIFIED:
        yield (
            f"{effect} needs its safe side: write {{to: {effect.step.value}, keep: lower}}, or "
            "keep: higher where more is safer (until then it replaces whatever the baseline has)"
        )
    if other:
        yield (
            f"{effect} {effect.side}, but {other} {other.side}: "
            "a key has one safe side, take one of them out (until then the latter counts)"
        )


def _side(value: Any) -> str:
    match value:
        case SetTo():
            return LOWER if value.keep == "lower" else HIGHER
        case Multiply():
            return LOWER if value.by <= 1 else HIGHER
        case Raise():
            return LOWER if value.reading == "ask_below" else HIGHER
        case bool():
            return ON if value else OFF
    return UNSPECIFIED if isinstance(value, int | float | Decimal) else FREE


def check(ladder_path: Path, baseline_path: Path) -> tuple[list[str], str]:
    """What does nothing or moves a key back; the ladder's question. Raises UserError."""
    ladder, problems = safe(parse_ladder(read_raw(ladder_path), ladder_path), ladder_path)
    baseline = parse_baseline(read_raw(baseline_path), baseline_path)
    field = next(iter(baseline.get("field_configs") or {}), "field")

    def idle(level: str, *tunings: str) -> set[str]:
        return set(effective(ladder, baseline, level, tunings).no_ops)

    found = [
        (str(level), idle(level.level) - idle(below))
        for level, below in zip(ladder.levels, ladder.names, strict=False)
    ]
    for tuning in ladder.tunings:
        entry = f"{tuning.tuning}/{field}" if tuning.scope == "field" else tuning.tuning
        if tuning.scope != "roaster":
            found.append((f"tuning {entry}", idle("none", entry)))
    problems += [
        f"{ladder_path}: {entry} changes {path}, which the baseline does not have (or not as this "
        "needs it)"
        for entry, paths in found
        for path in sorted(paths)
    ]
    return problems, ladder.question
