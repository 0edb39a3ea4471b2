"""llm-budget report: the table, CSV and JSON of a ledger's days, from its exporter or its file."""

import csv
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests

from command.main import main
from common.clock import SystemClock
from tests.support.exporters import Exporter, event, exporter_process, url

CALL = {"prompt": 1000, "completion": 100, "cached": 300}  # $0.00032


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    with Exporter(tmp_path, now=SystemClock().now()) as exporter:
        exporter.book(event(**CALL), event(roaster="naivo", model="none-such", **CALL))
    return tmp_path / "ledger.sqlite"


def report(capsys: pytest.CaptureFixture[str], *flags: Any) -> tuple[int, str, str]:
    status = main(["report", *map(str, flags)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_people_read_a_table_with_its_total_and_what_is_missing(
    ledger: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    status, out, err = report(capsys, "--ledger", ledger, "--by", "roaster,model")
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    sums = ["1", "700", "300", "100", "0", "$0.00032", "$0.00032"]
    assert ["blue-tokai", "deepseek-chat", *sums] in lines
    assert ["naivo", "none-such", "1", "700", "300", "100", "1100", "$0.00"] in lines
    assert ["total", "2", "1400", "600", "200", "1100", "$0.00032"] in lines
    assert "is not over." in out
    assert "The cost of 1100 tokens without a price is missing (reprice)." in out


def test_programs_read_the_same_from_the_file_and_from_a_running_exporter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_BUDGET_METRICS_TOKEN", "metrics-token-0123456789")
    with exporter_process(tmp_path) as running:
        answer = requests.post(url(running, "/v1/usage"), json=event(**CALL), timeout=30)
        assert answer.json()["accepted"] == 1
        flags = ("--json", "--by", "day,field")
        status, http, _ = report(capsys, *flags, "--exporter", url(running, ""))
        assert status == 0, http
        assert report(capsys, *flags, "--ledger", tmp_path / "ledger.sqlite") == (0, http, "")
        monkeypatch.setenv("LLM_BUDGET_METRICS_TOKEN", "another-token-0123456789")
        status, _, err = report(capsys, "--exporter", url(running, ""))
        assert (status, "refused with 401" in err) == (2, True)
        monkeypatch.delenv("LLM_BUDGET_METRICS_TOKEN")
        status, _, err = report(capsys, "--exporter", url(running, ""), "--by", "colour")
    assert status == 2
    found = json.loads(http)
    assert found["by"] == ["day", "field"]
    assert [row["cost_usd"] for row in found["rows"]] == ["0.00032"]


def test_a_spreadsheet_gets_the_rows_alone_and_runs_none_of_them(
    ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = ['=cmd|" /C calc"!A0', "+1", "-1", "@SUM(A1)", "\uff1d1", 'a,"b', "naïve;x"]
    with Exporter(ledger.parent, now=SystemClock().now()) as exporter:
        exporter.book(*(event(roaster=name, field="x") for name in evil))
    status, out, err = report(capsys, "--ledger", ledger, "--csv", "--by", "roaster,field")
    head, *rows = csv.reader(out.splitlines())
    assert (status, head[:3], head[-2:]) == (
        0, ["roaster", "field", "calls"], ["cost_usd", "cost_per_call_usd"],
    )  # fmt: skip
    assert {row[0] for row in rows if row[1] == "x"} == {
        *(f"'{name}" for name in evil[:5]), *evil[5:],
    }  # fmt: skip
    assert "is not over" in err


def test_a_terminal_obeys_no_name_in_the_ledger(
    ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(ledger)) as db, db:  # an exporter refuses such names
        db.execute("UPDATE accounts SET roaster = ? WHERE roaster = 'naivo'", ("\x1b[2Jx\u202ey",))
    out = report(capsys, "--ledger", ledger, "--by", "roaster")[1]
    assert "\ufffd[2Jx\ufffdy" in out
    assert "\x1b" not in out


def test_a_dear_day_by_roaster_field_and_model_is_a_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the runbook asks at three in the morning, in 80 columns."""
    dear = {"prompt": 7_654_321, "completion": 87_654}
    with Exporter(tmp_path, now=SystemClock().now()) as exporter:
        exporter.book(*(event(roaster=f"roaster-{n:03}", field="sensory", **dear) for n in (1, 2)))
    by = ("--by", "roaster,field,model")
    out = report(capsys, "--ledger", tmp_path / "ledger.sqlite", *by)[1]
    row = ["sensory", "deepseek-chat", "1", "7654321", "87654", "$2.16", "$2.16"]
    lines = [line.split() for line in out.splitlines()]
    assert [f"roaster-{n:03}" for n in (1, 2) if [f"roaster-{n:03}", *row] in lines] == [
        "roaster-001", "roaster-002",
    ]  # fmt: skip


def test_a_narrow_terminal_cuts_no_figure(
    ledger: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert "…" not in report(capsys, "--ledger", ledger, "--by", "day,roaster,field,model")[1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--ledger", "no-such-file"), "there is no ledger at no-such-file"),
        (("--exporter", "http://127.0.0.1:9"), "cannot reach the exporter at http://127.0.0.1:9"),
        (("--from", "today", "--to", "3d"), "ends before it"),
        (("--by", "week"), "cannot sum by 'week'"),
        (("--from", "2d", "--to", "1d"), "no calls from"),
    ],
)
def test_a_mistake_is_one_sentence(
    flags: tuple[str, ...], words: str, ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = () if flags[0] in ("--ledger", "--exporter") else ("--ledger", ledger)
    status, out, err = report(capsys, *source, *flags)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("llm-budget report: ")
    assert words in err
