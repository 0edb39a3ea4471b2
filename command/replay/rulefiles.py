"""The shipped rules in the order of a replay: what a rule reads is evaluated before it."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.yamlfile import read_document

NAME = re.compile(r"\w+:llm_\w+:\w+|llm_\w+")


@dataclass(frozen=True)
class Rule:
    """A recording or alerting rule as its file has it."""

    group: str
    body: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.body.get("record") or self.body["alert"])

    @property
    def reads(self) -> set[str]:
        """Names of ours in its expression."""
        return set(NAME.findall(str(self.body["expr"])))


def load(folder: Path) -> list[Rule]:
    """All rules that the folder's prometheus.yml loads, in order."""
    return [
        Rule(group["name"], body)
        for name in read_document(folder / "prometheus.yml")["rule_files"]
        for group in read_document(folder / name)["groups"]
        for body in group["rules"]
    ]


def passes(rules: list[Rule], wanted: Iterable[str]) -> list[list[Rule]]:
    """The recording rules behind the wanted names, in passes: each reads earlier ones, or itself.

    All rules of a name come in one pass. Raises UserError when rules wait for each other.
    """
    recording = [rule for rule in rules if "record" in rule.body]
    reads: dict[str, set[str]] = defaultdict(set)
    for rule in recording:
        reads[rule.name] |= rule.reads
    steps: dict[str, int] = {}

    def step(name: str, above: tuple[str, ...] = ()) -> int:
        if name in above:
            circle = ", ".join(sorted(above[above.index(name) :]))
            raise UserError(f"these rules wait for each other: {circle}")
        if name not in steps:
            read = reads[name] & reads.keys() - {name}  # its own past is not there yet
            steps[name] = 1 + max((step(one, (*above, name)) for one in read), default=-1)
        return steps[name]

    last = max(map(step, set(wanted) & reads.keys()), default=-1)
    return [[one for one in recording if steps.get(one.name) == now] for now in range(last + 1)]


def document(rules: list[Rule]) -> dict[str, Any]:
    """A rule file of these rules, in the groups that they came from."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for rule in rules:
        groups.setdefault(rule.group, []).append(rule.body)
    return {"groups": [{"name": name, "rules": bodies} for name, bodies in groups.items()]}
