"""llm-budget backtest: its report, its refusals, and that it leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from command.main import main
from tests.support.replayed import PREDICTED
from tests.support.waiting import until


def write(folder: Path, text: str) -> Path:
    path = folder / "usage.csv"
    path.write_text(text)
    return path


def test_the_command_prints_json_that_names_crossing_alerts_and_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # is for other traffic
    lines = [f"{minute},{10 if minute < 1440 else 20}" for minute in range(2880)]
    path = write(tmp_path, "\n".join(["minute,tokens", *lines]))
    argv = ["backtest", "--csv", str(path), "--limit", "20", "--usd-per-token", "0.001"]
    assert main([*argv, "--interval", "5", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    first, second = report["days"]
    assert report["limit_usd"] == "20"
    assert (first["total_usd"], second["total_usd"]) == (14.4, 28.8)
    assert (first["crossed_minute"], second["crossed_minute"]) == (None, 1000)
    assert first["alerts"].keys() == {"LLMBudgetHalfSpent"}
    assert second["alerts"]["LLMBudgetExhausted"]["first_minute"] == pytest.approx(1000, abs=5)
    assert second["alerts"][PREDICTED]["lead_hours"] > 10
    assert second["error"]["12"] < 0.1


def test_a_bad_file_and_a_bad_limit_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backtest", "--csv", str(tmp_path / "none.csv"), "--limit", "1"]) == 2
    words = capsys.readouterr().err
    assert "none.csv" in words
    assert words.count("\n") == 1
    for limit in ("0", "-1", "nan", "many"):
        with pytest.raises(SystemExit):
            main(["backtest", "--csv", "usage.csv", "--limit", limit])
        assert "is not an amount above 0" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_process_and_no_folder(number: signal.Signals, tmp_path: Path) -> None:
    path = write(tmp_path, "\n".join(["minute,tokens", *(f"{m},1" for m in range(14400))]))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = subprocess.Popen(
        [sys.executable, "-m", "command.main", "backtest", "--csv", str(path), "--limit", "1"],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    until(lambda: list(scratch.glob("*/prometheus.log")), what="a Prometheus")
    command.send_signal(number)
    _, words = command.communicate(timeout=30)
    assert command.returncode == 128 + number
    assert b"Traceback" not in words
    assert list(scratch.iterdir()) == []
    left = [line for line in Path("/proc").glob("[0-9]*/cmdline") if str(scratch) in _text(line)]
    assert left == []


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
