"""The floors of docs/architecture.md: imports run downward, and the picture shows what is there."""

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from itertools import takewhile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()

# Which folder may import which; a folder that is not named here may import nothing of ours.
HOUSE = {
    "common": set[str](),
    "sdk": set[str](),
    "dashboards": {"common"},
    "exporter": {"common", "sdk"},
    "alertmanager": {"common"},
    "command": {"common", "exporter", "alertmanager", "sdk"},
    "demo": {"common", "sdk", "command", "alertmanager"},
}
# Inside a folder: its floors, the lowest first. A room imports from floors below its own only.
FLOORS = {
    "exporter": (
        ("exporter.__init__", "exporter.budget"),
        ("exporter.event",),
        ("exporter.prices",),
        ("exporter.config",),
        ("exporter.ledger", "exporter.access"),
        ("exporter.intake",),
        ("exporter.intake.logs", "exporter.metrics"),
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
        ("alertmanager.receiver.ledgers",),
        ("alertmanager.receiver.overrides",),
        ("alertmanager.receiver.decide", "alertmanager.receiver.store"),
        ("alertmanager.receiver.announcer",),
        ("alertmanager.receiver.controller",),
        ("alertmanager.receiver.report",),
        ("alertmanager.receiver.app",),
        ("alertmanager.receiver.service",),
        ("alertmanager.receiver.__main__",),
    ),
    "sdk": (
        ("sdk.__init__", "sdk.client"),
        ("sdk.client_openai", "sdk.client_delivery"),
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
        names = imported(f"sdk.{path.stem}", path.read_text())
        if path.stem in ("client_openai", "client_delivery"):
            assert {"sdk.client", "client"} <= names  # in a package, and flat
            names -= {"sdk.client", "client"}
        assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names, path


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


PICTURE = PAGE.split("```")[1].splitlines()
# How the head of a folder is drawn, and what its rooms' names begin with.
BOXES = {
    "exporter": ("┌─ exporter/", "exporter."),
    "alertmanager": ("┌─ alertmanager/receiver/", "alertmanager.receiver."),
}


def in_box(head: str) -> list[str]:
    """The first word of each line in a box of the picture, from the top."""
    top = next(number for number, line in enumerate(PICTURE) if head in line)
    left = PICTURE[top].index(head)
    words = []
    for line in PICTURE[top + 1 :]:
        if line[left] != "│":
            break
        words.append(line[left + 1 :].split()[0].rstrip("/"))
    return words


def drawn(folder: str) -> list[str]:
    """The rooms of a folder in the picture, from the top."""
    if folder in BOXES:
        head, prefix = BOXES[folder]
        return [prefix + word.replace("/", ".") for word in in_box(head)]
    head = next(number for number, line in enumerate(PICTURE) if line.startswith(f" {folder}/"))
    rows = [re.match(r"   (\w+)/? {2}", line) for line in PICTURE[head + 1 :]]
    below = [f"{folder}.{row[1]}" for row in takewhile(bool, rows) if row]
    return [folder, *below] if folder in room_names(folder) else below


def room_names(folder: str) -> set[str]:
    """The rooms of a folder, without the packages' own files."""
    return {one for floor in FLOORS[folder] for one in floor if not one.endswith("__init__")}


@pytest.mark.parametrize("folder", FLOORS)
def test_the_picture_shows_every_room_on_its_floor(folder: str) -> None:
    message = "FLOORS and the picture of docs/architecture.md differ"
    assert set(drawn(folder)) == room_names(folder), message
    heights = [room(f"{one}.x" if "." not in one else one)[0] for one in drawn(folder)]
    assert heights == sorted(heights, reverse=True), "a room is drawn on the wrong floor"


def test_every_path_on_the_page_exists() -> None:
    paths = re.findall(r"`([\w-][\w.-]*/[\w./-]*|[\w-]+\.(?:py|yml|md))`", PAGE)
    assert len(paths) > 30, "the paths were not found"
    missing = sorted({path for path in paths if not (ROOT / path).exists()})
    assert not missing, "docs/architecture.md names files that are gone"


def test_the_picture_shows_every_folder() -> None:
    assert not [folder for folder in HOUSE if f"{folder}/" not in "\n".join(PICTURE)]
