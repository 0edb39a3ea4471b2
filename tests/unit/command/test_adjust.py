"""llm-budget grant and reset: through the exporter, or with it down through its ledger."""

import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from command.main import main
from command.remote import UnreachableError
from common.fetch import Answer
from tests.support.exporters import ADMIN, INGEST, Exporter, write_config

AWAY = "http://127.0.0.1:1"  # nothing listens there


def command(folder: Path, *arguments: str) -> int:
    """The command with the exporter down; the ledger is the folder's."""
    config = write_config(folder)
    ledger = folder / "ledger.sqlite"
    files = ["--exporter", AWAY, "--config", str(config), "--ledger", str(ledger)]
    return main([*arguments, "--reason", "launch day", *files])


def test_with_the_exporter_down_the_ledger_takes_the_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Exporter(tmp_path).close()
    assert command(tmp_path, "grant", "12.50", "--author", "asha", "--id", "once") == 0
    assert "written into its ledger" in capsys.readouterr().out
    assert command(tmp_path, "grant", "12.50", "--author", "asha", "--id", "once") == 0
    assert "booked before" in capsys.readouterr().out
    assert command(tmp_path, "reset") == 0
    assert "Wrote off $0" in capsys.readouterr().out
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        rows = db.execute("SELECT kind, picodollars, author FROM adjustments").fetchall()
    assert rows == [("grant", 12_500_000_000_000, "asha")]


def test_neither_exporter_nor_ledger_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, "reset") == 2
    error = capsys.readouterr().err
    assert f"cannot reach the exporter at {AWAY}/api/v1/resets" in error
    assert f"no ledger at {tmp_path / 'ledger.sqlite'}" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "ledger.sqlite").exists()


def test_a_ledger_in_use_is_not_written_behind_its_exporters_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Exporter(tmp_path) as running:
        assert command(tmp_path, "grant", "5") == 2
        assert "an exporter already uses it" in capsys.readouterr().err
        assert running.status()["granted_usd"] == "0"


def test_the_command_asks_a_running_exporter_and_repeats_its_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def over_http(url: str, *, content: Any, token: str, **_: Any) -> Answer:
        asked.append(content)
        headers = {"Authorization": f"Bearer {token}"}
        answer = exporter.http.post(url.removeprefix(AWAY), headers=headers, json=content)
        return Answer(url, answer.status_code, answer.content)

    with Exporter(tmp_path, tokens=True) as exporter:
        monkeypatch.setattr("command.remote.fetch", over_http)
        monkeypatch.setenv("LLM_BUDGET_ADMIN_TOKEN", ADMIN)
        assert command(tmp_path, "grant", "12.50") == 0
        assert capsys.readouterr().out == "Granted $12.5 for 2027-01-15.\n"
        assert Decimal(asked[0]["amount_usd"]) == Decimal("12.5")
        assert asked[0]["author"]
        monkeypatch.setenv("LLM_BUDGET_ADMIN_TOKEN", INGEST)
        assert command(tmp_path, "grant", "12.50") == 2
        assert "refused with 401" in capsys.readouterr().err
        assert exporter.status()["granted_usd"] == "12.5"


def test_a_wrong_amount_never_leaves_the_shell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, "grant", "lots") == 2
    assert command(tmp_path, "grant", "-5") == 2
    assert "above 0" in capsys.readouterr().err


def test_an_uncertain_grant_names_the_id_to_try_again_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def timeout(*_: Any, **__: Any) -> Any:
        raise UnreachableError("cannot reach the exporter (no answer in time); is it running?")

    monkeypatch.setattr("command.remote.call", timeout)
    with Exporter(tmp_path):
        assert command(tmp_path, "grant", "5", "--id", "once") == 2
    assert "try again with --id once" in capsys.readouterr().err
