"""The dashboards: current, as dashboard-linter and an import want them, asking for what exists."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models import units

from command.stack.binaries import need
from common import names
from tests.support.dashboard_data import (
    FIRST_DAY,
    UNFORETOLD,
    WITHOUT_BALANCE,
    WITHOUT_CAPS,
    WITHOUT_MONTH,
    YOUNG,
)
from tests.support.dashboards import (
    FILES,
    asked,
    document,
    expressions,
    filled_in,
    panels,
    variables,
)
from tests.support.rule_files import names_in, published, recorded

# dashboard-linter's rules, by the test that holds them; and those that do not fit, with the reason.
LINTER = {
    "template-datasource-rule": "test_the_data_source_is_a_variable_that_an_import_fills",
    "template-label-promql-rule": "test_variables_are_labels_of_what_is_published",
    "template-on-time-change-reload-rule": "test_variables_are_labels_of_what_is_published",
    "panel-datasource-rule": "test_every_panel_says_what_it_shows_in_a_unit_of_grafanas",
    "panel-title-description-rule": "test_every_panel_says_what_it_shows_in_a_unit_of_grafanas",
    "panel-units-rule": "test_every_panel_says_what_it_shows_in_a_unit_of_grafanas",
    "panel-no-targets-rule": "test_every_panel_says_what_it_shows_in_a_unit_of_grafanas",
    "target-promql-rule": "test_every_series_exists_and_every_expression_parses",
    "target-rate-interval-rule": "test_windows_are_grafanas_and_counters_have_rates",
    "target-counter-agg-rule": "test_windows_are_grafanas_and_counters_have_rates",
    "uneditable-dashboard": "test_the_dashboard_is_stable_read_only_and_without_ids",
}
EXCLUDED = {
    **dict.fromkeys(
        ("template-job-rule", "template-instance-rule", "target-job-rule", "target-instance-rule"),
        "the rules know exporters and receivers by what they publish, whatever their jobs are "
        "called, and one Prometheus has one budget",
    ),
    **dict.fromkeys(
        ("target-logql-rule", "target-logql-auto-rule"), "there is no Loki, and so no query of it"
    ),
}
# People keep links to them.
UIDS = {
    "budget": "llm-budget-overview",
    "roasters": "llm-budget-roasters",
    "pipeline": "llm-budget-pipeline",
}
every = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)


def test_every_rule_of_the_linter_is_held_or_excluded_with_a_reason() -> None:
    assert all(callable(globals()[test]) for test in LINTER.values())
    assert not LINTER.keys() & EXCLUDED.keys()
    assert all(EXCLUDED.values())


def test_the_files_are_what_their_builder_makes() -> None:
    assert {path.stem for path in FILES} == UIDS.keys()
    done = subprocess.run(
        [sys.executable, "-m", "dashboards.build", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@every
def test_every_panel_says_what_it_shows_in_a_unit_of_grafanas(path: Path) -> None:
    known = {value for name, value in vars(units).items() if name[0].isupper()}
    for panel in panels(path):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in known, panel["title"]
        assert panel["targets"]
        assert panel["datasource"]["uid"] == "${datasource}"
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(set(legends)) == len(legends), panel["title"]


@every
def test_the_dashboard_is_stable_read_only_and_without_ids(path: Path) -> None:
    dashboard = document(path)
    assert dashboard["uid"] == UIDS[path.stem]
    assert dashboard["editable"] is False
    assert not list(ids(dashboard))


def ids(node: Any) -> list[Any]:
    """Ids that Grafana gives: of dashboards, panels and variables, not those of options."""
    outer = [node, *node["panels"], *node["templating"]["list"], *node["annotations"]["list"]]
    return [one for one in outer if one.get("id") is not None]


@every
def test_the_data_source_is_a_variable_that_an_import_fills(path: Path) -> None:
    dashboard = document(path)
    (asks,) = dashboard["__inputs"]
    assert (asks["type"], asks["pluginId"]) == ("datasource", "prometheus")
    source = next(iter(variables(path).values()))
    assert (source["name"], source["label"]) == ("datasource", "Data source")
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    assert source["current"]["value"] == f"${{{asks['name']}}}"
    required = {one["id"] for one in dashboard["__requires"]}
    assert required == {"grafana", "prometheus", *(panel["type"] for panel in panels(path))}


@every
def test_the_dashboards_lead_to_each_other_and_to_the_runbook(path: Path) -> None:
    others, status, runbook = document(path)["links"]
    assert (others["type"], others["keepTime"], others["includeVars"]) == ("dashboards", True, True)
    assert set(others["tags"]) <= set(document(path)["tags"])
    assert [status["url"], runbook["url"]] == ["${exporter}/", "${exporter}/runbook"]
    assert variables(path)["exporter"]["query"] == "http://127.0.0.1:8000"


@every
def test_variables_are_labels_of_what_is_published(path: Path) -> None:
    queried = [one for one in variables(path).values() if one["type"] == "query"]
    used = {name for name in names.RFM if f"${name}" in str(panels(path))}
    assert {one["name"] for one in queried} == used
    for one in queried:
        assert one["query"] == f"label_values({names.REQUESTS}, {one['name']})"
        assert (one["multi"], one["allValue"], one["refresh"]) == (True, ".+", 2)


@every
def test_every_series_exists_and_every_expression_parses(path: Path, tmp_path: Path) -> None:
    # With a month's budget come its own rules.
    known = published() | recorded() | {"llm_request_duration_seconds_bucket"}
    of_month = {"utilization:ratio", "spend_usd:total", "forecast_usd:end", "limit_usd:today"}
    known |= {f"month:llm_{name}" for name in of_month}
    rules = []
    for expression in expressions(path):
        assert names_in(expression) <= known, expression
        rules.append({"record": "x", "expr": filled_in(expression)})
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = subprocess.run(
        [need("promtool"), "check", "rules", "--lint=none", str(file)],
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stderr


@every
def test_windows_are_grafanas_and_counters_have_rates(path: Path) -> None:
    for expression in expressions(path):
        windows = re.findall(r"\[([^]]*)\]", expression)
        assert set(windows) <= {"$__rate_interval"}, expression
        for counter in re.findall(r"\w+_(?:total|bucket)\b[^[]*(\[)?", expression):
            assert counter, f"a counter without a rate: {expression}"


@every
def test_no_threshold_is_a_number(path: Path) -> None:
    """Neither in a query nor among Grafana's own: each is a record that the alerts compare with."""
    for query in asked(path):
        bare = re.sub(r'"[^"]*"|label_replace\(.*\)', "", query.expression)
        assert set(re.findall(r"[<>=] *(?:bool )?([\d.]+)", bare)) <= {"0"}, query
    for panel in panels(path):
        assert "thresholds" not in panel["fieldConfig"]["defaults"], panel["title"]


def test_the_budget_fits_one_screen() -> None:
    (path,) = (path for path in FILES if path.stem == "budget")
    places = [panel["gridPos"] for panel in panels(path)]
    assert max(place["y"] + place["h"] for place in places) <= 22  # of 38 pixels
    assert sum(place["w"] * place["h"] for place in places) == 22 * 24  # without a gap


def test_every_reason_names_a_query_and_the_query_answers_once_its_series_are_there(
    tmp_path: Path,
) -> None:
    """What a young loop has no data for: promtool gives it the series, with every label."""
    reasons = {
        **WITHOUT_MONTH,
        **WITHOUT_CAPS,
        **WITHOUT_BALANCE,
        **UNFORETOLD,
        **YOUNG,
        **FIRST_DAY,
    }
    found = {(q.panel, q.legend): q.expression for path in FILES for q in asked(path)}
    assert reasons.keys() <= found.keys()
    labels = dict.fromkeys(("roaster", "field", "window", "of", "reason"), "a")
    labels |= {
        "case": "expected",
        "month": "2026-11",
        "entry": "control",
        "days_ago": "1",
        "by": "end",
    }
    written = ",".join(f'{name}="{value}"' for name, value in labels.items())
    checks = []
    for key in reasons:
        series = names_in(found[key])
        checks.append(
            {
                "interval": "1m",
                "input_series": [{"series": f"{x}{{{written}}}", "values": "1x5"} for x in series],
                "promql_expr_test": [
                    {
                        "expr": f"count({filled_in(found[key])})",
                        "eval_time": "3m",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                ],
            }
        )
    promtool(tmp_path, checks)


def test_a_budget_that_is_spent_is_drawn_below_nothing_and_has_run_out(tmp_path: Path) -> None:
    path = next(path for path in FILES if path.stem == "budget")
    (drawn,) = (panel for panel in panels(path) if panel["title"] == "Burn-down")
    assert "min" not in drawn["fieldConfig"]["defaults"]
    (panel,) = (panel for panel in panels(path) if panel["title"] == "Runs out")
    (faces,) = (one["options"] for one in panel["fieldConfig"]["defaults"]["mappings"])
    spent, lasting = {"left": -5, "out": 600}, {"left": 5}
    promtool(tmp_path, [
        {
            "interval": "1m",
            "input_series": [
                {"series": "budget:llm_remaining_usd:today", "values": f"{given['left']}x9"},
                {"series": "budget:llm_forecast_usd:today", "values": "9x9"},
                *({"series": f'budget:llm_exhaustion:timestamp_seconds{{case="{case}"}}',
                   "values": f"{given['out']}x9"}
                  for case in ("expected", "earliest") if "out" in given),
                {"series": "budget:llm_forecast_usd:high", "values": "9x9"},
            ],
            "promql_expr_test": [
                {"expr": target["expr"], "eval_time": "9m",
                 "exp_samples": [{"labels": "{}", "value": int(value)}]}
                for target in panel["targets"]
            ],
        }
        for given, word in ((spent, "is spent"), (lasting, "lasts the day"))
        for value, face in faces.items() if face["text"] == word
    ])  # fmt: skip


def promtool(folder: Path, checks: list[dict[str, Any]]) -> None:
    file = folder / "panels.test.yml"
    file.write_text(json.dumps({"rule_files": [], "tests": checks}))
    done = subprocess.run(
        [need("promtool"), "test", "rules", str(file)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
