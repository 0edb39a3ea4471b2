"""tests/faults/test_crash.py with a hundred kills, twice."""

from pathlib import Path

import pytest

from tests.support.attack_table import keep
from tests.support.crash import crash


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [100, 200])
def test_a_hundred_kills_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    crash(tmp_path, kills=100, seed=seed)
    keep("kill -9 of the exporter under HTTP, logs and spools", "100 kills, twice")
