"""The budget thresholds, read from the rules, which are the only place that defines them."""

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from alertmanager.receiver.ladder.ladder import NONE
from command.paths import RULES
from common.errors import UserError
from common.names import THRESHOLD
from common.yamlfile import read_document

_ASKED = re.compile(
    r"budget:llm_utilization:ratio >(?P<or_at>=?) bool on \(\) "
    rf'{THRESHOLD}\{{threshold="(?P<threshold>\w+)"\}}'
)


def thresholds(folder: Path = RULES) -> dict[str, Decimal]:
    """Every budget threshold as a ratio of the limit by its name (half, warning, …).

    Raises UserError when the rule files have none, or one that is not a constant.
    """
    found = {
        rule["labels"]["threshold"]: _constant(rule["expr"], path)
        for path, rule in _rules(folder)
        if rule.get("record") == THRESHOLD
    }
    if not found:
        raise UserError(f"no {THRESHOLD} constants in {folder}; is this the rules folder?")
    return found


def level_at(utilization: Decimal, folder: Path = RULES) -> str:
    """The level that a utilization alone asks for; other alerts may ask for more."""
    limits, reached = thresholds(folder), {Decimal(0): NONE}
    for _, rule in _rules(folder):
        if asked := _ASKED.fullmatch(str(rule["expr"]).strip()):
            limit = limits[asked["threshold"]]
            if utilization > limit or (asked["or_at"] and utilization == limit):
                reached[limit] = rule["labels"]["degradation"]
    return reached[max(reached)]


def _rules(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(folder.glob("*.yml")):
        for group in (read_document(path) or {}).get("groups", []):
            yield from ((path, rule) for rule in group.get("rules", []))


def _constant(expression: object, path: Path) -> Decimal:
    text = str(expression).strip()
    if not (text.startswith("vector(") and text.endswith(")")):
        raise UserError(f"{path}: {THRESHOLD} must be a constant, vector(NUMBER), not {text!r}")
    return Decimal(text[len("vector(") : -1])
