"""kill -9 at random moments: what was acknowledged counts once, nothing counts twice."""

from pathlib import Path

from tests.support.crash import crash


def test_eight_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    crash(tmp_path, kills=8, seed=1)
