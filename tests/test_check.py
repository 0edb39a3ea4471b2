"""llm-budget check: all files together, each mistake in one sentence that names it."""

import json
from pathlib import Path
from typing import Any

import pytest
from ladders import BASELINE_FILE, LADDER_FILE

from exporter.cli.main import main
from exporter.stack.bundle import ALERTMANAGER, REPOSITORY

FILES = {
    "config": REPOSITORY / "budget.yml",
    "ladder": LADDER_FILE,
    "baseline": BASELINE_FILE,
    "contacts": REPOSITORY / "contacts.yml",
    "alertmanager": ALERTMANAGER / "alertmanager.yml",
}


def check(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, dict[str, Any]]:
    status = main(["check", "--json", *flags])
    return status, {item["part"]: item for item in json.loads(capsys.readouterr().out)}


def test_what_ships_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = check(capsys)
    assert status == 0, found
    assert {item["status"] for item in found.values()} == {"ok"}
    assert found["thresholds"]["detail"].startswith("half 50%, warning 75%")


@pytest.mark.parametrize(
    ("flag", "change", "part", "words"),
    [
        ("config", ("daily_limit_usd", "daily_limit_eur"), "budget", "daily_limit_eur"),
        ("config", ("reserve_usd: 20", "reserve_usd: 200"), "budget", "exceed daily_limit_usd"),
        ("config", ("timezone: UTC", "timezone: Mars/Base"), "budget", "Mars/Base"),
        ("ladder", ("multiply:", "divide:"), "degradation", "divide"),
        ("baseline", ("max_queue_size", "max_queue"), "degradation", "changes max_queue_size"),
        ("baseline", ("model: deepseek-chat", "api_key: sk-1"), "degradation", "api_key"),
        ("contacts", ("llm-budget@example.com]", "nobody]"), "contacts", "nobody"),
        ("alertmanager", ("receiver: page", "receiver: pgae"), "alertmanager", "pgae"),
    ],
)
def test_a_mistake_is_named_and_the_other_parts_are_still_checked(
    flag: str, change: tuple[str, str], part: str, words: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    broken = tmp_path / FILES[flag].name
    text = FILES[flag].read_text()
    assert change[0] in text
    broken.write_text(text.replace(*change))
    status, found = check(capsys, f"--{flag}", str(broken))
    assert status == 1
    assert found[part]["status"] == "error"
    assert words in found[part]["detail"]
    assert found["thresholds"]["status"] == "ok"
