"""The shipped dashboards, as the tests see them."""

import json
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

FILES = sorted((ROOT / "dashboards").glob("*.json"))


def panels(path: Path) -> list[dict[str, Any]]:
    """Every panel that shows something."""
    return [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]


def expressions(path: Path) -> list[str]:
    """Every query of its panels."""
    return [target["expr"] for panel in panels(path) for target in panel["targets"]]
