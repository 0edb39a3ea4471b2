"""llm-budget verify: the ladder's verify step, run by hand."""

import json
import sys
from pathlib import Path

import pytest

from command.main import main
from tests.support.ladders import LADDER_FILE


def verify(folder: Path, *script: str, timeout: float = 10) -> int:
    """The command with the shipped ladder, and a verify step of these Python words."""
    ladder = folder / "degradation.yml"
    action = {"argv": [sys.executable, "-c", *script], "timeout_seconds": timeout}
    step = f"\nverify: {json.dumps(action)}\n" if script else ""
    ladder.write_text(LADDER_FILE.read_text() + step)
    return main(["verify", "--ladder", str(ladder)])


def test_a_step_that_works_knows_the_last_level_and_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLM_BUDGET_ADMIN_TOKEN", "a-secret-of-sixteen")
    script = (
        "import os; assert os.environ['LLM_BUDGET_LEVEL'] == 'fallback'; "
        "assert not [name for name in os.environ if '_TOKEN' in name]"
    )
    assert verify(tmp_path, script) == 0
    assert capsys.readouterr().out == "The verify step works.\n"


@pytest.mark.parametrize(
    ("script", "timeout", "words"),
    [
        ("import sys; sys.exit('no parser')", 10, "ended with status 1: no parser"),
        ("import time; time.sleep(60)", 0.5, "did not end within its timeout of 0.5 s"),
    ],
)
def test_a_step_that_fails_or_hangs_is_status_1(
    script: str, timeout: float, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(tmp_path, script, timeout=timeout) == 1
    out = capsys.readouterr().out
    assert out.startswith("The verify step failed: ")
    assert words in out


def test_a_url_that_answers_badly_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("alertmanager.receiver.hooks.RETRY_SECONDS", 0)
    ladder = tmp_path / "degradation.yml"
    step = "\nverify: {url: 'http://127.0.0.1:1/health'}\n"
    ladder.write_text(LADDER_FILE.read_text() + step)
    assert main(["verify", "--ladder", str(ladder)]) == 1
    assert "http://127.0.0.1:1/health" in capsys.readouterr().out


def test_no_step_and_no_ladder_are_one_sentence_and_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(tmp_path) == 2
    assert "degradation.yml has no verify step; add one" in capsys.readouterr().err
    assert main(["verify", "--ladder", str(tmp_path / "gone.yml")]) == 2
    assert "gone.yml" in capsys.readouterr().err
