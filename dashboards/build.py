"""Builds dashboards/*.json with Grafana's foundation SDK: python -m dashboards.build [--check]."""

import argparse
import sys
from pathlib import Path

from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef
from grafana_foundation_sdk.models.units import Dollars, PercentUnit, RequestsPerSecond, Short

from common import names
from common.yamlfile import read_document

FILE = Path(__file__).with_name("overview.json")
LADDER = Path(__file__).resolve().parents[1] / "alertmanager" / "degradation.yml"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
Panel = stat.Panel | timeseries.Panel


def panel(description: str, unit: str, queries: dict[str, str] | str) -> Panel:
    """Lines over time, of expressions by their legend; of one expression the number of now."""
    built: Panel
    if isinstance(queries, str):
        last = common_builder.ReduceDataOptions().calcs(["lastNotNull"])
        built = stat.Panel().graph_mode(common.BigValueGraphMode.NONE).reduce_options(last)
        built, queries = built.height(4).span(6), {"": queries}
    else:
        built = timeseries.Panel().min(0).height(8).span(12).fill_opacity(8)
    built = built.description(description).datasource(SOURCE).unit(unit)
    for legend, expression in queries.items():
        built.with_target(prometheus.Dataquery().expr(expression).legend_format(legend))
    return built


def levels() -> str:
    """The ladder's levels by their rank."""
    ladder = ["none", *(entry["level"] for entry in read_document(LADDER)["levels"])]
    return ", ".join(f"{rank} {name}" for rank, name in enumerate(ladder))


# By their titles, from the left to the right, from the top to the bottom.
PANELS = {
    "Utilization": panel(
        "Spend, less what was written off, over limit and grants.", PercentUnit, names.UTILIZATION
    ),
    "Remaining today": panel(
        "What may still be spent in this budget day.", Dollars, "budget:llm_remaining_usd:today"
    ),
    "Degradation level": panel(f"{levels()}.", Short, f"max({names.DEGRADATION_LEVEL})"),
    "Evidence complete": panel(
        "1 when every exporter was scraped just now and writes its ledger. Nothing is "
        "lifted while it is 0.",
        Short,
        "budget:llm_evidence:complete",
    ),
    "Utilization and thresholds": panel(
        "The thresholds are the recorded constants that the alerts compare with.",
        PercentUnit,
        {"utilization": names.UTILIZATION, "{{threshold}}": names.THRESHOLD},
    ),
    "Forecast of the day's total": panel(
        "With the band that it is expected to keep to, and the day's limit.",
        Dollars,
        {
            "forecast": names.FORECAST,
            "low": names.FORECAST_LOW,
            "high": names.FORECAST_HIGH,
            "limit": "budget:llm_limit_usd:today",
        },
    ),
    "Spend rate": panel(
        "USD an hour, over windows of 5 minutes and 1 hour.",
        Dollars,
        {window: f"budget:llm_spend_usd:rate{window} * 3600" for window in ("5m", "1h")},
    ),
    "Spend today by model": panel(
        "What each model has cost today.", Dollars, {"{{model}}": "model:llm_spend_usd:today"}
    ),
    "Spend today by roaster": panel(
        "The ten dearest.", Dollars, {"{{roaster}}": "topk(10, roaster:llm_spend_usd:today)"}
    ),
    "Spend today by field": panel(
        "What each field has cost today.", Dollars, {"{{field}}": "field:llm_spend_usd:today"}
    ),
    "Requests by outcome": panel(
        "A second; cached and fallback cost nothing.",
        RequestsPerSecond,
        {"{{outcome}}": f"sum by (outcome) (rate({names.REQUESTS}[$__rate_interval]))"},
    ),
    "Degradation in force": panel(
        "Each level includes those below it; tunings are named.",
        Short,
        {"{{entry}}": f"max by (entry) ({names.DEGRADATION_ACTIVE})"},
    ),
    "What the level saves": panel(
        "Paid calls and cost a minute, of those before its rise; judged after ten minutes.",
        PercentUnit,
        {
            "{{entry}}: {{of}}": names.EFFECT,
            "{{entry}}, calls not judged: {{reason}}": f"0 * {names.EFFECT_UNJUDGED}",
        },
    ),
}


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
    for title, shown in PANELS.items():
        built = built.with_panel(shown.title(title))
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
