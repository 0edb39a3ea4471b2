"""From record() to the books: the client's spool followed by a real exporter that is killed."""

from pathlib import Path

from tests.support.spool_hosts import kill_the_exporter


def test_every_recorded_call_is_booked_once_though_the_exporter_is_killed(tmp_path: Path) -> None:
    kill_the_exporter(tmp_path, kills=3, calls=4000)
