"""Each part killed once while a threshold is crossed. The whole matrix is in tests/long/faults."""

from pathlib import Path

import pytest

from tests.support.fault_cells import Fault, problems, run_column, table


@pytest.mark.timeout(240)
def test_each_part_killed_while_a_threshold_is_crossed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = [
        Fault("kill", part) for part in ("receiver", "prometheus", "alertmanager", "exporter")
    ]
    rows = run_column(tmp_path, faults)
    with capsys.disabled():
        print("\n" + table(rows))
    assert not problems(rows)
