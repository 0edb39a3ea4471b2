"""Makes dashboards/*.json of dashboards/*.yml: python -m dashboards.build [--check]."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableHide,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.dashboard import DashboardLink as Link
from msgspec import Struct

from common import names
from common.yamlfile import read_as
from dashboards.panels import SOURCE, Shown, panel

FOLDER = Path(__file__).parent
DASHBOARDS = ("budget", "roasters", "pipeline")
TAG = "llm-budget"
EXPORTER = "http://127.0.0.1:8000"  # whose status page and runbook the links lead to
INPUT = "DS_PROMETHEUS"  # what an import asks for


class Mark(Struct, forbid_unknown_fields=True, frozen=True):
    """What is marked in every graph while its query has a value above 0."""

    color: str
    query: str
    title: str


class Described(Struct, forbid_unknown_fields=True, frozen=True):
    """A dashboard; panels go by their titles, from the left to the right, from the top down."""

    uid: str
    title: str
    description: str
    panels: dict[str, Shown]
    choices: list[str] = []  # the labels that people choose values of


def links() -> list[Builder[Link]]:
    """To the other dashboards, the exporter's status page and the runbook."""
    others = dashboard.DashboardLink("LLM budget").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    pages = (
        dashboard.DashboardLink(title).type(DashboardLinkType.LINK).url(f"${{exporter}}{path}")
        for title, path in (("Status page", "/"), ("Runbook", "/runbook"))
    )
    return [
        others.include_vars(True).keep_time(True),
        *(page.target_blank(True) for page in pages),
    ]


def choice(label: str) -> dashboard.QueryVariable:
    """Among the values of a label, all at first."""
    built = dashboard.QueryVariable(label).label(label.capitalize()).datasource(SOURCE)
    built = built.query(f"label_values({names.REQUESTS}, {label})").multi(True)
    everything = VariableOption(selected=True, text=["All"], value=["$__all"])
    built = built.include_all(True).all_value(".+").current(everything)
    return built.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)


def source() -> dashboard.DatasourceVariable:
    """The Prometheus that is asked: what an import chose, else Grafana's first one."""
    asked = VariableOption(selected=True, text=f"${{{INPUT}}}", value=f"${{{INPUT}}}")
    built = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    return built.current(asked)


def exporter() -> dashboard.TextBoxVariable:
    """The exporter's address as people's browsers reach it; ?var-exporter= changes it, too."""
    built = dashboard.TextBoxVariable("exporter").label("Exporter").default_value(EXPORTER)
    shown = VariableOption(selected=True, text=EXPORTER, value=EXPORTER)
    return built.hide(VariableHide.HIDE_VARIABLE).current(shown)


def document(described: Described) -> dict[str, Any]:
    """The dashboard as Grafana reads it, provisioned or imported."""
    built = (
        dashboard.Dashboard(described.title)
        .uid(described.uid)
        .description(described.description)
        .tags([TAG])
        .refresh("30s")
        .time("now-24h", "now")
        .timezone("browser")
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .variables([source(), *map(choice, described.choices), exporter()])
        .links(links())
    )
    for title, shown in described.panels.items():
        built = built.with_panel(panel(title, shown))
    encoded: dict[str, Any] = json.loads(JSONEncoder().encode(built.build()))
    for variable in encoded["templating"]["list"]:
        del variable["id"]  # the same for all
    return {**encoded, "annotations": {"list": annotations()}, **imported(encoded)}


def annotations() -> list[dict[str, Any]]:
    """The marks; the SDK's type has neither a step nor a title."""
    marks = read_as(FOLDER / "marks.yml", dict[str, Mark])
    source = {"type": SOURCE.type_val, "uid": SOURCE.uid}
    return [
        {"name": name, "enable": True, "datasource": source, "iconColor": mark.color,
         "expr": mark.query, "titleFormat": mark.title, "step": "30s"}
        for name, mark in marks.items()
    ]  # fmt: skip


def imported(encoded: dict[str, Any]) -> dict[str, Any]:
    """What an importing Grafana asks for, and what it must have."""
    panels = sorted({shown["type"] for shown in encoded["panels"]})
    kinds = {"grafana": ("10.1.0", ["grafana"]), "datasource": ("", ["prometheus"])}
    kinds["panel"] = ("", panels)
    asked = {"name": INPUT, "label": "Prometheus", "description": "", "type": "datasource"}
    return {
        "__inputs": [{**asked, "pluginId": "prometheus", "pluginName": "Prometheus"}],
        "__requires": [
            {"type": kind, "id": name, "name": name.capitalize(), "version": version}
            for kind, (version, found) in kinds.items()
            for name in found
        ],
    }


def stale(path: Path, check: bool) -> bool:
    """Whether the JSON beside a YAML file is not what that makes. Without check it is written."""
    file = path.with_suffix(".json")
    content = json.dumps(document(read_as(path, Described)), sort_keys=True, indent=2) + "\n"
    if file.exists() and file.read_text(encoding="utf-8") == content:
        return False
    if not check:
        file.write_text(content, encoding="utf-8")
    sys.stdout.write(f"{file.name} {'is not what dashboards/ makes' if check else 'written'}\n")
    return True


def main() -> int:
    """Write the files; with --check only say whether they are current."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when a file is not current")
    check = parser.parse_args().check
    changed = [stale(FOLDER / f"{name}.yml", check) for name in DASHBOARDS]
    return int(check and any(changed))


if __name__ == "__main__":
    sys.exit(main())
