"""The rules under vmalert: every promtool test, and the whole loop on VictoriaMetrics."""

import subprocess
from pathlib import Path

import pytest

from tests.support.rule_files import test_files as promtool_files
from tests.support.timings import VMALERT, measure_all
from tests.support.versions import NEWEST, fetched
from tests.support.vmalert_tests import convert


@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", promtool_files(), ids=lambda path: path.name)
def test_vmalert_tool_proves(path: Path, tmp_path: Path) -> None:
    """Without an exception: what it does otherwise is a matter of spelling, in vmalert_tests.py."""
    tool = fetched(NEWEST).bin / "vmalert-tool"
    test = convert(path, tmp_path)
    argv = [tool, "unittest", "--disableAlertgroupLabel", "--files", test]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(1200)
def test_vmalert_rules_in_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its default flags, and by those that docs/scaling.md names."""
    fetched(NEWEST)
    timings = measure_all(tmp_path, VMALERT)
    with capsys.disabled():
        print("", *(timing.row for timing in timings), sep="\n")
