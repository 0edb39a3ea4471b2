"""The floors of docs/architecture.md: imports run downward, read from the source itself."""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# Which folder may import which; a folder that is not named here may import nothing of ours.
HOUSE = {
    "common": set[str](),
    "sdk": set[str](),
    "dashboards": {"common"},
    "exporter": {"common"},
    "alertmanager": {"common"},
    "command": {"common", "exporter"},
    "demo": {"common", "sdk", "command", "alertmanager"},
}
# Inside a folder: its floors, the lowest first. A room imports from floors below its own only.
FLOORS = {
    "exporter": (
        ("exporter.__init__", "exporter.event", "exporter.budget"),
        ("exporter.prices",),
        ("exporter.config",),
        ("exporter.ledger", "exporter.access"),
        ("exporter.intake",),
        ("exporter.intake.logs", "exporter.metrics"),
        ("exporter.reload",),
        ("exporter.composition",),
        ("exporter.web",),
        ("exporter.service",),
        ("exporter.__main__",),
    ),
    "alertmanager": (
        ("alertmanager.__init__", "alertmanager.receiver.__init__"),
        ("alertmanager.receiver.ladder", "alertmanager.receiver.audit"),
        ("alertmanager.receiver.state", "alertmanager.receiver.hooks"),
        ("alertmanager.receiver.alerts", "alertmanager.receiver.configs"),
        ("alertmanager.receiver.evidence",),
        ("alertmanager.receiver.recovery", "alertmanager.receiver.overrides"),
        ("alertmanager.receiver.decide", "alertmanager.receiver.store"),
        ("alertmanager.receiver.announcer",),
        ("alertmanager.receiver.controller",),
        ("alertmanager.receiver.report", "alertmanager.receiver.metrics"),
        ("alertmanager.receiver.app",),
        ("alertmanager.receiver.service",),
        ("alertmanager.receiver.__main__",),
    ),
    "command": (
        ("command.paths",),
        ("command.stack",),
        ("command.replay",),
        ("command",),
    ),
}


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name; a package's own file ends in __init__."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for folder in HOUSE
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def imported(name: str, source: str) -> set[str]:
    """Modules that a module's source imports, however it is written."""
    package = name.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def arrows() -> Iterator[tuple[str, str]]:
    """(importing module, imported module), both of ours."""
    known = modules()
    for name, path in known.items():
        for target in imported(name, path.read_text()):
            candidates = (target, f"{target}.__init__", target.rpartition(".")[0])
            found = next((one for one in candidates if one in known), None)
            package = f"{target.rpartition('.')[0]}.__init__"
            if found is None and package in known:
                found = package
            if found is not None and found != name:
                yield name, found


def room(name: str) -> tuple[int, str]:
    """The floor and the room of a module of a folder that has floors."""
    floors = FLOORS[name.split(".")[0]]
    found = [
        (number, one)
        for number, floor in enumerate(floors)
        for one in floor
        if name == one or name.startswith(f"{one}.")
    ]
    assert found, f"{name} is on no floor: give it a place in FLOORS and docs/architecture.md"
    return max(found, key=lambda place: len(place[1]))


def test_a_folder_imports_only_what_it_may() -> None:
    wrong = {
        f"{name} imports {target}"
        for name, target in arrows()
        if (here := name.split(".")[0]) != (there := target.split(".")[0])
        and there not in HOUSE[here]
    }
    assert not wrong


@pytest.mark.parametrize("folder", FLOORS)
def test_inside_a_folder_imports_run_downward(folder: str) -> None:
    wrong = set()
    for name, target in arrows():
        if name.split(".")[0] == target.split(".")[0] == folder:
            (mine, my_room), (its, its_room) = room(name), room(target)
            if my_room != its_room and its >= mine:
                wrong.add(f"{name} imports {target}")
    assert not wrong


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = TopologicalSorter[str]()
    for name, target in arrows():
        graph.add(name, target)
    graph.prepare()  # raises CycleError, which names the circle


def test_every_floor_is_lived_on() -> None:
    names = list(modules())
    rooms = [one for floors in FLOORS.values() for floor in floors for one in floor]
    empty = [one for one in rooms if not any(n == one or n.startswith(f"{one}.") for n in names)]
    assert not empty
    assert len(list(arrows())) > 300, "the imports were not found"


def test_what_a_scraper_copies_imports_the_standard_library_only() -> None:
    for path in (ROOT / "sdk").glob("*.py"):
        names = {name.split(".")[0] for name in imported(f"sdk.{path.stem}", path.read_text())}
        assert names <= sys.stdlib_module_names, path


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import exporter.ledger", {"exporter.ledger"}),
        ("def f():\n    from exporter import service", {"exporter.service"}),
        ("from ..receiver import ladder", {"alertmanager.receiver.ladder"}),
    ],
)
def test_the_reader_of_imports_sees_every_form(source: str, expected: set[str]) -> None:
    assert imported("alertmanager.receiver.x", source) == expected
