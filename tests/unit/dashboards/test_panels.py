"""Panels: what each kind makes of its queries."""

import json
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from common.errors import UserError
from common.yamlfile import decode
from dashboards.panels import Shown, panel
from tests.support.paths import ROOT


def shown(kind: str, queries: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """A panel's JSON."""
    plain = {"kind": kind, "text": "A text.", "unit": "short", "queries": queries or {"": "x"}}
    described = decode({**plain, **more}, Shown, ROOT / "panels.yml")
    made: dict[str, Any] = json.loads(JSONEncoder().encode(panel("Title", described).build()))
    return made


def override(made: dict[str, Any], matched: str) -> dict[str, Any]:
    """What is different for a legend or column."""
    (found,) = (o for o in made["fieldConfig"]["overrides"] if o["matcher"]["options"] == matched)
    return {one["id"]: one["value"] for one in found["properties"]}


def test_a_number_is_of_this_moment_and_says_when_it_is_unknown() -> None:
    """A range's last value would be shown for hours after it has ended."""
    made = shown("number")
    assert [target["instant"] for target in made["targets"]] == [True]
    assert made["fieldConfig"]["defaults"]["noValue"] == "unknown"
    assert shown("number", missing="no budget")["fieldConfig"]["defaults"]["noValue"] == "no budget"


@pytest.mark.parametrize("kind", ["number", "bars", "list"])
def test_money_has_cents(kind: str) -> None:
    assert shown(kind, unit="currencyUSD")["fieldConfig"]["defaults"]["decimals"] == 2
    assert "decimals" not in shown(kind)["fieldConfig"]["defaults"]
    assert "decimals" not in shown("graph", unit="currencyUSD")["fieldConfig"]["defaults"]


def test_a_face_stands_for_its_value_and_what_has_none_is_grey() -> None:
    made = shown("number", faces={"0": ["no", "orange"]})
    (mapping,) = made["fieldConfig"]["defaults"]["mappings"]
    assert mapping["options"]["0"] == {"text": "no", "color": "orange", "index": 0}
    assert made["fieldConfig"]["defaults"]["color"] == {"mode": "fixed", "fixedColor": "#808080"}
    assert made["options"]["colorMode"] == "background_solid"
    assert shown("number")["options"]["colorMode"] == "none"


def test_a_graph_draws_limits_dashed_and_the_band_from_low_to_high() -> None:
    made = shown("graph", {"low": "a", "high": "b", "limit": "c"}, limits="limit")
    assert override(made, "/^(limit)$/")["custom.lineStyle"]["fill"] == "dash"
    assert override(made, "high")["custom.fillBelowTo"] == "low"
    assert made["fieldConfig"]["defaults"]["min"] == 0
    assert "min" not in shown("graph", signed=True)["fieldConfig"]["defaults"]
    assert [target["refId"] for target in made["targets"]] == ["A", "B", "C"]
    assert not any(target["instant"] for target in made["targets"])


def test_a_graph_may_be_stacked_and_look_back_further_than_the_dashboard() -> None:
    made = shown("graph", stacked=True, since="7d")
    assert made["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    assert made["timeFrom"] == "7d"


def test_a_list_has_a_column_for_each_query_by_its_name() -> None:
    made = shown("list", {"spent": "a", "used": "b"})
    assert {target["format"] for target in made["targets"]} == {"table"}
    merge, organize = made["transformations"]
    assert merge["id"] == "merge"
    renamed = organize["options"]["renameByName"]
    assert renamed == {"Value #A": "spent", "Value #B": "used", "Value": "spent"}
    assert organize["options"]["excludeByName"] == {"Time": True}
    assert made["options"]["sortBy"] == [{"displayName": "spent", "desc": True}]
    assert override(made, "used") == {"unit": "percentunit"}


def test_an_alerts_name_leads_to_its_place_in_the_runbook() -> None:
    (link,) = override(shown("list"), "alertname")["links"]
    assert link["url"] == "${exporter}/runbook#:~:text=${__value.raw}"


def test_a_key_that_no_panel_has_is_refused() -> None:
    with pytest.raises(UserError, match="stackd"):
        shown("graph", stackd=True)
