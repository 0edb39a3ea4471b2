"""llm-budget report --digest: the daily mail, also when parts are down."""

import re
import socket
import time
from pathlib import Path

import pytest
from starlette.responses import JSONResponse

from command import digest
from command.main import main
from common.clock import SystemClock
from tests.support.exporters import Exporter, event
from tests.support.pages import Prometheus, serving
from tests.support.paths import ROOT

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


def figures(**values: object) -> Prometheus:
    return Prometheus(*(({"figure": name}, f"{value}") for name, value in values.items()))


def told(tmp_path: Path, capsys: pytest.CaptureFixture[str], prometheus: str) -> list[str]:
    """The mail of a day on which one call cost $0.27."""
    with Exporter(tmp_path, now=SystemClock().now() - 86_400) as exporter:
        exporter.book(event(prompt=1_000_000, completion=0))
    flags = ("--ledger", str(tmp_path / "ledger.sqlite"), *NOBODY[:2], "--prometheus", prometheus)
    assert main(["report", "--digest", *flags]) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(("high", "word"), [(0.5, "hit"), (0.27, "hit"), (0.26, "miss")])
def test_one_question_tells_what_prometheus_knew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], high: float, word: str
) -> None:
    answers = figures(low=0.1, high=high, limit=2.7, rejected=3)
    with serving(answers.app) as site:
        lines = told(tmp_path, capsys, site.url)
    assert "Limit: $2.70, 10.0% of it spent" in lines
    assert any(line.startswith(f"Forecast: {word} ($0.10 to ${high:.2f} at ") for line in lines)
    assert "Rejected events: 3" in lines
    assert len(answers.queries) == 1


def test_it_asks_for_what_the_rules_record() -> None:
    rules = "".join(path.read_text() for path in (ROOT / "rules").glob("*.yml"))
    query = (ROOT / "command" / "templates" / "digest.promql.j2").read_text()
    asked = re.findall("budget:[a-z_:]+", query)
    assert len(asked) == 3
    assert [name for name in asked if f"record: {name}\n" not in rules] == []


@pytest.mark.parametrize("odd", ["NaN", "+Inf", "x"])
def test_what_is_no_number_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], odd: str
) -> None:
    with serving(figures(low=odd, high=1, limit=odd, rejected=odd).app) as site:
        lines = told(tmp_path, capsys, site.url)
    unknown = [line.partition(":")[0] for line in lines if ": unknown (" in line]
    assert unknown == ["Limit", "Forecast", "Levels", "Held now", "Rejected events"]
    assert not any("nan" in line.lower() or "inf" in line.lower() for line in lines)


def test_a_limit_of_nothing_has_no_share(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(figures(limit=0).app) as site:
        assert "Limit: $0.00" in told(tmp_path, capsys, site.url)


def test_what_a_service_says_cannot_command_the_terminal_or_write_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = {"error": "\x1b[2Jno\nSpend: $0"}
    with serving(JSONResponse(said, 400)) as site:
        urls = ("--exporter", site.url, "--receiver", site.url, "--prometheus", site.url)
        assert main(["report", "--digest", *urls]) == 0
    out = capsys.readouterr().out
    assert out.count("\ufffd[2Jno\ufffdSpend: $0") == 7
    assert "\x1b" not in out


def test_who_hangs_is_waited_for_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 2 * digest.SECONDS < 10, "of the day, and of all the others at once"
    monkeypatch.setattr(digest, "SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        flags = ("--exporter", url, "--receiver", url, "--prometheus", url)
        began = time.monotonic()
        assert main(["report", "--digest", *flags]) == 0
    assert time.monotonic() - began < 4
    assert capsys.readouterr().out.count(": unknown (cannot reach") == 6
