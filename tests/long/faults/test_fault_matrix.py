"""The fault matrix: every part killed or stopped, every link cut, at each level, for real.

docs/faults.md says what each cell does; `make test-faults` runs all of it and renews
the table there.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.files import replace_file
from tests.support.fault_cells import ALL_FAULTS, Fault, Row, problems, run_column, table
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "faults.md"
MARK = "<!-- results -->\n"
AT_ONCE = 4


@pytest.mark.timeout(3600)
def test_the_whole_matrix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = [
            pool.submit(_column, tmp_path, fault, count, floor)
            for count, floor in ((4, "none"), (1, "conserve"))
            for fault in ALL_FAULTS
        ]
        rows = [row for job in jobs for row in job.result()]
    with capsys.disabled():
        print("\n" + table(rows))
    if os.environ.get("LLM_BUDGET_KEEP_RESULTS"):
        text = PAGE.read_text().partition(MARK)[0]
        replace_file(PAGE, (text + MARK + table(rows)).encode())
    assert not problems(rows)


def _column(folder: Path, fault: Fault, count: int, floor: str) -> list[Row]:
    own = folder / f"{floor}{ALL_FAULTS.index(fault)}"
    own.mkdir()
    try:
        return run_column(own, [fault] * count, floor)
    except Exception as error:  # one column's failure hides no other's
        return [Row(str(fault), floor, "?", "?", 0.0, [f"the column ended: {error!r}"])]
