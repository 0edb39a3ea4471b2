"""What the pages point at is there: links, make targets, llm-budget commands."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from command.commands import parser
from tests.support.paths import ROOT

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    """Every Markdown page that is part of the project, which need not be a git checkout."""
    built = {"data", "build"}
    folders = [d for d in ROOT.iterdir() if d.is_dir() and d.name not in built and d.name[0] != "."]
    return [*ROOT.glob("*.md"), *(page for folder in folders for page in folder.rglob("*.md"))]


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> set[str]:
    (subparsers,) = (
        action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    return set(subparsers.choices)


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Relative links as (file, anchor)."""
    for target in _LINK.findall(_FENCE.sub("", page.read_text())):
        if "://" not in target:
            file, _, anchor = target.partition("#")
            yield (page.parent / file).resolve() if file else page, anchor


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_points_at_is_there(page: Path) -> None:
    for file, anchor in links(page):
        assert file.exists(), f"{page.name} links {file}"
        assert not anchor or anchor in anchors(file), f"{page.name} links {file.name}#{anchor}"
    text = page.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z][a-z-]+)", text, re.MULTILINE)) <= targets
    named = re.findall(r"(?:`|^    |bin/)llm-budget ([a-z]+)", text, re.MULTILINE)
    assert set(named) <= commands(), page.name


def test_the_readme_counts_the_packages_that_it_fetches() -> None:
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if "packages, " in line]
    files = [ROOT / name for name in ("requirements.txt", "requirements-dev.txt")]
    for row, file in zip(rows, files, strict=True):
        assert int(
            re.findall(r"(\d+) (?:more )?Python packages", row)[0]
        ) == file.read_text().count("==")


def test_every_command_is_documented() -> None:
    text = "\n".join(page.read_text() for page in pages() if page.name != "CHANGELOG.md")
    named = set(re.findall(r"llm-budget ([a-z]+)", text))
    assert commands() <= named, "describe the command on the page of its subject in docs/"
