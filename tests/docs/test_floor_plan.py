"""The tests' floor plan: what a path under tests/ says about the test is true.

CONTRIBUTING.md describes the folders. A unit test is found by the name of the module it tests, and
a module of some size that has no such test is listed here with the test that proves it.
"""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TESTS = ROOT / "tests"
UNIT = TESTS / "unit"
PRODUCTION = ("alertmanager", "command", "common", "dashboards", "demo", "exporter", "sdk")
SMALL = 60  # lines; a module up to this size may be tested through its neighbours
# Beside the folders that plain pytest runs: those with a make target of their own.
LONG_ONLY = ("tests/long/faults", "tests/long/versions")
# Folders of Python that holds no tests.
HELPERS = ("tests/support", "tests/benchmarks")

# Unit tests that are not named after a module, each with the module that it tests.
OTHER_NAMES = {
    # docker-compose.yml, and what is prepared for it.
    "command/stack/test_compose.py": "command/stack/configs.py",
    # Bodies on their way, and the bounds that they share.
    "common/test_bodies.py": "common/http.py",
    # Usage objects in any spelling, which the exporter reads by the client's own table.
    "exporter/test_usage.py": "exporter/event.py",
    # What people add to or correct in the ledger, over HTTP and offline.
    "exporter/web/test_admin.py": "exporter/web/app.py",
    # What a Prometheus' answers mean; test_sources.py asks over HTTP.
    "alertmanager/receiver/evidence/test_answers.py": "alertmanager/receiver/evidence/sources.py",
    # What the receiver goes on with when files are lost or damaged.
    "alertmanager/receiver/test_recovery.py": "alertmanager/receiver/store.py",
    # The spool with many writers, kill -9 and full disks: a suite of its own.
    "sdk/test_client_spool.py": "sdk/client.py",
    # The exporter as the reader of a spool.
    "exporter/intake/logs/test_spool.py": "sdk/client_delivery.py",
    # Every way in which programs write the same moment.
    "exporter/intake/logs/test_times.py": "exporter/intake/logs/mapping.py",
    # Every way to a completion in the real library; every way to report a stream's usage.
    "sdk/test_client_openai_paths.py": "sdk/client_openai.py",
    "sdk/test_client_openai_streams.py": "sdk/client_openai.py",
}
# Modules without a unit test of their name, each with the test that proves them.
TESTED_BY = {
    "alertmanager/receiver/ladder/ladder.py": (
        "tests/unit/alertmanager/receiver/ladder/test_effective.py"
    ),
    "alertmanager/receiver/ladder/sides.py": "tests/properties/test_ladder_language.py",
    "command/flags.py": "tests/unit/command/test_adjust.py",
    "command/reprice.py": "tests/unit/exporter/ledger/test_repricing.py",
    "command/replay/prometheus.py": "tests/unit/command/test_backtest.py",
    "command/stack/bundle.py": "tests/loop/test_end_to_end.py",
    "common/names.py": "tests/docs/test_metrics.py",
    "common/signals.py": "tests/loop/test_signals.py",
    "demo/__main__.py": "tests/loop/test_end_to_end.py",
    "exporter/config.py": "tests/docs/test_configuration.py",
    "exporter/web/app.py": "tests/unit/exporter/test_access.py",
    "exporter/intake/counters.py": "tests/unit/exporter/intake/test_http.py",
    "exporter/intake/logs/file.py": "tests/unit/exporter/intake/logs/test_source.py",
    "exporter/intake/logs/stream.py": "tests/properties/test_logs.py",
    "exporter/ledger/adjustments.py": "tests/unit/exporter/web/test_admin.py",
    "exporter/ledger/books.py": "tests/properties/test_ledger.py",
    "exporter/ledger/progress.py": "tests/properties/test_logs.py",
    "exporter/ledger/unpriced.py": "tests/unit/exporter/ledger/test_repricing.py",
    "exporter/prices/tokenprice.py": "tests/unit/exporter/prices/test_genai.py",
}


def modules_of_tests() -> list[Path]:
    """Every test module, relative to the repository."""
    return sorted(path.relative_to(ROOT) for path in TESTS.rglob("test_*.py"))


def unit_tests() -> list[str]:
    """Every unit test module, relative to tests/unit."""
    return [str(path.relative_to(UNIT)) for path in sorted(UNIT.rglob("test_*.py"))]


def module_of(unit_test: str) -> str:
    """The module that a unit test's path names; of sdk/test_sdk.py the folder sdk itself."""
    path = Path(unit_test)
    name = path.name.removeprefix("test_")
    package = name == f"{path.parent.name}.py" and not (ROOT / path.with_name(name)).exists()
    return str(path.with_name("__init__.py" if package else name))


def folders() -> list[str]:
    """Where tests may lie."""
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    return [*options["testpaths"], *LONG_ONLY]


def lies_in(path: Path, some: list[str] | tuple[str, ...]) -> bool:
    return any(path.is_relative_to(folder) for folder in some)


def large_modules() -> Iterator[str]:
    """Production modules of more than SMALL lines, relative to the repository."""
    for folder in PRODUCTION:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if len(path.read_text().splitlines()) > SMALL:
                yield str(path.relative_to(ROOT))


def fail_on(problems: list[str], advice: str) -> None:
    """Fail with one problem a line and what to do about them."""
    if problems:
        pytest.fail("\n  ".join([f"{advice}:", *problems]), pytrace=False)


def test_every_test_lies_in_a_folder_that_is_run() -> None:
    stray = [str(path) for path in modules_of_tests() if not lies_in(path, folders())]
    fail_on(stray, f"move these into one of {', '.join(folders())}")
    empty = [one for one in folders() if not any(lies_in(p, [one]) for p in modules_of_tests())]
    fail_on(empty, "these folders hold no tests; correct testpaths in pyproject.toml")


def test_what_is_no_test_lies_with_the_helpers() -> None:
    python = [path.relative_to(ROOT) for path in sorted(TESTS.rglob("*.py"))]
    others = {path for path in python if path.name != "conftest.py"} - set(modules_of_tests())
    fail_on([str(p) for p in sorted(others) if not lies_in(p, HELPERS)], "move to tests/support")
    misplaced = [str(path) for path in modules_of_tests() if lies_in(path, HELPERS)]
    fail_on(misplaced, "these look like tests but are never run; rename them")


def test_a_unit_test_is_named_after_a_module() -> None:
    wrong = [
        f"tests/unit/{test}: there is no {module_of(test)}"
        for test in unit_tests()
        if test not in OTHER_NAMES and not (ROOT / module_of(test)).exists()
    ]
    fail_on(wrong, "rename or split these, or list them in OTHER_NAMES")


def test_a_large_module_has_a_test_of_its_name_or_a_listed_one() -> None:
    named = {module_of(test) for test in unit_tests()}
    missing = [name for name in large_modules() if name not in named and name not in TESTED_BY]
    fail_on(missing, "give these a unit test of their name, or list them in TESTED_BY")


def test_the_lists_of_exceptions_are_true() -> None:
    large, named = set(large_modules()), {module_of(test) for test in unit_tests()}
    wrong = [
        *(f"OTHER_NAMES: {test} is gone" for test in OTHER_NAMES if not (UNIT / test).exists()),
        *(
            f"OTHER_NAMES: {one} is gone"
            for one in OTHER_NAMES.values()
            if not (ROOT / one).exists()
        ),
        *(f"TESTED_BY: {one} is gone or small" for one in TESTED_BY if one not in large),
        *(f"TESTED_BY: {one} has a test of its name" for one in TESTED_BY if one in named),
        *(
            f"TESTED_BY: {test} is gone"
            for test in TESTED_BY.values()
            if not (ROOT / test).exists()
        ),
    ]
    fail_on(wrong, "correct these entries")


def test_no_test_module_imports_another() -> None:
    """What two of them need is a helper, in tests/support."""
    wrong = [
        f"{path} imports {name}"
        for path in modules_of_tests()
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.ImportFrom) and (name := node.module or "").startswith("tests.")
        if not lies_in(Path(name.replace(".", "/")), HELPERS)
    ]
    fail_on(wrong, "move what they share to tests/support")
