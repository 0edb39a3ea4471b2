"""The geometry of the day's curve."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from common.budget_status import BudgetStatus
from common.money import PICODOLLARS_PER_USD
from exporter.ledger.course import NO_SLOT, Course
from exporter.web.chart import chart
from exporter.web.status import budget_status
from tests.support.exporters import Exporter

RATIOS = {"half": 0.5, "warning": 0.75}


@pytest.fixture
def status(tmp_path: Path) -> BudgetStatus:
    """Noon of a day with $100, of which $50 are spent."""
    with Exporter(tmp_path) as exporter:
        return replace(budget_status(exporter.parts), spend_usd=Decimal(50))


def points(text: str) -> list[tuple[float, float]]:
    pairs = (point.split(",") for point in text.split())
    return [(float(x), float(y)) for x, y in pairs]


def drawn(status: BudgetStatus, course: Course, **more: Any) -> dict[str, Any]:
    forecast, out = more.get("forecast", {}), more.get("out", {})
    return chart(status, course, forecast, out, RATIOS)


def test_the_curve_only_rises_and_ends_here(status: BudgetStatus) -> None:
    slots = Course(dict.fromkeys(range(144), 50 * PICODOLLARS_PER_USD // 144))
    curve = points(drawn(status, slots)["curve"])
    assert len(curve) == 145
    assert curve == sorted(curve, key=lambda point: (point[0], -point[1]))
    assert (curve[0], curve[-1][0]) == ((0, 1000), 500)


def test_cost_without_a_slot_is_in_the_end_of_the_curve(status: BudgetStatus) -> None:
    known = drawn(status, Course({0: 50 * PICODOLLARS_PER_USD}))
    unknown = drawn(status, Course({NO_SLOT: 50 * PICODOLLARS_PER_USD}))
    assert known["now"] == unknown["now"]


def test_lines_lie_at_their_amounts_and_higher_by_what_was_written_off(
    status: BudgetStatus,
) -> None:
    plain = drawn(status, Course())
    assert plain["thresholds"]["half"][0] == pytest.approx(plain["now"][1])
    off = drawn(replace(status, written_off_usd=Decimal(10)), Course())
    top = 1.12 * 110
    assert off["limit"] == pytest.approx(1000 * (1 - 110 / top), abs=0.1)
    assert off["thresholds"]["half"][0] == pytest.approx(1000 * (1 - 60 / top), abs=0.1)


def test_the_labels_of_lines_are_not_piled_up(status: BudgetStatus) -> None:
    for cost, expected in (("50", ["75 %", "50 %"]), ("700", ["", "50 %"]), ("9000", ["", ""])):
        made = drawn(replace(status, spend_usd=Decimal(cost)), Course())
        assert [label for _, label in made["thresholds"].values()] == expected


def test_the_forecast_crosses_the_limit_when_the_rules_say(status: BudgetStatus) -> None:
    out = {"expected": status.day.start + 18 * 3600, "earliest": status.day.start + 15 * 3600}
    made = drawn(status, Course(), forecast={"low": 90, "today": 110, "high": 130}, out=out)
    assert points(made["forecast"])[1] == (750, made["limit"])
    assert (625, made["limit"]) in points(made["band"])
    assert made["out"] == 750


def test_a_wild_forecast_does_not_flatten_the_day(status: BudgetStatus) -> None:
    made = drawn(status, Course(), forecast={"low": 1, "today": 100, "high": 1e11})
    assert made["limit"] > 300
    over = drawn(replace(status, spend_usd=Decimal(160)), Course(), forecast={"high": 200})
    assert over["limit"] == pytest.approx(1000 * (1 - 100 / 224), abs=0.1)
    assert drawn(status, Course())["forecast"] == drawn(status, Course())["band"] == ""


@pytest.mark.parametrize("limit", ["0", "-5"])
def test_without_any_limit_there_is_a_picture(status: BudgetStatus, limit: str) -> None:
    nothing = replace(status, limit_usd=Decimal(limit), spend_usd=Decimal(0))
    assert drawn(nothing, Course(), forecast={"high": 3})["now"] == (500, 1000)
