"""The budget thresholds, read from the rules, which are the only place that defines them."""

from decimal import Decimal
from pathlib import Path

from command.paths import RULES
from common.errors import UserError
from common.names import THRESHOLD
from common.yamlfile import read_document

# What rules/budget.yml asks for from each threshold on; other alerts may ask for more.
LEVELS = {"warning": "control", "critical": "emergency", "exhausted": "fallback"}


def thresholds(folder: Path = RULES) -> dict[str, Decimal]:
    """Every budget threshold as a ratio of the limit by its name (half, warning, …).

    Raises UserError when the rule files have none, or one that is not a constant.
    """
    found: dict[str, Decimal] = {}
    for path in sorted(folder.glob("*.yml")):
        for group in (read_document(path) or {}).get("groups", []):
            for rule in group.get("rules", []):
                if rule.get("record") == THRESHOLD:
                    found[rule["labels"]["threshold"]] = _constant(rule["expr"], path)
    if not found:
        raise UserError(f"no {THRESHOLD} constants in {folder}; is this the rules folder?")
    return found


def level_at(utilization: Decimal) -> str:
    """The level that a utilization alone asks for, or none: above its threshold, at the limit."""
    limits = thresholds()
    exhausted = utilization >= limits["exhausted"]
    reached = [level for name, level in LEVELS.items() if utilization > limits[name] or exhausted]
    return ["none", *reached][-1]


def _constant(expression: object, path: Path) -> Decimal:
    text = str(expression).strip()
    if not (text.startswith("vector(") and text.endswith(")")):
        raise UserError(f"{path}: {THRESHOLD} must be a constant, vector(NUMBER), not {text!r}")
    return Decimal(text[len("vector(") : -1])
