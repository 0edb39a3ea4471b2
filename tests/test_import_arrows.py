"""The arrows of docs/architecture.md: who may import whom, read from the source itself."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("exporter", "alertmanager", "dashboards", "tests")


def imported_modules(path: Path) -> set[str]:
    """Absolute names of everything a file imports, at any depth; relative imports resolved."""
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def of_ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.split(".")[0] in OURS}


def test_of_the_exporter_the_receiver_imports_core_only() -> None:
    files = sources("alertmanager/receiver")
    assert len(files) > 3, "the receiver's sources were not found"
    for path in files:
        foreign = {
            name
            for name in of_ours(imported_modules(path))
            if not name.startswith(("alertmanager.receiver", "exporter.core"))
        }
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_the_exporter_never_imports_the_receiver_or_tests() -> None:
    files = sources("exporter")
    assert len(files) > 10, "the exporter's sources were not found"
    for path in files:
        foreign = {n for n in of_ours(imported_modules(path)) if not n.startswith("exporter")}
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_core_imports_nothing_of_ours_but_core() -> None:
    for path in sources("exporter/core"):
        foreign = {n for n in of_ours(imported_modules(path)) if not n.startswith("exporter.core")}
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def test_the_vendored_client_imports_the_standard_library_only() -> None:
    modules = {name.split(".")[0] for name in imported_modules(ROOT / "exporter" / "client.py")}
    assert modules <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import exporter.ledger", {"exporter.ledger"}),
        ("def f():\n    from exporter import service", {"exporter.service"}),
        ("from ..receiver import ladder", {"alertmanager.receiver.ladder"}),
    ],
)
def test_the_reader_of_imports_sees_every_form(
    source: str, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "alertmanager" / "receiver" / "x.py"
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert imported_modules(path) == expected
