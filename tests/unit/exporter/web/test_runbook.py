"""/runbook: every alert's link opens at its section, and the page runs and loads nothing."""

import re
from pathlib import Path

import pytest

from common.http import HttpError
from exporter.web.runbook import POLICY, html, page
from tests.support.paths import ROOT
from tests.support.rule_files import alerts


def test_every_alerts_anchor_is_there() -> None:
    anchors = set(re.findall(r'<h\d id="([^"]+)">', page().body.decode()))
    rules = {rule["annotations"]["runbook_url"].partition("#")[2] for rule in alerts().values()}
    assert rules <= anchors


@pytest.mark.parametrize(
    ("markdown", "written"),
    [
        ("# A day's `cap`, and: more", '<h1 id="a-days-cap-and-more">'),
        ("# Twice\n# Twice\n# Twice", '<h1 id="twice-2">'),
        ("# Größe & Maß_1", '<h1 id="größe--maß_1">'),
        ("# [A link](#x)", '<h1 id="a-link">'),
        ("[here](#there)", '<a href="#there">'),
        ("[out](https://example.com)", '<a href="https://example.com">'),
        ("[other file](adopt.md#x)", "<a>other file</a>"),
        ("[x](javascript:alert(1))", "[x](javascript:alert(1))"),
        ("[x](data:text/html;base64,xx)", "[x](data:"),
        ("<script>alert(1)</script>", "&lt;script&gt;"),
        ("    curl | sh <b>", "curl | sh &lt;b&gt;"),
        ("| a |\n| --- |\n| b |", "<td>b</td>"),
    ],
)
def test_markdown_becomes_plain_html(markdown: str, written: str) -> None:
    assert written in html(markdown)


def test_the_page_may_run_and_load_nothing() -> None:
    answer = page()
    assert "default-src 'none'" in POLICY
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<(script|img|link|iframe)\b|\son\w+=", answer.body.decode())


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_missing_or_damaged_file_is_a_404_that_names_it(
    content: bytes | None, tmp_path: Path
) -> None:
    file = tmp_path / "runbook.md"
    if content:
        file.write_bytes(content)
    with pytest.raises(HttpError, match=r"no runbook: .*/runbook\.md cannot be read"):
        page(file)


def test_the_image_carries_the_file() -> None:
    assert "COPY docs/runbook.md docs/runbook.md" in (ROOT / "Dockerfile").read_text().splitlines()
    assert "!docs/runbook.md" in (ROOT / ".dockerignore").read_text().splitlines()
