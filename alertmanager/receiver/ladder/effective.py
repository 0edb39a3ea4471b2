"""The effective config: a pure function of ladder, baseline, level and tunings."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import msgspec

from alertmanager.receiver.ladder.ladder import Ladder, Operations
from alertmanager.receiver.ladder.operations import Document, Editor

ROASTERS = "roasters"  # the key under which a roaster's overrides lie, merged deeply by the scraper


@dataclass(frozen=True)
class Effective:
    """A config and what could not be done to it, as key paths."""

    document: Document
    dropped: tuple[str, ...] = ()  # keys that `set` would have added, with extra_keys: drop
    no_ops: tuple[str, ...] = ()  # operations on keys that the baseline lacks


def effective(
    ladder: Ladder, baseline: Document, level: str, tunings: Iterable[str] = ()
) -> Effective:
    """The config at a level with tunings ("name" or "name/scope") active, in whatever order.

    Tunings apply first, then the levels up to and including the given one. A roaster's override
    gets the level too, or it would undo it for that roaster. Raises UserError for names that the
    ladder does not have.
    """
    shared, tuned_roasters = _split(ladder, tunings)
    notes = _Notes()
    document = _degrade(ladder, baseline, level, shared, notes)
    overrides = baseline.get(ROASTERS)
    overrides = overrides if isinstance(overrides, dict) else {}
    if ROASTERS not in baseline and tuned_roasters and ladder.extra_keys == "drop":
        notes.dropped.add(ROASTERS)
        tuned_roasters = {}
    degraded = {}
    for roaster in [*overrides, *sorted(set(tuned_roasters) - set(overrides))]:
        own = overrides.get(roaster) or {}
        whole = merge(_without_roasters(baseline), own)
        rank = max(ladder.rank(level), tuned_roasters.get(roaster, 0))
        whole = _degrade(ladder, whole, ladder.names[rank], shared, notes)
        difference = _difference(document, whole, own)
        if difference or roaster in overrides:
            degraded[roaster] = difference
    if degraded or ROASTERS in baseline:
        document[ROASTERS] = degraded or deepcopy(baseline[ROASTERS])
    return notes.result(document)


def merge(below: Document, above: Document) -> Document:
    """A deep merge: mappings merge, anything else of above replaces what is below."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        merged[key] = merge(old, value) if both else deepcopy(value)  # type: ignore[arg-type]
    return merged


def config_for(document: Document, roaster: str) -> Document:
    """The config that a scraper obeys for one roaster."""
    override = (document.get(ROASTERS) or {}).get(roaster) or {}
    return merge(_without_roasters(document), override)


def _without_roasters(document: Document) -> Document:
    return {key: value for key, value in document.items() if key != ROASTERS}


class _Notes:
    def __init__(self) -> None:
        self.dropped: set[str] = set()
        self.no_ops: set[str] = set()

    def result(self, document: Document) -> Effective:
        return Effective(document, tuple(sorted(self.dropped)), tuple(sorted(self.no_ops)))


def _split(ladder: Ladder, tunings: Iterable[str]) -> tuple[list[Operations], dict[str, int]]:
    """Operations that tune the whole config, in the ladder's order, and each roaster's rank."""
    order = {tuning.tuning: place for place, tuning in enumerate(ladder.tunings)}
    pairs = {(name, scope) for name, _, scope in (entry.partition("/") for entry in tunings)}
    shared: list[Operations] = []
    roasters: dict[str, int] = {}
    for name, scope in sorted(pairs, key=lambda pair: (order.get(pair[0], -1), pair[1])):
        tuning = ladder.tuning(name)
        if tuning.level is not None:
            roasters[scope] = ladder.rank(tuning.level)
        else:
            shared.append(_scoped(tuning, scope))
    return shared, roasters


def _scoped(operations: Operations, scope: str) -> Operations:
    """The operations with {field} in their paths replaced by the scope."""

    def named(by_path: dict[str, Any]) -> dict[str, Any]:
        return {path.replace("{field}", scope): value for path, value in by_path.items()}

    names = (
        field for field in operations.__struct_fields__ if field in Operations.__struct_fields__
    )
    changed = {name: named(getattr(operations, name)) for name in names}
    return msgspec.structs.replace(operations, **changed)


def _degrade(
    ladder: Ladder, baseline: Document, level: str, tunings: list[Operations], notes: _Notes
) -> Document:
    document = deepcopy(_without_roasters(baseline))
    editor = Editor(
        document,
        extra_keys=ladder.extra_keys == "allow",
        ask_below=ladder.confidence_threshold == "ask_below",
    )
    for operations in (*tunings, *ladder.levels[: ladder.rank(level)]):
        editor.apply(operations)
    notes.dropped |= editor.dropped
    notes.no_ops |= editor.no_ops
    return document


def _difference(shared: Document, whole: Document, own: Document) -> Document:
    """What an override must say so that merged over shared it gives whole; its own keys stay."""
    override: Document = {}
    for key, value in whole.items():
        if key == ROASTERS:
            continue
        below, mine = shared.get(key), own.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            nested = _difference(below, value, mine if isinstance(mine, dict) else {})
            if nested or key in own:
                override[key] = nested
        elif key in own or key not in shared or value != below:
            override[key] = deepcopy(value)
    return override
