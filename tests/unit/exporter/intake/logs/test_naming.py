"""Which names rotation makes of llm.log, and which are another log's."""

import pytest

from exporter.intake.logs.naming import shape_of

OLDER = {
    "logrotate": "llm.log.1",
    "logrotate, dateext": "llm.log-20261124",
    "logrotate, dateformat -%Y%m%d-%s": "llm.log-20261124-1795514400",
    "logrotate, extension .log": "llm.1.log",
    "logrotate, extension .log, dateext": "llm-20261124.log",
    "Python, by time": "llm.log.2026-11-24_10-00-00",
    "Python's namer": "llm.2026-11-24.log",
    "loguru": "llm.2026-11-24_10-00-00_123456.log",
    "loguru, twice in a microsecond": "llm.2026-11-24_10-00-00_123456.2.log",
    "lumberjack": "llm-2026-11-24T10-00-00.000.log",
    "logback": "llm.2026-11-24.0.log",
    "log4j2, %i": "llm-1.log",
    "log4j2, %d{MM-dd-yyyy}-%i": "llm-11-24-2026-1.log",
    "log4net": "llm.log2026-11-24",
    "serilog": "llm20261124.log",
    "serilog, by size": "llm20261124_001.log",
    "pm2-logrotate": "llm__2026-11-24_10-00-00.log",
    "spdlog": "llm_2026-11-24.log",
    "rotating-file-stream": "20261124-1000-01-llm.log",
    "Docker": "llm.log.1.gz",
    "lumberjack, compressed": "llm-2026-11-24T10-00-00.000.log.gz",
    "by month": "llm-2026-11.log",
}
OTHERS = [
    "llm.log", "llm.log.gz", "llm.log.old", "llm.log.bak", "llm.log~", "llm-audit.log",
    "llm-audit-20261124.log", "llm2.log", "2-llm.log", "llm.jsonl", "llm-1.jsonl", "other.log.1",
    "allm.log.1", "llm.log.1.bak", "llm.log.1.zst", "llm.log.lock", "llm", "log", ".log",
]  # fmt: skip


@pytest.mark.parametrize("name", OLDER.values(), ids=OLDER)
def test_an_older_file(name: str) -> None:
    assert shape_of(f"/var/log/{name}", "llm.log")


@pytest.mark.parametrize("name", OTHERS)
def test_another_log(name: str) -> None:
    assert shape_of(f"/var/log/{name}", "llm.log") is None


def test_other_names_of_logs() -> None:
    assert shape_of("/d/app.json.2026-11-24.log", "app.json.log")
    assert shape_of("/d/app.2026-11-24.json.log", "app.json.log")
    assert shape_of("/d/current.1", "current")
    assert shape_of("/d/0.log.20261124-100000", "0.log")
    assert shape_of("/d/currently", "current") is None


def test_names_of_one_rotation_have_one_shape() -> None:
    def shape(name: str) -> object:
        return shape_of(name, "llm.log")

    assert shape("/d/llm-20261124.log") == shape("/d/llm-20261125.log.gz")
    others = ["/e/llm-20261124.log", "/d/llm.20261124.log", "/d/llm-1.log", "/d/llm.log-20261124"]
    assert shape("/d/llm-20261124.log") not in [shape(name) for name in others]
