"""The shipped rule files and their promtool tests, as the suite-level tests see them."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from common import names
from tests.support.paths import ROOT

RULES = ROOT / "rules"
TESTS = ROOT / "tests" / "rules"


@cache
def parsed(path: Path) -> Any:
    """A YAML file, read once: PyYAML takes a second for all of them."""
    return yaml.safe_load(path.read_text())


def rule_files() -> list[Path]:
    """The files that rules/prometheus.yml loads."""
    config = parsed(RULES / "prometheus.yml")
    return [RULES / name for name in config["rule_files"]]


def groups() -> Iterator[dict[str, Any]]:
    """Every rule group, with its file's name under "file"."""
    for path in rule_files():
        for group in parsed(path)["groups"]:
            yield {**group, "file": path.name}


def rules() -> Iterator[dict[str, Any]]:
    """Every rule, with its file's name under "file"."""
    for group in groups():
        for rule in group["rules"]:
            yield {**rule, "file": group["file"]}


def asked_for(rule: dict[str, Any]) -> dict[str, str]:
    """The degradation or tuning that a rule's labels ask for."""
    labels = rule.get("labels", {})
    return {key: labels[key] for key in ("degradation", "tuning") if key in labels}


@cache
def alerts() -> dict[str, dict[str, Any]]:
    """Alerting rules by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


@cache
def recorded() -> set[str]:
    """Names of the recording rules."""
    return {rule["record"] for rule in rules() if "record" in rule}


def published() -> set[str]:
    """Names that the exporter and the receiver publish."""
    return {value for name, value in vars(names).items() if name.isupper()}


def test_files() -> list[Path]:
    """The promtool test files."""
    return sorted(TESTS.glob("*.test.yml"))


def test_cases() -> Iterator[dict[str, Any]]:
    """Every promtool test."""
    for path in test_files():
        yield from parsed(path)["tests"]


def names_in(expression: str) -> set[str]:
    """Metric and recording-rule names that a PromQL expression reads."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|#.*', " ", expression)
    bare = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    return set(re.findall(r"\b(?:llm_\w+|up|\w+:llm_\w+:\w+)\b(?!\s*\()", bare))
