"""Power cuts: whatever a disk kept of what was not synced, each call counts once."""

from pathlib import Path

from tests.support.power_cuts import try_cuts


def test_thirty_power_cuts_lose_no_booked_call_and_double_none(tmp_path: Path) -> None:
    totals = try_cuts(tmp_path, range(30))
    assert (totals["lost"], totals["doubled"]) == (0, 0)
