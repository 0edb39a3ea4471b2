"""The dashboards: current, well formed, and asking only for what exists."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from command.stack.binaries import need
from common import names
from tests.support.dashboards import FILES, expressions, panels
from tests.support.rule_files import names_in, recorded


def test_the_files_are_what_their_builder_makes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dashboards.build", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_panel_has_title_description_unit_and_a_target(path: Path) -> None:
    for panel in panels(path):
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        assert panel["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_dashboard_is_stable_and_read_only(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"].startswith("llm-budget-")
    assert dashboard["editable"] is False
    assert dashboard["templating"]["list"][0]["name"] == "datasource"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_series_exists_and_every_expression_parses(path: Path, tmp_path: Path) -> None:
    published = {value for name, value in vars(names).items() if name.isupper()}
    rules = []
    for expression in expressions(path):
        assert names_in(expression) <= published | recorded(), expression
        rules.append({"record": "x", "expr": expression.replace("$__rate_interval", "1m")})
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = subprocess.run(
        [need("promtool"), "check", "rules", "--lint=none", str(file)],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr
