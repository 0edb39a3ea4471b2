"""The rules under vmalert: every promtool test, and the loop; the rest is in tests/long/faults."""

import subprocess
from pathlib import Path

import pytest

from tests.support.rule_files import test_files as promtool_files
from tests.support.timings import VMALERT, loop_on, raised_and_let_go
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


@pytest.mark.timeout(600)
def test_the_loop_raises_in_time_and_lets_go_after_a_grant(tmp_path: Path) -> None:
    """With the flags that docs/scaling.md names."""
    fetched(NEWEST)
    engine = VMALERT[-1]
    with loop_on(engine, tmp_path) as loop:
        raised_and_let_go(loop, engine)
        assert not loop.unwell()
