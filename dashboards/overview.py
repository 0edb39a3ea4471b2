"""The overview: how much of today's budget is gone, where it went, and what is being done."""

from pathlib import Path

from grafana_foundation_sdk.builders import common as common_builder
from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

from common import names
from common.yamlfile import read_document

LADDER = Path(__file__).resolve().parents[1] / "alertmanager" / "degradation.yml"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT = 8


def query(expression: str, legend: str = "") -> prometheus.Dataquery:
    """One query of a panel."""
    return prometheus.Dataquery().expr(expression).legend_format(legend)


def number(title: str, description: str, expression: str, unit: str) -> stat.Panel:
    """One number of now."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .height(4)
        .span(6)
        .graph_mode(common.BigValueGraphMode.NONE)
        .reduce_options(common_builder.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(query(expression))
    )


def graph(
    title: str, description: str, unit: str, *targets: prometheus.Dataquery
) -> timeseries.Panel:
    """Lines over time."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .height(HEIGHT)
        .span(12)
        .fill_opacity(8)
    )
    for target in targets:
        panel = panel.with_target(target)
    return panel


def levels() -> str:
    """The ladder's levels by rank, as degradation.yml orders them."""
    found = ["none", *(entry["level"] for entry in read_document(LADDER)["levels"])]
    return ", ".join(f"{rank} {name}" for rank, name in enumerate(found))


def panels() -> list[stat.Panel | timeseries.Panel]:
    """From the left to the right, from the top to the bottom."""
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
        number("Degradation level", f"{levels()}.", f"max({names.DEGRADATION_LEVEL})", units.Short),
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
            query(names.UTILIZATION, "utilization"),
            query(names.THRESHOLD, "{{threshold}}"),
        ),
        graph(
            "Forecast of the day's total",
            "With the band that it is expected to keep to, and the day's limit.",
            units.Dollars,
            query(names.FORECAST, "forecast"),
            query(names.FORECAST_LOW, "low"),
            query(names.FORECAST_HIGH, "high"),
            query("budget:llm_limit_usd:today", "limit"),
        ),
        graph(
            "Spend rate",
            "USD an hour, over windows of 5 minutes and 1 hour.",
            units.Dollars,
            query("budget:llm_spend_usd:rate5m * 3600", "5m"),
            query("budget:llm_spend_usd:rate1h * 3600", "1h"),
        ),
        graph(
            "Spend today by model",
            "What each model has cost today.",
            units.Dollars,
            query("model:llm_spend_usd:today", "{{model}}"),
        ),
        graph(
            "Spend today by roaster",
            "The ten dearest.",
            units.Dollars,
            query("topk(10, roaster:llm_spend_usd:today)", "{{roaster}}"),
        ),
        graph(
            "Spend today by field",
            "What each field has cost today.",
            units.Dollars,
            query("field:llm_spend_usd:today", "{{field}}"),
        ),
        graph(
            "Requests by outcome",
            "A second; cached and fallback cost nothing.",
            units.RequestsPerSecond,
            query(f"sum by (outcome) (rate({names.REQUESTS}[$__rate_interval]))", "{{outcome}}"),
        ),
        graph(
            "Degradation in force",
            "Each level includes those below it; tunings are named.",
            units.Short,
            query(f"max by (entry) ({names.DEGRADATION_ACTIVE})", "{{entry}}"),
        ),
    ]


def overview() -> dashboard.Dashboard:
    """The dashboard that Grafana opens with."""
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
