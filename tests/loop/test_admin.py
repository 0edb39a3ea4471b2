"""A person's word in the whole loop: grant, reset, reload and restore, with the real binaries."""

import time
from pathlib import Path

import pytest
import requests

from command.main import main
from common.yamlfile import dump, read_document
from exporter.ledger.backup import backup, restore
from tests.support.loop import LIMIT, Call, Loop
from tests.support.waiting import until


def command(loop: Loop, *arguments: str) -> int:
    """llm-budget, with the loop's exporter, receiver and ledger."""
    where = ["--exporter", loop.bundle.url("exporter"), "--receiver", loop.bundle.url("receiver")]
    return main([*arguments, "--reason", "a test", "--author", "asha", *where])


def reload_with_limit(loop: Loop, usd: str) -> None:
    budget = loop.bundle.budget
    document = read_document(budget)
    document["budget"]["daily_limit_usd"] = usd
    budget.write_bytes(dump(document, budget))
    headers = {"Authorization": f"Bearer {loop.bundle.token('admin')}"}
    answer = requests.post(loop.bundle.url("exporter") + "/-/reload", headers=headers, timeout=10)
    assert answer.status_code == 200, answer.text


def pages_agree(loop: Loop) -> bool:
    """Whether the exporter's page has state, level, thresholds and alerts from the real others."""
    page = requests.get(loop.bundle.url("exporter"), timeout=10).text
    parts = ("<title>WARNING: $0.20 left", '<p class="level"><bdi>control</bdi>', ">75 %</text>")
    return all(part in page for part in (*parts, "LLMBudgetWarning")) and "cannot be" not in page


def test_a_grant_lifts_its_revoke_and_a_lower_limit_raise_and_a_reset_lifts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Loop(tmp_path, hold="600") as loop:  # nothing below waits for it
        monkeypatch.setenv("LLM_BUDGET_ADMIN_TOKEN", loop.bundle.token("admin"))
        loop.spend_to(LIMIT * 80 // 100)
        loop.wait_level("control")
        until(lambda: pages_agree(loop), what="the status page to show what all parts say")
        asked = time.monotonic()
        assert command(loop, "grant", "1", "--wait") == 0  # 40 % of two dollars
        took = time.monotonic() - asked
        assert loop.level() == "none"
        at_most = 2 * loop.interval + 2  # a scrape, an evaluation, the receiver's round
        assert took < 5 * at_most, "a busy machine is slower; the hold is ten minutes"
        assert command(loop, "revoke", "1", "--wait") == 0
        assert loop.level() == "control"
        assert command(loop, "grant", "1") == 0
        loop.wait_level("none", timeout=60)
        reload_with_limit(loop, "0.01")  # 80 % of 1.01: 79 %
        loop.wait_level("control")
        assert command(loop, "reset") == 0
        loop.wait_level("none", timeout=60)
        assert loop.status()["spend_usd"] == "0.8"


def test_a_restored_backup_lowers_nothing_and_a_replay_makes_it_whole(tmp_path: Path) -> None:
    with Loop(tmp_path) as loop:
        exporter, ledger = loop.bundle.exporter, tmp_path / "ledger" / "ledger.sqlite"
        loop.spend_to(LIMIT * 40 // 100)
        backup(ledger, tmp_path / "copy", force=False)
        last = loop.calls
        loop.spend_to(LIMIT * 80 // 100)
        loop.wait_level("control")
        exporter.stop()
        restore(tmp_path / "copy", ledger, force=True)
        exporter.start()
        exporter.wait_ready()
        assert loop.status()["spend_usd"] == "0.4"
        until(lambda: "LLMLedgerRegressed" in loop.firing(), 60, what="the alert")
        assert loop.level() == "control"
        assert loop.query("budget:llm_utilization:ratio")[0]["value"][1] == "0.8"
        loop.calls, loop.sent = last, LIMIT * 40 // 100  # the same call, the same id, again
        loop.send([Call.worth(LIMIT * 40 // 100)])
        until(lambda: "LLMLedgerRegressed" not in loop.firing(), 90, what="its end")
        assert loop.status()["spend_usd"] == "0.8"
        assert loop.level() == "control"
