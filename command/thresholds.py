"""The budget thresholds, read from the rules, which are the only place that defines them."""

import re
from decimal import Decimal
from pathlib import Path

from command.paths import RULES
from common.errors import UserError
from common.names import THRESHOLD
from common.yamlfile import read_document

CONSTANT = re.compile(r"vector\(([\d.]+)\)")
# What rules/budget.yml asks for from each threshold on; other alerts may ask for more.
LEVELS = {"warning": "control", "critical": "emergency", "exhausted": "fallback"}


def thresholds(folder: Path = RULES) -> dict[str, Decimal]:
    """Every budget threshold as a ratio of the limit by its name (half, warning, …).

    Raises UserError when the rule files have none, or one that is not a constant.
    """
    found: dict[str, Decimal] = {}
    for path in sorted(folder.glob("*.yml")):
        groups = (read_document(path) or {}).get("groups", [])
        for rule in (rule for group in groups for rule in group.get("rules", [])):
            if rule.get("record") == THRESHOLD:
                text = str(rule["expr"]).strip()
                if not (constant := CONSTANT.fullmatch(text)):
                    must = f"{THRESHOLD} must be a constant, vector(NUMBER), not {text!r}"
                    raise UserError(f"{path}: {must}")
                found[rule["labels"]["threshold"]] = Decimal(constant[1])
    if not found:
        raise UserError(f"no {THRESHOLD} constants in {folder}; is this the rules folder?")
    return found


def level_at(utilization: Decimal) -> str:
    """The level that a utilization alone asks for, or none: above its threshold, at the limit."""
    limits = thresholds()
    exhausted = utilization >= limits["exhausted"]
    reached = [level for name, level in LEVELS.items() if utilization > limits[name] or exhausted]
    return ["none", *reached][-1]
