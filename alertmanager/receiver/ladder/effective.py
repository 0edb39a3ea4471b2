"""The effective config: a pure function of ladder, baseline, level and tunings.

Each of the ladder's steps moves a value in its safe direction only.
"""

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from alertmanager.receiver.ladder.ladder import Document, Ladder, Multiply, Raise, SetTo, Step

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
    editor, rank = _Editor(ladder, shared), ladder.rank(level)
    document = editor.degraded(baseline, rank)
    overrides = baseline.get(ROASTERS)
    overrides = overrides if isinstance(overrides, dict) else {}
    if ROASTERS not in baseline and tuned_roasters and not editor.extra_keys:
        editor.dropped.add(ROASTERS)
        tuned_roasters = {}
    degraded = {}
    alike: dict[int, Document] = {}  # by rank, for roasters without values of their own
    for roaster in [*overrides, *sorted(set(tuned_roasters) - set(overrides))]:
        own, at = overrides.get(roaster) or {}, max(rank, tuned_roasters.get(roaster, 0))
        difference = None if own else alike.get(at)
        if difference is None:
            whole = editor.degraded(merge(_without_roasters(baseline), own), at)
            difference = _difference(document, whole, own)
            alike |= {} if own else {at: difference}
        if difference or roaster in overrides:
            degraded[roaster] = difference
    if degraded or ROASTERS in baseline:
        document[ROASTERS] = degraded or deepcopy(baseline[ROASTERS])
    return Effective(document, tuple(sorted(editor.dropped)), tuple(sorted(editor.no_ops)))


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


def changes(below: Any, above: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(dotted key, value below, value above) of each difference, without roasters' overrides."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        if below != above:
            yield path, below, above
        return
    for key in sorted((below.keys() | above.keys()) - {ROASTERS}, key=str):
        yield from changes(below.get(key), above.get(key), f"{path}.{key}".lstrip("."))


def _without_roasters(document: Document) -> Document:
    return {key: value for key, value in document.items() if key != ROASTERS}


def _split(ladder: Ladder, tunings: Iterable[str]) -> tuple[list[Step], dict[str, int]]:
    """Steps that tune the whole config, in the ladder's order, and each roaster's rank."""
    order = {tuning.tuning: place for place, tuning in enumerate(ladder.tunings)}
    pairs = {(name, scope) for name, _, scope in (entry.partition("/") for entry in tunings)}
    shared: list[Step] = []
    roasters: dict[str, int] = {}
    for name, scope in sorted(pairs, key=lambda pair: (order.get(pair[0], -1), pair[1])):
        tuning = ladder.tuning(name)
        if tuning.level is not None:
            roasters[scope] = max(ladder.rank(tuning.level), roasters.get(scope, 0))
        else:
            shared += [step.about(scope) for step in tuning.steps]
    return shared, roasters


class _Editor:
    """Applies steps to configs; notes what was dropped and what did nothing."""

    def __init__(self, ladder: Ladder, first: list[Step]) -> None:
        """first: the tunings' steps, before those of the levels."""
        self.ladder = ladder
        self.first = first
        self.extra_keys = ladder.extra_keys == "allow"
        self.dropped: set[str] = set()
        self.no_ops: set[str] = set()

    def degraded(self, config: Document, rank: int) -> Document:
        """A copy at the level of that rank, without roasters' overrides."""
        document = deepcopy(_without_roasters(config))
        levels = self.ladder.levels[:rank]
        for step in [*self.first, *(step for level in levels for step in level.steps)]:
            self._apply(step, document)
        return document

    def _apply(self, step: Step, document: Document) -> None:
        places = [*_places(document, step.path, absent=step.absent)]
        fitting = [(node, key) for node, key in places if _fits(step, node.get(key))]
        for node, key in fitting:
            if key in node or self.extra_keys:
                node[key] = self._moved(node.get(key), step.value)
            else:
                self.dropped.add(".".join(step.path))
        if not fitting:
            self.no_ops.add(step.written.partition(".")[2])

    def _moved(self, old: Any, value: Any) -> Any:
        """What a step makes of a number, or the constant that it is."""
        if not isinstance(value, SetTo | Multiply | Raise):
            return value
        if old is None and isinstance(value, SetTo):
            return _like(0, value.to)
        number = Decimal(old)
        match value:
            case SetTo(to, keep):
                new = min(number, to) if keep == "lower" else max(number, to)
            case Multiply(by, up_to):
                # A factor up to 1 never raises, others never lower.
                product = max(Decimal(1), (number * by).to_integral_value(ROUND_FLOOR))
                capped = product if up_to is None else min(product, up_to)
                new = min(number, product) if by <= 1 else max(number, capped)
            case Raise(by, up_to, "ask_below"):
                # Mirrored: asking the LLM less often means a lower threshold.
                new = min(number, max(1 - up_to, number - by))
            case Raise(by, up_to):
                new = max(number, min(up_to, number + by))
        return _like(old, new)


def _fits(step: Step, old: Any) -> bool:
    """Whether a step has something to move: a number; a constant stands instead of no mapping."""
    if not isinstance(step.value, SetTo | Multiply | Raise):
        return not isinstance(old, dict)
    number = isinstance(old, int | Decimal) and not isinstance(old, bool)
    return number or (step.absent and old is None)


def _places(
    document: Any, path: tuple[str, ...], *, absent: bool = False
) -> Iterator[tuple[Document, str]]:
    """Every (mapping, key) that a path with wildcards names and the document has.

    absent: the last key may be missing.
    """
    if not isinstance(document, dict):
        return
    head, *rest = path
    for key in list(document) if head == "*" else [head]:
        if rest:
            yield from _places(document.get(key), tuple(rest), absent=absent)
        elif absent or key in document:
            yield document, key


def _like(old: int | Decimal, new: Decimal) -> int | Decimal:
    """An integer stays one where it can; a decimal keeps its places (100.0 becomes 50.0)."""
    if isinstance(old, int):
        return int(new) if new == new.to_integral_value() else new
    exponents = (old.as_tuple().exponent, new.as_tuple().exponent)
    return new.quantize(Decimal(1).scaleb(min(int(exponent) for exponent in exponents)))


def _difference(shared: Document, whole: Document, own: Document) -> Document:
    """What an override must say so that merged over shared it gives whole; its own keys stay."""
    override: Document = {}
    for key, value in whole.items():
        below, mine = shared.get(key), own.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            nested = _difference(below, value, mine if isinstance(mine, dict) else {})
            if nested or key in own:
                override[key] = nested
        elif key in own or key not in shared or value != below:
            override[key] = deepcopy(value)
    return override
