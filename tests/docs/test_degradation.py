"""docs/degradation.md describes the levels and tunings of the shipped ladder."""

import re

from tests.support.ladders import shipped_ladder
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "degradation.md").read_text()


def first_cells(head: str) -> list[str]:
    """The first cell of each row, in order, of the table whose head begins with this word."""
    (table,) = re.findall(rf"^\| {head} \|.*\n\|.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [line.split("|")[1].strip().strip("`") for line in table.splitlines()]


def test_the_levels_are_those_of_the_shipped_ladder_in_order() -> None:
    assert first_cells("level") == shipped_ladder().names[1:]


def test_the_tunings_are_those_of_the_shipped_ladder_in_order() -> None:
    written = [
        f"{tuning.tuning}/{tuning.scope.upper()}" if tuning.scope else tuning.tuning
        for tuning in shipped_ladder().tunings
    ]
    assert first_cells("tuning") == written
