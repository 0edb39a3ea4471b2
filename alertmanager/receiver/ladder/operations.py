"""The ladder's operations on a config document. Each moves in its safe direction only."""

from collections.abc import Callable, Iterator
from decimal import ROUND_FLOOR, Decimal
from functools import partial
from typing import Any

import msgspec

from alertmanager.receiver.ladder.ladder import Multiply, Operations, Raise, SetTo

Document = dict[str, Any]


class Editor:
    """Applies operations to one document in place; notes what was dropped and what did nothing."""

    def __init__(self, document: Document, *, extra_keys: bool, ask_below: bool) -> None:
        self.document = document
        self.extra_keys = extra_keys
        self.ask_below = ask_below
        self.dropped: set[str] = set()
        self.no_ops: set[str] = set()

    def apply(self, operations: Operations) -> None:
        """All operations of a level or tuning, in a fixed order."""
        for path, value in operations.set.items():
            self._set(path, value)
        for path, factor in operations.multiply.items():
            by = factor if isinstance(factor, Multiply) else Multiply(factor)
            self._change(path, partial(multiplied, by=by))
        for path, limit in operations.at_most.items():
            self._change(path, partial(min, limit))
        for path, limit in operations.at_least.items():
            self._change(path, partial(max, limit))
        for path, step in operations.raise_.items():
            self._change(path, partial(self._stepped, step=step))
        for path, fields in operations.disable.items():
            self._disable(path, fields)

    def _set(self, path: str, value: Any) -> None:
        hits = 0
        for node, key in _places(self.document, path.split("."), absent=True):
            hits += _fits(node.get(key), value)
            if key not in node and not self.extra_keys:
                self.dropped.add(path)
            elif _fits(node.get(key), value):
                node[key] = _constant(node.get(key), value)
        if not hits:
            self.no_ops.add(path)

    def _change(self, path: str, change: Callable[[Decimal], Decimal]) -> None:
        """Replace the number at path; count a path that leads nowhere or to no number."""
        hits = 0
        for node, key in _places(self.document, path.split(".")):
            old = node[key]
            if _is_number(old):
                node[key] = _like(old, change(Decimal(old)))
                hits += 1
        if not hits:
            self.no_ops.add(path)

    def _stepped(self, old: Decimal, step: Raise) -> Decimal:
        if self.ask_below:  # mirrored: asking the LLM less often means a lower threshold
            return min(old, max(1 - step.up_to, old - step.by))
        return max(old, min(step.up_to, old + step.by))

    def _disable(self, path: str, fields: list[str]) -> None:
        places = list(_places(self.document, path.split(".")))
        for name in fields:
            found = [node[key][name] for node, key in places if _has_mapping(node[key], name)]
            for field_config in found:
                if "enabled" in field_config or self.extra_keys:
                    field_config["enabled"] = False
                else:
                    self.dropped.add(f"{path}.{name}.enabled")
            if not found:
                self.no_ops.add(f"{path}.{name}")


def multiplied(old: Decimal, by: Multiply) -> Decimal:
    """The product, rounded down, at least 1; a factor up to 1 never raises, others never lowers."""
    product = max(Decimal(1), (old * by.by).to_integral_value(ROUND_FLOOR))
    if by.by <= 1:
        return min(old, product)
    if by.up_to is not None:
        product = min(product, by.up_to)
    return max(old, product)


def _fits(old: Any, value: Any) -> bool:
    """Whether a constant may stand instead: of no mapping; with a safe side, only of a number."""
    if isinstance(value, dict):
        return old is None or _is_number(old)
    return not isinstance(old, dict)


def _constant(old: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    rule = msgspec.convert(value, SetTo)
    if old is None:
        return _like(0, rule.to)
    kept = min(Decimal(old), rule.to) if rule.keep == "lower" else max(Decimal(old), rule.to)
    return _like(old, kept)


def _places(
    document: Any, path: list[str], *, absent: bool = False
) -> Iterator[tuple[Document, str]]:
    """Every (mapping, key) that a path with wildcards names and the document has.

    absent: the last key may be missing.
    """
    if not isinstance(document, dict):
        return
    head, *rest = path
    for key in list(document) if head == "*" else [head]:
        if rest:
            yield from _places(document.get(key), rest, absent=absent)
        elif absent or key in document:
            yield document, key


def _has_mapping(node: Any, key: str) -> bool:
    return isinstance(node, dict) and isinstance(node.get(key), dict)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _like(old: int | Decimal, new: Decimal) -> int | Decimal:
    """An integer stays one where it can; a decimal keeps its places (100.0 becomes 50.0)."""
    if isinstance(old, int):
        return int(new) if new == new.to_integral_value() else new
    exponents = (old.as_tuple().exponent, new.as_tuple().exponent)
    return new.quantize(Decimal(1).scaleb(min(int(exponent) for exponent in exponents)))
