"""What the dashboards' YAML files say, and the panels that Grafana's foundation SDK makes of it."""

from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from msgspec import Struct

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
UNKNOWN_COLOUR = "#808080"
DASHED = {"custom.lineStyle": {"fill": "dash", "dash": [8, 6]}, "custom.fillOpacity": 0}
BAND = {"custom.fillBelowTo": "low", "custom.fillOpacity": 15}
# Scrolls to the alert's name, whatever anchors the page has.
RUNBOOK = {"title": "Runbook", "url": "${exporter}/runbook#:~:text=${__value.raw}"}

Face = tuple[str, str]  # what is said instead of a value, and its colour
P = TypeVar("P", bargauge.Panel, stat.Panel, statetimeline.Panel, table.Panel, timeseries.Panel)
Panel = bargauge.Panel | stat.Panel | statetimeline.Panel | table.Panel | timeseries.Panel


class Shown(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One panel. A graph's line "low" is the lower edge of the band whose upper is "high"."""

    kind: Literal["number", "graph", "bars", "timeline", "list"]
    text: str
    unit: str  # Grafana's id of it
    queries: dict[str, str]  # by legend; of a list by column
    width: int = 8  # of 24
    height: int = 7  # Grafana's rows
    faces: dict[str, Face] = {}  # by value
    missing: str = "unknown"  # what a number says without a value
    limits: str = ""  # the legends of dashed lines, as a regular expression
    stacked: bool = False
    signed: bool = False  # may fall below nothing
    since: str | None = None  # instead of the dashboard's time range


def panel(title: str, shown: Shown) -> Panel:
    """The panel's builder."""
    return _KINDS[shown.kind](shown).title(title)


def _number(shown: Shown) -> Panel:
    """Of this moment: a value that has ended is not shown as if it still held."""
    built = _of(stat.Panel(), shown, instant=True).graph_mode(options.BigValueGraphMode.NONE)
    mode = options.BigValueColorMode
    built = built.color_mode(mode.BACKGROUND_SOLID if shown.faces else mode.NONE)
    unmapped = dashboard.FieldColor().mode(FieldColorModeId.FIXED).fixed_color(UNKNOWN_COLOUR)
    return built.color_scheme(unmapped).reduce_options(_last()).no_value(shown.missing)


def _graph(shown: Shown) -> Panel:
    built = _of(timeseries.Panel().fill_opacity(40 if shown.stacked else 0), shown)
    if shown.stacked:
        built = built.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL))
    if shown.limits:
        built = built.override_by_regexp(f"/^({shown.limits})$/", _properties(DASHED))
    built = built.override_by_name("high", _properties(BAND))
    built = built if shown.signed else built.min(0)
    return built.time_from(shown.since) if shown.since else built


def _bars(shown: Shown) -> Panel:
    colours = dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC)
    built = _of(bargauge.Panel(), shown, instant=True).min(0).color_scheme(colours)
    return built.orientation(options.VizOrientation.HORIZONTAL).reduce_options(_last())


def _timeline(shown: Shown) -> Panel:
    return _of(statetimeline.Panel(), shown)


def _list(shown: Shown) -> Panel:
    """A row for each set of labels, a column for each query; a query alone has no letter."""
    first = common.TableSortByFieldState().display_name(next(iter(shown.queries))).desc(True)
    built = _of(table.Panel(), shown, instant=True).no_value(shown.missing).sort_by([first])
    columns = {f"Value #{chr(65 + place)}": name for place, name in enumerate(shown.queries)}
    columns["Value"] = next(iter(shown.queries))
    tidy = {"excludeByName": {"Time": True}, "renameByName": columns}
    for what, how in (("merge", {}), ("organize", tidy)):
        built = built.with_transformation(DataTransformerConfig(id_val=what, options=how))
    built = built.override_by_name("used", _properties({"unit": "percentunit"}))
    return built.override_by_name("alertname", _properties({"links": [RUNBOOK]}))


_KINDS: Mapping[str, Callable[[Shown], Panel]] = {
    "number": _number,
    "graph": _graph,
    "bars": _bars,
    "timeline": _timeline,
    "list": _list,
}


def _of(built: P, shown: Shown, instant: bool = False) -> P:
    """With what every panel has."""
    built = built.description(shown.text).datasource(SOURCE).unit(shown.unit)
    built = built.height(shown.height).span(shown.width)
    if instant and shown.unit == "currencyUSD":
        built = built.decimals(2)  # by itself it would be $27.9
    if shown.faces:
        built = built.mappings([_mapping(shown.faces)])
    for place, (legend, expression) in enumerate(shown.queries.items()):
        query = prometheus.Dataquery().expr(expression).ref_id(chr(65 + place))
        query = query.instant() if instant else query.range()
        kind = PromQueryFormat.TABLE if shown.kind == "list" else PromQueryFormat.TIME_SERIES
        built.with_target(query.format(kind).legend_format(legend))
    return built


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _properties(values: Mapping[str, object]) -> list[DynamicConfigValue]:
    return [DynamicConfigValue(name, value) for name, value in values.items()]


def _mapping(faces: Mapping[str, Face]) -> ValueMap:
    results = enumerate(faces.items())
    return ValueMap(
        {value: ValueMappingResult(*face, index=place) for place, (value, face) in results}
    )
