"""docs/metrics.md names every metric and recording rule, with its type and labels, and no other."""

import re
import tempfile
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from alertmanager.receiver.announcer import NotificationResult
from alertmanager.receiver.evidence.observations import HoldReason
from alertmanager.receiver.hooks import HookStep
from alertmanager.receiver.state import OverrideMode
from common import names
from tests.support.golden_metrics import GOLDEN, ROOT
from tests.support.receivers import Receiver
from tests.support.rule_files import recorded

DOC = (ROOT / "docs" / "metrics.md").read_text()
RFM = ", ".join(names.RFM)


def rows(text: str) -> dict[str, list[str]]:
    """The other cells of every table row, by the name in its first cell."""
    found: dict[str, list[str]] = {}
    for line in re.findall(r"^\| `.*\|$", text, re.MULTILINE):
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        assert name not in found, f"{name} stands twice"
        found[name.strip("`")] = cells
    return found


METRICS = rows(DOC.split("## Recording rules")[0])
RECORDS = rows(DOC.split("## Recording rules")[1])


def receiver_page() -> str:
    with tempfile.TemporaryDirectory() as folder:
        receiver = Receiver(Path(folder))
        try:
            return receiver.http.get("/metrics").text
        finally:
            receiver.close()


@cache
def published() -> dict[str, tuple[str, set[str]]]:
    """Type and labels of every metric of the golden page and of the receiver."""
    found: dict[str, tuple[str, set[str]]] = {}
    for page in (GOLDEN.read_text(), receiver_page()):
        for family in text_string_to_metric_families(page):
            total = "_total" if family.type == "counter" else ""
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            found[family.name.removesuffix("_total") + total] = (family.type, labels)
    return found


def named() -> set[str]:
    """Every metric name of names.py, where each stands once."""
    constants = {value for value in vars(names).values() if isinstance(value, str)}
    return {value for value in constants if value.startswith("llm_")} - recorded()


def test_every_metric_is_documented_and_nothing_else() -> None:
    assert METRICS.keys() == named()
    assert published().keys() <= named(), "a metric's name stands outside of names.py"


@pytest.mark.parametrize("name", sorted(published()))
def test_type_and_labels_are_as_documented(name: str) -> None:
    kind, labels = published()[name]
    said = METRICS[name][1].replace("rfm", RFM)
    assert METRICS[name][0] == kind
    if labels:  # a family whose series are still to come shows none
        assert {label.strip() for label in said.split(",")} == labels


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (names.DEGRADATION_APPLY_FAILED, ("write", *get_args(HookStep))),
        (names.DEGRADATION_OVERRIDE, get_args(OverrideMode)),
        (names.DEGRADATION_NOTIFICATIONS, get_args(NotificationResult)),
    ],
)
def test_the_values_of_the_receivers_labels_are_documented(
    name: str, values: tuple[str, ...]
) -> None:
    assert len(values) >= 2
    assert not [value for value in values if not re.search(rf"\b{value}\b", METRICS[name][3])]


def test_every_reason_not_to_lower_is_explained_and_no_other() -> None:
    table = (ROOT / "docs" / "degradation.md").read_text().split("| reason | meaning |")[1]
    rows = re.findall(r"^\| (\w+) \| .+ \|$", table.split("\n\n")[0], re.MULTILINE)
    assert rows == list(get_args(HoldReason))


def test_every_row_says_everything() -> None:
    for name, cells in METRICS.items():
        assert len(cells) == 5, name
        assert all(cells[:1] + cells[2:]), f"{name} has an empty cell"


def test_every_recording_rule_is_documented_and_nothing_else() -> None:
    assert RECORDS.keys() == recorded()
    assert all(len(cells) == 2 and cells[1] for cells in RECORDS.values())
