"""llm-budget rehearse: the scraper at each level, what it would be booked as, and who raised it."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from command.main import main
from command.rehearse import CANNOT_TELL, DryRun
from common.clock import SystemClock, iso8601
from exporter.config import Config, load_config
from exporter.event import parse_event
from exporter.ledger.ledger import Ledger
from tests.support.ladders import BASELINE_FILE, LADDER_FILE
from tests.support.paths import ROOT
from tests.support.waiting import until

DAY = 86_400
# A scraper: it calls by the config's `calls`, a number of calls for each field.
SCRAPER = """
import os, sys, time
sys.path.insert(0, {sdk!r})
from client import current, record
config, model = current(), "deepseek-chat"
def call(field="notes", tokens=1000, **more):
    usage = {{"prompt_tokens": tokens, "completion_tokens": 0}}
    record("naivo", field, usage=usage, **{{"model": model, **more}})
"""
LADDER = """
levels:
  - level: low
    at_most: {notes: 3}
  - level: high
    at_most: {notes: 2}
    set: {extra: true, harmless: true}
    at_least: {weight: 1}
"""
CALLS = """
for field in ("notes", "weight"):
    for _ in range(config[field]):
        call(field)
for _ in range(4 * config.get("extra", False)):
    call("weight")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ladder and a baseline to rehearse with; temporary folders lie in it."""
    (tmp_path / "ladder.yml").write_text(LADDER)
    (tmp_path / "llm.json").write_text('{"notes": 4, "weight": 1}')
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    return tmp_path


def scraper(folder: Path, body: str) -> list[str]:
    """The command of a scraper with this body; -S: it starts in half the time."""
    script = folder / "scraper.py"
    text = SCRAPER.format(sdk=str(ROOT / "sdk")) + textwrap.dedent(body)
    script.write_text(text)
    return [sys.executable, "-S", str(script)]


def files(folder: Path) -> list[str]:
    return ["--ladder", str(folder / "ladder.yml"), "--baseline", str(folder / "llm.json")]


def rehearse(folder: Path, body: str, *flags: str) -> int:
    return main(["rehearse", *files(folder), *flags, "--", *scraper(folder, body)])


def rehearse_json(
    capsys: pytest.CaptureFixture[str], folder: Path, body: str, *flags: str
) -> tuple[int, dict[str, Any]]:
    status = rehearse(folder, body, "--json", *flags)
    assert not list((folder / "temporary").iterdir())
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("reading", "right"), [("ask_below", True), (None, False)])
def test_the_demos_scraper_passes_with_its_reading_and_fails_with_the_other_by_name(
    reading: str | None, right: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = LADDER_FILE.read_text()
    ladder = tmp_path / "degradation.yml"
    ladder.write_text(text + (f"confidence_threshold: {reading}\n" if reading else ""))
    command = [sys.executable, "-m", "demo.dry_run"]
    status = main(["rehearse", "--ladder", str(ladder), "--json", "--", *command])
    found = json.loads(capsys.readouterr().out)
    assert [row["level"] for row in found["levels"]] == [
        "none", "conserve", "control", "emergency", "fallback",
    ]  # fmt: skip
    assert found["levels"][-1]["calls"] == 0
    if right:
        assert (status, found["rises"]) == (0, [])
        assert found["levels"][2]["change"] < -0.05
    else:
        (rise,) = found["rises"]
        assert (status, rise["level"], rise["below"]) == (1, "control", "conserve")
        assert list(rise["operations"]) == ["raise.field_configs.*.confidence_threshold"]
        page = (ROOT / "docs" / "adopt.md").read_text()
        assert all(
            f"{row['tokens']}" in page and row["cost_usd"] in page for row in found["levels"]
        )
        assert f"costs ${rise['by_usd']} more than" in page


def test_calls_tokens_and_cost_are_exact_and_a_rise_is_named_with_its_operation(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = rehearse_json(capsys, folder, CALLS, "--by-field")
    keys = ("level", "field", "calls", "tokens", "cost_usd")
    assert [tuple(row[key] for key in keys) for row in found["levels"]] == [
        ("none", "", 5, 5000, "0.00135"),
        ("none", "notes", 4, 4000, "0.00108"),
        ("none", "weight", 1, 1000, "0.00027"),
        ("low", "", 4, 4000, "0.00108"),
        ("low", "notes", 3, 3000, "0.00081"),
        ("low", "weight", 1, 1000, "0.00027"),
        ("high", "", 7, 7000, "0.00189"),
        ("high", "notes", 2, 2000, "0.00054"),
        ("high", "weight", 5, 5000, "0.00135"),
    ]
    assert [row["change"] for row in found["levels"]][3:5] == [pytest.approx(-0.2), -0.25]
    rise = {"level": "high", "below": "low", "by_usd": "0.00081"}
    assert (status, found["rises"]) == (1, [{**rise, "operations": {"set.extra": "0.00108"}}])


def test_people_read_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rehearse(folder, CALLS) == 1
    captured = capsys.readouterr()
    assert "-20.0%" in captured.out
    assert "high costs $0.00081 more than low.\n" in captured.out
    assert "  set.extra does so: alone, on top of low, it adds $0.00108.\n" in captured.out
    assert captured.err == ""


def test_equal_cost_is_allowed_and_that_no_level_saves_anything_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = rehearse_json(capsys, folder, "call()")
    assert (status, found["rises"]) == (0, [])
    assert found["notes"] == [
        "No level saves anything: does the scraper read LLM_BUDGET_EFFECTIVE?"
    ]


def test_a_rise_that_needs_two_operations_is_still_a_rise(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = "for _ in range(5 + (config.get('extra', 0) and config.get('harmless', 0))): call()"
    assert rehearse(folder, body) == 1
    assert "None of its operations does so alone." in capsys.readouterr().out


def test_calls_that_were_folded_because_the_spool_was_full_count(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_BUDGET_SPOOL_MAX_BYTES", "400")
    found = rehearse_json(capsys, folder, CALLS)[1]
    assert [row["calls"] for row in found["levels"]] == [5, 4, 7]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("print('no key'); sys.exit(3)", "none: {python} ended with status 3: no key"),
        (r"print('\x1b[31mred'); sys.exit(3)", "none: {python} ended with status 3:  [31mred"),
        ("os.kill(os.getpid(), 9)", "none: {python} ended with status -9"),
        ("time.sleep(60)", "none: {python} did not end within its timeout of 0.5 s"),
        ("pass", "at level none nothing was recorded that costs money: a dry run must record()"),
        ("call(outcome='error', tokens=0)", "at level none nothing was recorded that costs money"),
        ("call(model='nobody-sells-this')", "is not known: nobody-sells-this has no price"),
        ("call(event_id='1'); call(event_id='1', tokens=2)", "is not known: conflict: this id was"),
        ("call(tokens=9); call(tokens=-1)", "none: the cost of what it recorded is not known: "),
        ("if 'extra' in config: sys.exit(1)\ncall()", "high: {python} ended with status 1"),
        (
            "call(tokens=len(open('runs', 'a+').name) + os.path.getsize('runs'))\n"
            "open('runs', 'a').write('more')",
            "level none cost $0.00000108 at first and $0.00000432 at the end: a dry run must be",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_one_sentence_and_never_a_verdict(
    body: str, words: str, folder: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    timeout = "0.5" if "sleep" in body else "30"
    assert rehearse(folder, body, "--timeout", timeout) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("llm-budget rehearse: ")
    assert words.format(python=sys.executable) in captured.err
    assert not list((folder / "temporary").iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say what to run, as in `llm-budget rehearse -- python"),
        (["--from-ledger", "1d", "--", "true"], "say what to run"),
        (["--", "/nowhere/scraper"], "/nowhere/scraper cannot be run: No such file or directory"),
        (["--", str(LADDER_FILE)], "cannot be run: Permission denied"),
        (["--timeout", "nan", "--", "sleep", "9"], "--timeout nan must be above 0 seconds"),
        (["--timeout", "-1", "--", "sleep", "9"], "--timeout -1 must be above 0 seconds"),
        (["--ladder", "/nowhere", "--", "true"], "cannot read /nowhere"),
        (["--from-ledger", "0d"], "--from-ledger '0d' is no number of days; 1d is yesterday"),
        (["--from-ledger", "1d", "--ledger", "/nowhere/l"], "there is no ledger at /nowhere/l"),
    ],
)
def test_a_mistake_in_the_command_is_one_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rehearse", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_command_sees_no_token_of_ours(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_BUDGET_INGEST_TOKEN", "secret")
    monkeypatch.setenv("PROVIDER_TOKEN", "its own")
    body = """
        ours = [name for name in os.environ if name.startswith("LLM_BUDGET_") and "TOKEN" in name]
        assert not ours and os.environ["PROVIDER_TOKEN"]
        call()
    """
    assert rehearse(folder, body) == 0


def test_a_database_with_other_accounts_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(tmp_path / "other") as db:
        db.execute("CREATE TABLE accounts (day TEXT, a)")
        db.execute("CREATE TABLE meta (key TEXT, value TEXT)")
        yesterday = iso8601(SystemClock().now() - DAY)[:10]
        db.execute("INSERT INTO accounts VALUES (?, 'x')", (yesterday,))
    assert main(["rehearse", "--from-ledger", "2d", "--ledger", str(tmp_path / "other")]) == 2
    assert "cannot read the ledger" in capsys.readouterr().err


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


LEAVES_ONE_BEHIND = """
import signal, subprocess
ignores = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=1); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", ignores], stdout=subprocess.PIPE)
child.stdout.readline()
open({pids!r}, "w").write(f"{{os.getpid()}} {{child.pid}}\\n")
call()
"""


@pytest.mark.parametrize("then", ["", "time.sleep(60)"], ids=["ends", "hangs"])
def test_nothing_that_a_run_started_is_left(
    then: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pids = folder / "pids"
    body = LEAVES_ONE_BEHIND.format(pids=str(pids)) + then
    assert rehearse(folder, body, "--timeout", "1" if then else "30") == (2 if then else 0)
    for pid in map(int, pids.read_text().split()):
        until(lambda pid=pid: not alive(pid), what="the end of what a run started")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_or_a_closed_terminal_ends_the_run_with_all_it_started_and_leaves_no_folder(
    number: signal.Signals, folder: Path
) -> None:
    pids = folder / "pids"
    body = LEAVES_ONE_BEHIND.format(pids=str(pids)) + "time.sleep(60)"
    argv = ["rehearse", *files(folder), "--", *scraper(folder, body)]
    ours = subprocess.Popen(
        [sys.executable, "-m", "command.main", *argv],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder / "temporary")},
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # not so under nohup
    )
    until(lambda: pids.exists() and pids.read_text().endswith("\n"), what="a run under way")
    ours.send_signal(number)
    assert (ours.communicate(timeout=20)[1], ours.returncode) == (b"", 128 + number)
    for pid in map(int, pids.read_text().split()):
        until(lambda pid=pid: not alive(pid), what="the end of what the run started")
    assert not list((folder / "temporary").iterdir())


def test_the_scraper_gets_its_arguments_a_config_like_the_baseline_and_no_other_source(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "llm.yml").write_text("notes: 4\nweight: 1\n")
    monkeypatch.setenv("LLM_BUDGET_CONFIG_URL", "http://127.0.0.1:1/config")
    body = """
    assert sys.argv[1:] == ["--json", "--", "x"], sys.argv
    assert os.environ["LLM_BUDGET_EFFECTIVE"].endswith(".yml")
    """
    flags = ["--ladder", str(folder / "ladder.yml"), "--baseline", str(folder / "llm.yml")]
    python, _, script = scraper(folder, body + CALLS.replace("\n", "\n    "))
    command = [python, script, "--json", "--", "x"]
    assert main(["rehearse", *flags, "--", *command]) == 1, capsys.readouterr().err


def test_all_runs_are_priced_at_one_moment_whatever_the_time_of_day(folder: Path) -> None:
    budget = folder / "budget.yml"
    price = "{valid_from: %s, input_usd_per_1k: %s, output_usd_per_1k: 1}"
    first, then = (price % pair for pair in (("2020-01-01", 1), ("2026-01-01", 2)))
    budget.write_text(f"prices:\n  deepseek-chat:\n  - {first}\n  - {then}\n")
    command, config = scraper(folder, "call()"), load_config(budget)
    costs = []
    for at in (1_750_000_000.0, SystemClock().now()):
        file = folder / f"{at}" / "effective.json"
        file.parent.mkdir()
        file.write_text("{}")
        costs.append(DryRun(command, 30.0, config, at).run("none", file))
    assert [sum(sums.cost_picodollars for sums in one.values()) for one in costs] == [
        1 * 10**12, 2 * 10**12,
    ]  # fmt: skip


@pytest.fixture
def ledger(folder: Path) -> Path:
    """Yesterday's books, beside those of today and of eight days ago."""
    books = folder / "ledger.sqlite"
    opened = Ledger(books, Config(), SystemClock())
    now = SystemClock().now()
    calls = [
        ("naivo", "notes", 1000, 1), ("naivo", "weight", 2000, 1),
        ("rumi-dammi", "weight", 3000, 1),
        ("naivo", "notes", 7000, 0), ("naivo", "notes", 9000, 8),
    ]  # fmt: skip
    for roaster, field, tokens, days in calls:
        usage = {"prompt_tokens": tokens, "completion_tokens": 0}
        labels = {"roaster": roaster, "field": field, "model": "deepseek-chat"}
        event = {**labels, "outcome": "success", "usage": usage, "time": iso8601(now - days * DAY)}
        opened.submit([parse_event(event, now)]).result()
    opened.close()
    return books


def test_yesterdays_books_tell_what_fields_and_roasters_that_are_off_save(
    folder: Path, ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = folder / "llm.yml"
    baseline.write_text(
        BASELINE_FILE.read_text().replace(
            "roasters: {}", "roasters: {rumi-dammi: {enabled: false}}"
        )
    )
    flags = ["--from-ledger", "1d", "--ledger", str(ledger), "--baseline", str(baseline)]
    assert main(["rehearse", *flags, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["level"], row["tokens"], Decimal(row["cost_usd"])) for row in found["levels"]] == [
        ("none", 3000, Decimal("0.00081")),  # rumi-dammi is off
        ("conserve", 3000, Decimal("0.00081")),
        ("control", 3000, Decimal("0.00081")),
        ("emergency", 2000, Decimal("0.00054")),  # notes are off
        ("fallback", 0, 0),
    ]
    assert found["notes"] == [CANNOT_TELL]


def test_several_days_of_the_books_and_their_tokens_without_a_price(
    folder: Path, ledger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened, now = Ledger(ledger, Config(), SystemClock()), SystemClock().now()
    usage = {"prompt_tokens": 5, "completion_tokens": 0}
    event = {"model": "nobody-sells-this", "outcome": "success", "usage": usage}
    opened.submit([parse_event({**event, "time": iso8601(now - DAY)}, now)]).result()
    opened.close()
    assert main(["rehearse", "--from-ledger", "8d", "--ledger", str(ledger), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["levels"][0]["tokens"] == 15_005
    assert found["notes"][1].startswith("The cost of 5 tokens without a price is missing")


def test_books_without_any_price_point_to_reprice(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened, now = Ledger(folder / "ledger.sqlite", Config(), SystemClock()), SystemClock().now()
    usage = {"prompt_tokens": 5, "completion_tokens": 0}
    event = {"model": "nobody-sells-this", "outcome": "success", "usage": usage}
    opened.submit([parse_event({**event, "time": iso8601(now - DAY)}, now)]).result()
    opened.close()
    books = str(folder / "ledger.sqlite")
    assert main(["rehearse", "--from-ledger", "1d", "--ledger", books]) == 2
    said = "money: cost of 5 tokens without a price is missing; see `llm-budget reprice`"
    assert said in capsys.readouterr().err


def test_days_without_books_are_no_saving(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = folder / "ledger.sqlite"
    Ledger(empty, Config(), SystemClock()).close()
    assert main(["rehearse", "--from-ledger", "1d", "--ledger", str(empty)]) == 2
    assert "has no books from " in capsys.readouterr().err
