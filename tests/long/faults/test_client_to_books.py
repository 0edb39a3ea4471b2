"""tests/loop/test_client_to_books.py with thirty kills."""

from pathlib import Path

from tests.support.attack_table import keep
from tests.support.spool_hosts import kill_the_exporter


def test_every_recorded_call_is_booked_once_though_the_exporter_is_killed(tmp_path: Path) -> None:
    kill_the_exporter(tmp_path, kills=30, calls=60_000)
    keep("kill -9 of the exporter under clients that record", "30 kills, 60,000 calls")
