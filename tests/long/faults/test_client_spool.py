"""tests/unit/sdk/test_client_spool.py with a hundred rounds of kill -9."""

from pathlib import Path

from tests.support.attack_table import keep
from tests.support.spool_writers import kill_writers


def test_kill_9_loses_no_acknowledged_call_and_doubles_none(tmp_path: Path) -> None:
    kill_writers(tmp_path / "spool", rounds=100)
    keep("kill -9 of two writers of a spool", "100 times")
