"""docs/scaling.md has a row for every engine that is measured, and the flags that are measured."""

import pytest

from tests.support.engines import PromptVictoria
from tests.support.timings import PAGE, PROMETHEUS, VMALERT, Engine


@pytest.mark.parametrize("engine", [*PROMETHEUS, *VMALERT], ids=lambda one: one.name)
def test_each_engine_has_its_row(engine: Engine) -> None:
    start = f"| {engine.name} | {engine.interval} | {engine.delay} | {engine.hold} | "
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith(start)]
    assert len(rows) == 1, f"no row in {PAGE.name} begins {start}"
    measured = rows[0].removeprefix(start).strip(" |").split(" | ")
    assert len(measured) == 3
    assert all(cell.isdigit() for cell in measured)


def test_the_page_names_the_flags_that_are_tried() -> None:
    text = PAGE.read_text()
    for flag in (*PromptVictoria.store_flags, *PromptVictoria.ruler_flags):
        assert flag in text
