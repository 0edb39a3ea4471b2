"""tests/loop/test_client_to_books.py with thirty kills."""

from pathlib import Path

from tests.support.spool_hosts import kill_the_exporter


def test_every_recorded_call_is_booked_once_though_the_exporter_is_killed(tmp_path: Path) -> None:
    kill_the_exporter(tmp_path, kills=30, calls=60_000)
