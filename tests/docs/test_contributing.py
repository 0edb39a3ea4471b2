"""CONTRIBUTING.md: its paths, commands and folders of tests are there, its names in the files."""

import importlib.util
import re
import tomllib

from tests.support.paths import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
# Folder to what runs it.
FOLDERS = {
    folder: cell
    for folders, cell in re.findall(r"^\| (`tests/.*?) \| .* \| (.*)\|$", PAGE, re.MULTILINE)
    for folder in re.findall(r"`(tests/[\w/]+)`", folders)
}


def test_it_fits_on_one_screen() -> None:
    assert len(PAGE.splitlines()) <= 60


def test_its_paths_exist() -> None:
    code = re.findall(r"`([^`]+)`", PAGE) + re.findall(r"^    (.+)$", PAGE, re.MULTILINE)
    words = {word for text in code for word in text.partition(" #")[0].split()}
    paths = {word for word in words if re.search(r"/|\.(?:py|yml|md)$", word)}
    paths = {path for path in paths if "*" not in path and not path.startswith(".venv/")}
    assert len(paths) > 25, "the paths were not found"
    missing = sorted(path for path in paths if not (ROOT / path).exists())
    assert not missing, "CONTRIBUTING.md names what is gone"


def test_its_globs_match_something() -> None:
    for folder, pattern in re.findall(r"`(tests/\w+)/(\*[\w.]+)`", PAGE):
        assert list((ROOT / folder).glob(pattern)), pattern


def test_its_modules_can_be_run() -> None:
    modules = re.findall(r"python -m ([\w.]+)", PAGE)
    assert "dashboards.build" in modules
    assert all(importlib.util.find_spec(module) for module in modules)


def test_every_folder_of_tests_is_described() -> None:
    long = {f"tests/long/{path.name}" for path in (ROOT / "tests" / "long").iterdir()}
    others = {f"tests/{path.name}" for path in (ROOT / "tests").iterdir() if path.is_dir()}
    there = {path for path in long | others if "__" not in path} - {"tests/long"}
    assert FOLDERS.keys() == there


def test_what_runs_a_folder_is_true() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    by_default = {folder for folder, cell in FOLDERS.items() if "`make test`" in cell}
    assert by_default == set(options["testpaths"])
    for folder, cell in FOLDERS.items():
        for target in re.findall(r"`make (test-\w+)`", cell):  # each runs one folder
            recipe = MAKEFILE.split(f"\n{target}:")[1].split("\n\n")[0]
            assert f"pytest {folder}\n" in f"{recipe}\n"


def test_the_names_in_its_steps_exist() -> None:
    """Functions and constants that a step names are in a file that the same step names."""
    for step in PAGE.split("\n\n"):
        if step.startswith("**"):
            spans = re.findall(r"`([^`]+)`", step)
            sources = [ROOT / span for span in spans if span.endswith(".py")]
            sources += [p for s in spans if s.endswith("/") for p in (ROOT / s).glob("*.py")]
            text = "\n".join(path.read_text() for path in sources if path.exists())
            for name in (span for span in spans if re.fullmatch(r"[A-Z_]{3,}|\w+_\w+|run", span)):
                assert name in text, f"{name}: {step.splitlines()[0]}"
