"""The shipped rules in the order of a replay: what a rule reads is evaluated before it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.yamlfile import read_document

NAME = re.compile(r"\w+:llm_\w+:\w+|llm_\w+")
DURATION = re.compile(r"(\d+)(ms|[smhd])")
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Rule:
    """A recording or alerting rule as it stands in its file."""

    group: str
    body: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.body.get("record") or self.body["alert"])

    @property
    def reads(self) -> set[str]:
        """Names of ours in its expression."""
        return set(NAME.findall(str(self.body["expr"])))

    def seconds(self, key: str) -> float:
        """The duration under `for` or `keep_firing_for`, 0 without."""
        text = str(self.body.get(key, ""))
        return sum(int(count) * SECONDS[unit] for count, unit in DURATION.findall(text))


def load(folder: Path) -> list[Rule]:
    """All rules that the folder's prometheus.yml loads, in order."""
    return [
        Rule(group["name"], body)
        for name in read_document(folder / "prometheus.yml")["rule_files"]
        for group in read_document(folder / name)["groups"]
        for body in group["rules"]
    ]


def levels(rules: list[Rule], wanted: Iterable[str], published: Iterable[str]) -> list[list[Rule]]:
    """The recording rules behind the wanted names, in passes: each reads only earlier passes.

    published: names of raw metrics at hand; a rule of the wanted ones may read no other.
    """
    recording = [rule for rule in rules if "record" in rule.body]
    known, missing = set(published), _closure(recording, wanted) - set(published)
    passes = []
    while missing:
        pending = {rule.name for rule in recording if rule.name in missing and rule.reads & missing}
        ready = [rule for rule in recording if rule.name in missing - pending]
        if not ready:
            raise UserError(f"rules that wait for each other: {', '.join(sorted(missing))}")
        passes.append(ready)
        known |= {rule.name for rule in ready}
        missing -= known
    return passes


def _closure(recording: list[Rule], wanted: Iterable[str]) -> set[str]:
    """The recorded names that the wanted ones need, themselves included."""
    found: set[str] = set()
    frontier = set(wanted) & {rule.name for rule in recording}
    while frontier:
        found |= frontier
        read = {name for rule in recording if rule.name in frontier for name in rule.reads}
        frontier = (read & {rule.name for rule in recording}) - found
    return found


def document(rules: list[Rule]) -> dict[str, Any]:
    """A rule file of these rules, in the groups that they came from."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for rule in rules:
        groups.setdefault(rule.group, []).append(rule.body)
    return {"groups": [{"name": name, "rules": bodies} for name, bodies in groups.items()]}
