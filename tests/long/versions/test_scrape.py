"""tests/loop/test_scrape.py, on the Prometheus versions that people run."""

from pathlib import Path

import pytest

from command.stack.binaries import TOOLS_VARIABLE
from tests.support.scrapes import scrape_and_compare
from tests.support.versions import NEWEST, SUITES, fetched


@pytest.mark.parametrize("version", SUITES)
def test_other_versions_scrape_every_sample(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOOLS_VARIABLE, str(fetched(version).bin))
    found = scrape_and_compare(tmp_path)
    assert found.startswith(f"{version}.") or version == NEWEST, found
