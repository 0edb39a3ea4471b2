"""Builds dashboards/*.json with Grafana's foundation SDK: python -m dashboards.build [--check]."""

import argparse
import sys
from pathlib import Path
from typing import TypeVar

from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

from common import names
from common.yamlfile import read_document

FILE = Path(__file__).with_name("overview.json")
LADDER = Path(__file__).resolve().parents[1] / "alertmanager" / "degradation.yml"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
Panel = TypeVar("Panel", stat.Panel, timeseries.Panel)


def filled(panel: Panel, title: str, description: str, unit: str, queries: dict[str, str]) -> Panel:
    """A panel with what every one has; queries: expressions by their legend."""
    panel = panel.title(title).description(description).datasource(SOURCE).unit(unit)
    for legend, expression in queries.items():
        panel.with_target(prometheus.Dataquery().expr(expression).legend_format(legend))
    return panel


def number(title: str, description: str, expression: str, unit: str) -> stat.Panel:
    """One number of now."""
    last = common_builder.ReduceDataOptions().calcs(["lastNotNull"])
    panel = stat.Panel().height(4).span(6).graph_mode(common.BigValueGraphMode.NONE)
    return filled(panel.reduce_options(last), title, description, unit, {"": expression})


def graph(title: str, description: str, unit: str, queries: dict[str, str]) -> timeseries.Panel:
    """Lines over time."""
    panel = timeseries.Panel().min(0).height(8).span(12).fill_opacity(8)
    return filled(panel, title, description, unit, queries)


def panels() -> list[stat.Panel | timeseries.Panel]:
    """From the left to the right, from the top to the bottom."""
    ladder = ["none", *(entry["level"] for entry in read_document(LADDER)["levels"])]
    levels = ", ".join(f"{rank} {name}" for rank, name in enumerate(ladder))
    return [
        number(
            "Utilization",
            "Spend, less what was written off, over limit and grants.",
            names.UTILIZATION,
            units.PercentUnit,
        ),
        number(
            "Remaining today",
            "What may still be spent in this budget day.",
            "budget:llm_remaining_usd:today",
            units.Dollars,
        ),
        number("Degradation level", f"{levels}.", f"max({names.DEGRADATION_LEVEL})", units.Short),
        number(
            "Evidence complete",
            "1 when every exporter was scraped just now and writes its ledger. Nothing is "
            "lifted while it is 0.",
            "budget:llm_evidence:complete",
            units.Short,
        ),
        graph(
            "Utilization and thresholds",
            "The thresholds are the recorded constants that the alerts compare with.",
            units.PercentUnit,
            {"utilization": names.UTILIZATION, "{{threshold}}": names.THRESHOLD},
        ),
        graph(
            "Forecast of the day's total",
            "With the band that it is expected to keep to, and the day's limit.",
            units.Dollars,
            {
                "forecast": names.FORECAST,
                "low": names.FORECAST_LOW,
                "high": names.FORECAST_HIGH,
                "limit": "budget:llm_limit_usd:today",
            },
        ),
        graph(
            "Spend rate",
            "USD an hour, over windows of 5 minutes and 1 hour.",
            units.Dollars,
            {
                "5m": "budget:llm_spend_usd:rate5m * 3600",
                "1h": "budget:llm_spend_usd:rate1h * 3600",
            },
        ),
        *(
            graph(f"Spend today by {by}", description, units.Dollars, {"{{" + by + "}}": spend})
            for by, description, spend in (
                ("model", "What each model has cost today.", "model:llm_spend_usd:today"),
                ("roaster", "The ten dearest.", "topk(10, roaster:llm_spend_usd:today)"),
                ("field", "What each field has cost today.", "field:llm_spend_usd:today"),
            )
        ),
        graph(
            "Requests by outcome",
            "A second; cached and fallback cost nothing.",
            units.RequestsPerSecond,
            {"{{outcome}}": f"sum by (outcome) (rate({names.REQUESTS}[$__rate_interval]))"},
        ),
        graph(
            "Degradation in force",
            "Each level includes those below it; tunings are named.",
            units.Short,
            {"{{entry}}": f"max by (entry) ({names.DEGRADATION_ACTIVE})"},
        ),
        graph(
            "What the level saves",
            "Paid calls and cost a minute, of those before its rise; judged after ten minutes.",
            units.PercentUnit,
            {
                "{{entry}}: {{of}}": names.EFFECT,
                "{{entry}}, calls not judged: {{reason}}": f"0 * {names.EFFECT_UNJUDGED}",
            },
        ),
    ]


def overview() -> dashboard.Dashboard:
    """How much of today's budget is gone, where it went, and what is being done."""
    built = (
        dashboard.Dashboard("LLM budget")
        .uid("llm-budget-overview")
        .description("Today's LLM spend against its budget, and the degradation in force.")
        .tags(["llm-budget"])
        .refresh("10s")
        .time("now-24h", "now")
        .timezone("browser")
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
    )
    for panel in panels():
        built = built.with_panel(panel)
    return built


def main() -> int:
    """Write the file; with --check only say whether it is current."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 when a file is not current")
    check = parser.parse_args().check
    content = JSONEncoder(sort_keys=True, indent=2).encode(overview().build()) + "\n"
    if FILE.exists() and FILE.read_text(encoding="utf-8") == content:
        return 0
    if not check:
        FILE.write_text(content, encoding="utf-8")
    sys.stdout.write(f"{FILE.name} {'is not what dashboards/ makes' if check else 'written'}\n")
    return int(check)


if __name__ == "__main__":
    sys.exit(main())
