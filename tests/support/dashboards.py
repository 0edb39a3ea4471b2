"""The shipped dashboards, as the tests see them."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.paths import ROOT

FILES = sorted((ROOT / "dashboards").glob("*.json"))


class Query(NamedTuple):
    """What a panel, a mark or a variable asks for."""

    panel: str  # its title
    legend: str
    expression: str


@cache
def document(path: Path) -> dict[str, Any]:
    """The dashboard."""
    parsed: dict[str, Any] = json.loads(path.read_text())
    return parsed


def panels(path: Path) -> list[dict[str, Any]]:
    """Every panel that shows something."""
    return [panel for panel in document(path)["panels"] if panel["type"] != "row"]


def variables(path: Path) -> dict[str, dict[str, Any]]:
    """Its variables by name."""
    return {variable["name"]: variable for variable in document(path)["templating"]["list"]}


def asked(path: Path) -> Iterator[Query]:
    """Every query of its panels and marks."""
    for panel in panels(path):
        for target in panel["targets"]:
            yield Query(panel["title"], target["legendFormat"], target["expr"])
    for mark in document(path)["annotations"]["list"]:
        yield Query("marks", mark["name"], mark["expr"])


def expressions(path: Path) -> list[str]:
    """Every expression of its panels and marks."""
    return [query.expression for query in asked(path)]


def filled_in(expression: str, window: str = "5m", **chosen: str) -> str:
    """As Grafana sends it: a window of its own, and of each variable all values or one."""
    text = expression.replace("$__rate_interval", window)
    for name in ("roaster", "field", "model"):
        value = re.escape(chosen[name]).replace("\\", "\\\\") if name in chosen else ".+"
        text = text.replace(f"${name}", value)
    assert not re.search(r"\$\D", text), text  # $1 is label_replace's own
    return text
