"""The exporter as a process: starting, refusing to start, ending."""

import argparse
import asyncio
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from command.stack.processes import Child
from common.http import bind
from exporter.service import main, named_link, reload_at
from tests.support.exporters import event, write_config

Start = Callable[..., Child]


def url(child: Child, path: str) -> str:
    return child.ready_url.removesuffix("/health") + path


def test_sigterm_ends_with_0_and_what_was_acknowledged_is_on_disk(
    start: Start, tmp_path: Path
) -> None:
    child = start()
    answer = requests.post(url(child, "/v1/usage"), json=[event() for _ in range(50)], timeout=10)
    assert answer.json()["accepted"] == 50
    assert child.stop() == 0
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        assert db.execute("SELECT sum(success) FROM accounts").fetchone() == (50,)


def test_what_was_acknowledged_survives_kill_9(start: Start) -> None:
    child = start()
    for index in range(20):
        call = event(id=f"call-{index}")
        assert requests.post(url(child, "/v1/usage"), json=call, timeout=10).status_code == 200
    assert child.kill() == -signal.SIGKILL
    again = start()
    assert requests.get(url(again, "/api/v1/status"), timeout=10).json()["requests"] == 20


def run(tmp_path: Path, config: str, *flags: str) -> int:
    path = write_config(tmp_path, config)
    files = ["--config", str(path), "--ledger", str(tmp_path / "ledger.sqlite")]
    return main([*files, "--listen", "127.0.0.1:0", *flags])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("budget: {daily_limit_eur: 1}", "daily_limit_eur"),
        ("budget: {daily_limit_usd: 0}", "daily_limit_usd must be above 0"),
        ("budget: {daily_limit_usd: lots}", "daily_limit_usd"),
        ("budget: {timezone: Mars/Base}", "Mars/Base"),
        ('budget: {day_starts_at: "25:00"}', "25:00"),
        ("rate_limits: {minute: 0}", "rate_limits.minute"),
        ("rate_limits: {scope: field}", "scope"),
        ("prices: {m: {input_usd_per_1k: 1e-12, output_usd_per_1k: 0}}", "finer than 1 pico"),
        ("prices: {m: {input_usd_per_1k: 0.1}}", "output_usd_per_1k"),
        ("surprise: 1", "surprise"),
        ("budget: [", "not valid"),
    ],
)
def test_a_wrong_budget_is_named_in_one_sentence(
    tmp_path: Path, config: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, config) == 2
    error = capsys.readouterr().err
    assert error.startswith("exporter: ")
    assert "budget.yml" in error
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "ledger.sqlite").exists()


def test_a_taken_port_a_second_exporter_and_a_foreign_file_are_named(
    tmp_path: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    with bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert run(tmp_path, "", "--listen", f"127.0.0.1:{port}") == 2
        assert "held by" in capsys.readouterr().err
    start()
    assert run(tmp_path, "") == 2
    assert "an exporter already uses it" in capsys.readouterr().err
    other = tmp_path / "other.sqlite"
    other.write_text("this is no database, but long enough to be taken for one" * 100)
    assert run(tmp_path, "", "--ledger", str(other)) == 2
    assert "cannot open the ledger" in capsys.readouterr().err


def test_a_ledger_of_a_newer_version_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    assert run(tmp_path, "") == 2
    assert "newer than this exporter" in capsys.readouterr().err


def test_other_addresses_need_a_token_or_an_explicit_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "", "--listen", "0.0.0.0:0") == 2
    assert "needs an ingest token" in capsys.readouterr().err


def test_a_sighup_while_the_ledger_is_read_reloads_afterwards() -> None:
    reloads: list[str] = []

    async def reload() -> None:
        reloads.append("reload")
        raise RuntimeError("one that fails is not the last")

    async def scenario() -> None:
        hangups = asyncio.Event()
        hangups.set()
        assert reloads == []
        reloading = asyncio.create_task(reload_at(hangups, reload))
        for count in (1, 2):
            await asyncio.sleep(0)
            assert len(reloads) == count
            await asyncio.sleep(0)
            assert len(reloads) == count
            hangups.set()
            await asyncio.sleep(0)
        reloading.cancel()

    asyncio.run(scenario())


def test_a_link_is_a_name_and_an_address_of_the_web() -> None:
    assert named_link("Grafana=https://g.example/?a=b") == ("Grafana", "https://g.example/?a=b")
    for wrong in ("Grafana", "=http://a", "x=javascript:alert(1)", "x=http://", "x=//host"):
        with pytest.raises(argparse.ArgumentTypeError, match="is not like"):
            named_link(wrong)
