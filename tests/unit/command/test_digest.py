"""llm-budget report --digest: the daily mail, also when parts are down."""

from pathlib import Path

import pytest

from command.main import main
from common.clock import SystemClock
from tests.support.exporters import Exporter, event

NOBODY = ("--receiver", "http://127.0.0.1:9", "--prometheus", "http://127.0.0.1:9")


def test_what_is_down_is_unknown_and_the_books_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Exporter(tmp_path, now=SystemClock().now() - 86_400) as exporter:
        exporter.book(*(event(roaster=f"r{n}", prompt=1000 * n) for n in range(1, 8)))
    assert main(["report", "--digest", "--ledger", str(tmp_path / "ledger.sqlite"), *NOBODY]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "Spend: $0.00833, 7 calls"
    assert [line.split()[1] for line in lines[2:7]] == [f"r{n}" for n in (7, 6, 5, 4, 3)]
    unknown = [line.partition(":")[0] for line in lines if ": unknown (cannot reach" in line]
    assert unknown == ["Limit", "Forecast", "Levels", "Held now", "Rejected events"]


def test_all_down_is_a_mail_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--digest", "--exporter", "http://127.0.0.1:9", *NOBODY]) == 0
    out = capsys.readouterr().out
    assert "Spend: unknown (cannot reach the exporter" in out
    assert "this is UTC's." in out
