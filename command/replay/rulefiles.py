"""The shipped rules in the order of a replay: what a rule reads is evaluated before it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.yamlfile import read_document

NAME = re.compile(r"\w+:llm_\w+:\w+|llm_\w+")
DURATION = re.compile(r"(\d+)(ms|[smhd])")
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}


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


def passes(rules: list[Rule], wanted: Iterable[str]) -> list[list[Rule]]:
    """The recording rules behind the wanted names, in passes: each reads earlier ones, or itself.

    All rules of a name come in one pass. Raises UserError when rules wait for each other.
    """
    recording = [rule for rule in rules if "record" in rule.body]
    reads: dict[str, set[str]] = {rule.name: set() for rule in recording}
    for rule in recording:
        reads[rule.name] |= (rule.reads & reads.keys()) - {rule.name}
    needed: dict[str, set[str]] = {}
    waiting = set(wanted) & reads.keys()
    while waiting:
        name = waiting.pop()
        needed[name] = reads[name]
        waiting |= reads[name] - needed.keys()
    order = TopologicalSorter(needed)
    try:
        order.prepare()
    except CycleError as error:
        circle = ", ".join(sorted(set(error.args[1])))
        raise UserError(f"these rules wait for each other: {circle}") from error
    found = []
    while order.is_active():
        ready = order.get_ready()
        found.append([rule for rule in recording if rule.name in ready])
        order.done(*ready)
    return found


def document(rules: list[Rule]) -> dict[str, Any]:
    """A rule file of these rules, in the groups that they came from."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for rule in rules:
        groups.setdefault(rule.group, []).append(rule.body)
    return {"groups": [{"name": name, "rules": bodies} for name, bodies in groups.items()]}
