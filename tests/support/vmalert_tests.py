"""The promtool tests as vmalert-tool reads them, so that one file proves a rule on both engines.

vmalert-tool writes what a group recorded once the whole group is evaluated: a rule that reads its
own group's records would see those of the evaluation before. So a chain of rules gets several
groups. Not one for each rule, because the tool waits after each group.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.rule_files import names_in, parsed

# promtool's "1x5" is a value and five more of it; vmalert-tool knows the long form only.
REPEATED = re.compile(r"(?<![\w.+-])(-?[\d.]+(?:[eE][+-]?\d+)?)x(\d+)\b")

KEEPS_NAME = re.compile(r"(round|ceil|floor|clamp(_m\w+)?|(avg|max|min|quantile)_over_time)\(")


def convert(test: Path, folder: Path) -> Path:
    """The test file and its rule files for vmalert-tool, in the folder; the new test file."""
    document: dict[str, Any] = parsed(test)
    files = [(test.parent / name).resolve() for name in document["rule_files"]]
    groups = {group["name"]: list(_parts(group)) for group in _groups(files)}
    order = document.get("group_eval_order", list(groups))
    parts = [part for name in order for part in groups[name]]
    rules = folder / "rules.yml"
    rules.write_text(yaml.safe_dump({"groups": parts}))
    converted = {
        **document,
        "rule_files": [str(rules)],
        "group_eval_order": [part["name"] for part in parts],
        "tests": [*map(_test, document["tests"], _texts(test))],
    }
    written = folder / test.name
    written.write_text(yaml.safe_dump(converted, sort_keys=False))
    return written


def values(text: str) -> str:
    """An input series' values in vmalert-tool's spelling."""
    return REPEATED.sub(r"\1+0x\2", text)


def nameless(expression: str) -> str:
    """A question whose answer has no name in PromQL; some functions of MetricsQL would keep it."""
    return f"0 + {expression}" if KEEPS_NAME.match(expression) else expression


def _groups(files: list[Path]) -> Iterator[dict[str, Any]]:
    for file in files:
        yield from parsed(file)["groups"]


def _parts(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The group's rules in groups of their own: none reads what its own group records."""
    parts: list[list[dict[str, Any]]] = [[]]
    for rule in group["rules"]:
        if names_in(str(rule["expr"])) & {one.get("record") for one in parts[-1]}:
            parts.append([])
        parts[-1].append(rule)
    for number, rules in enumerate(parts):
        yield {**group, "name": f"{group['name']}-{number:02d}", "rules": rules}


def _texts(test: Path) -> list[dict[str, Any]]:
    """The tests with every scalar as it is written: to YAML 0x600 is the number 1536."""
    tests: list[dict[str, Any]] = yaml.load(test.read_text(), yaml.BaseLoader)["tests"]
    return tests


def _test(test: dict[str, Any], text: dict[str, Any]) -> dict[str, Any]:
    changed = {key: value for key, value in test.items() if key != "promql_expr_test"}
    changed["metricsql_expr_test"] = [
        {**one, "expr": nameless(one["expr"])} for one in test.get("promql_expr_test", [])
    ]
    changed["input_series"] = [
        {**one, "values": values(one["values"])} for one in text.get("input_series", [])
    ]
    return changed
