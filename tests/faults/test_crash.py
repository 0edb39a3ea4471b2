"""kill -9 at random moments: what was acknowledged counts once, nothing counts twice."""

from pathlib import Path

import pytest

from tests.support.crash import CrashTest, HttpLoad, Load, LogLoad, SpoolLoad


def loads(folder: Path, seed: int) -> list[Load]:
    """Every way in: HTTP, a structured log and the client's spool."""
    http = [HttpLoad(f"http-{number}", seed + number) for number in range(4)]
    return [*http, LogLoad(folder, seed), SpoolLoad(folder, seed)]


def crash(folder: Path, kills: int, seed: int) -> None:
    test = CrashTest(folder, loads(folder, seed))
    try:
        test.run(kills, seed)
    finally:
        test.exporter.kill()
    assert all(len(load.sent) > kills for load in test.loads), "there was next to no load"


@pytest.mark.slow
def test_eight_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    crash(tmp_path, kills=8, seed=1)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [100, 200])
def test_a_hundred_kills_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    crash(tmp_path, kills=100, seed=seed)
