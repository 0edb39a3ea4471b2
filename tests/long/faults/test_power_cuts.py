"""tests/faults/test_power_cuts.py with five hundred cuts."""

from pathlib import Path

import pytest

from tests.support.attack_table import keep
from tests.support.power_cuts import try_cuts


@pytest.mark.timeout(1800)
def test_five_hundred_power_cuts_lose_no_booked_call_and_double_none(tmp_path: Path) -> None:
    totals = try_cuts(tmp_path, range(500))
    keep("power cut", f"{totals['tried']} disks", totals["lost"], totals["doubled"])
    assert (totals["lost"], totals["doubled"]) == (0, 0)
