"""llm-budget backtest: histories, the order of rules, judging, drawing; the real rules replayed."""

import gzip
import json
import math
import os
import signal
import statistics
import subprocess
import sys
from datetime import date
from decimal import Decimal
from itertools import accumulate
from pathlib import Path

import pytest

from command.main import main
from command.paths import RULES
from command.replay import picture
from command.replay.history import MAX_DAYS, History, read_csv, read_ledger
from command.replay.judge import days, summary
from command.replay.openmetrics import PUBLISHED
from command.replay.replay import Replay, replay
from command.replay.rulefiles import Rule, document, levels, load
from command.thresholds import thresholds
from common.errors import UserError
from common.names import FORECAST
from exporter.ledger.schema import open_ledger
from tests.benchmarks.forecast import PREDICTED, alarms, measure_composites, real
from tests.support.waiting import until

USD = 10**12
PRICE = Decimal("0.001")


def write(folder: Path, text: str) -> Path:
    path = folder / "usage.csv"
    path.write_text(text)
    return path


def test_tokens_are_priced_summed_by_minute_and_missing_minutes_are_zero(tmp_path: Path) -> None:
    path = write(tmp_path, "minute,tokens\n2,1000\n0,1\n2,500\n")
    assert read_csv(path, PRICE).picodollars == [USD // 1000, 0, 3 * USD // 2]


def test_a_cost_column_needs_no_price_and_a_gz_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "usage.csv.gz"
    path.write_bytes(gzip.compress(b"cost_usd,minute\n0.25,1\n"))
    assert read_csv(path, PRICE).picodollars == [0, USD // 4]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("minute,tokens\n0,1\n1,x\n", "line 3: tokens 'x'"),
        ("minute,tokens\n0,-1\n", "line 2: tokens '-1'"),
        ("minute,tokens\n0,nan\n", "line 2: tokens 'nan'"),
        ("minute,tokens\n0,1e400\n", "line 2: tokens '1e400'"),
        ("minute,tokens\n0\n", "line 2: tokens None"),
        ("minute,tokens\n0.5,1\n", "line 2: minute '0.5'"),
        ("minute,tokens\n-1,1\n", "line 2: minute '-1'"),
        (f"minute,tokens\n{MAX_DAYS * 1440},1\n", "line 2: minute '576000'"),
        ("time,tokens\n0,1\n", "line 1: the columns must be"),
        ("", "line 1: the columns must be"),
        ("minute,tokens\n", "no lines after its header"),
    ],
)
def test_a_bad_line_is_named(text: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_csv(write(tmp_path, text), PRICE)
    assert line in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"minute,tokens\n" + b'"' * 200_000])
def test_what_is_no_csv_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "usage.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"usage\.csv"):
        read_csv(path, PRICE)
    path = tmp_path / "usage.csv.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot read"):
        read_csv(path, PRICE)


def test_a_last_day_whose_last_hour_is_quiet_is_whole(tmp_path: Path) -> None:
    assert len(read_csv(write(tmp_path, "minute,tokens\n1380,5\n"), PRICE).picodollars) == 1440
    assert len(read_csv(write(tmp_path, "minute,tokens\n1379,5\n"), PRICE).picodollars) == 1380


def test_a_damaged_gz_is_one_sentence_and_a_byte_order_mark_is_no_name(tmp_path: Path) -> None:
    packed = bytearray(
        gzip.compress(b"minute,tokens\n" + b"".join(b"%d,7\n" % m for m in range(999)))
    )
    packed[500:600] = bytes(100)
    path = tmp_path / "damaged.csv.gz"
    path.write_bytes(packed)
    with pytest.raises(UserError, match="cannot read"):
        read_csv(path, PRICE)
    assert read_csv(write(tmp_path, "\ufeffminute,tokens\n0,0\n"), PRICE).picodollars == [0]


def test_a_ledger_gives_its_days_spread_evenly_to_the_last_picodollar(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    db = open_ledger(path)
    zeros = ", ".join(["0"] * 8)
    for day, cost in (("2026-11-20", 1441), ("2026-11-22", 2880)):
        db.execute(
            "INSERT INTO accounts (day, roaster, field, model, price_version, success, error, "
            "rate_limited, cached, fallback, input_tokens, cached_input_tokens, output_tokens, "
            "cost_picodollars, estimated_cost_picodollars, late_cost_picodollars, batch_items, "
            f"batch_slots) VALUES (?, 'r', 'f', 'm', 0, {zeros}, ?, 0, 0, 0, 0)",
            (str(date.fromisoformat(day)), cost),
        )
    db.close()
    history = read_ledger(path)
    assert [sum(history.day(number)) for number in range(history.days)] == [1441, 0, 2880]
    assert history.day(0)[:2] == [2, 1]


def test_a_ledger_without_cost_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    open_ledger(tmp_path / "empty.sqlite").close()
    with pytest.raises(UserError, match="no cost yet"):
        read_ledger(tmp_path / "empty.sqlite")
    with pytest.raises(UserError, match="cannot read the ledger"):
        read_ledger(write(tmp_path, "minute,tokens\n"))
    with pytest.raises(UserError, match="cannot read the ledger"):
        read_ledger(tmp_path / "none.sqlite")


def test_every_pass_of_the_shipped_rules_reads_earlier_passes_only() -> None:
    rules = load(RULES)
    passes = levels(rules, {FORECAST}, PUBLISHED)
    recorded = {rule.name for rule in rules if "record" in rule.body}
    seen: set[str] = set()
    for rules_of_pass in passes:
        for rule in rules_of_pass:
            assert rule.reads & recorded <= seen, rule.name
        seen |= {rule.name for rule in rules_of_pass}
    assert FORECAST in seen


def test_all_rules_of_a_name_come_in_one_pass_and_keep_their_group() -> None:
    rules = [
        Rule("a", {"record": "x:llm_a:y", "expr": "llm_raw"}),
        Rule("a", {"record": "x:llm_b:y", "expr": "vector(1)", "labels": {"k": "1"}}),
        Rule("b", {"record": "x:llm_b:y", "expr": "x:llm_a:y", "labels": {"k": "2"}}),
    ]
    first, second = levels(rules, {"x:llm_b:y"}, ["llm_raw"])
    assert first == rules[:1]
    assert second == rules[1:]
    assert [group["name"] for group in document(second)["groups"]] == ["a", "b"]


def test_rules_that_wait_for_each_other_are_named() -> None:
    rules = [
        Rule("g", {"record": "x:llm_a:y", "expr": "x:llm_b:y"}),
        Rule("g", {"record": "x:llm_b:y", "expr": "x:llm_a:y"}),
    ]
    with pytest.raises(UserError, match="x:llm_a:y, x:llm_b:y"):
        levels(rules, {"x:llm_a:y"}, [])


def test_the_durations_of_an_alert_are_read() -> None:
    rule = Rule("g", {"alert": "A", "expr": "1", "for": "1h30m"})
    assert (rule.seconds("for"), rule.seconds("keep_firing_for")) == (5400, 0)


def judged_example() -> Replay:
    """Day 0 spends $10; day 1 twice that; day 2 is half over. The limit is $15."""
    minutes = [USD // 144] * 1440 + [USD // 72] * 1440 + [USD // 144] * 720
    forecast = {minute: 12.5 if minute < 1440 else 16.0 for minute in range(0, 3600, 10)}
    firing = {
        PREDICTED: [*range(1200, 1450, 10), *range(1500, 1600, 10), 1700],
        "LLMBudgetWarning": [2800],
    }
    return Replay(History(minutes), Decimal(15), 10, forecast=forecast, firing=firing)


def test_a_day_is_judged_by_its_total_its_crossing_and_its_own_alerts() -> None:
    first, second, third = days(judged_example())
    assert first.total_usd == pytest.approx(10, abs=0.01)
    assert first.error[1] == pytest.approx(0.25, abs=0.01)
    assert (first.crossed_minute, first.alerts[PREDICTED].false_alarm) == (None, True)
    assert second.crossed_minute == 1081
    firing = second.alerts[PREDICTED]
    assert (firing.first_minute, firing.episodes) == (60, 2), "yesterday's end is not today's start"
    assert firing.lead_hours == pytest.approx(1021 / 60)
    assert not firing.false_alarm
    assert (second.alerts["LLMBudgetWarning"].lead_hours or 0) < 0
    assert (third.complete, third.error, third.alerts) == (False, {}, {})


def test_the_summary_leaves_out_the_first_and_the_unfinished_day() -> None:
    figures = summary(days(judged_example()))
    assert figures["mean_error"] == pytest.approx(0.2, abs=0.01)
    assert figures["alerts"][PREDICTED] == {
        "days_crossed": 1,
        "days_foretold": 1,
        "median_lead_hours": pytest.approx(1021 / 60),
        "days_calm": 0,
        "false_alarm_days": 0,
    }
    assert summary([])["mean_error"] is None


def test_a_day_without_spend_has_no_relative_error() -> None:
    (day,) = days(Replay(History([0] * 1440), Decimal(1), 10, forecast={60: 0.0}))
    assert (day.total_usd, day.error, day.mean_error) == (0, {}, None)


def test_the_picture_shows_each_day_and_marks_false_alarms(tmp_path: Path) -> None:
    example = judged_example()
    path = tmp_path / "picture.svg"
    picture.write(path, example, days(example), thresholds())
    svg = path.read_text()
    assert svg.startswith("<svg")
    assert [f">day {number}<" in svg for number in range(4)] == [True, True, True, False]
    assert f"<title>{PREDICTED}</title>" in svg
    assert "limit reached at 18:01" in svg
    assert "exhausted" in svg


def test_a_picture_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    example = judged_example()
    for name in ("picture.gif", "picture.png"):
        with pytest.raises(UserError, match=r"name a file that ends in \.svg"):
            picture.write(tmp_path / name, example, [], {})
    with pytest.raises(UserError, match="cannot write"):
        picture.write(tmp_path / "none" / "picture.svg", example, [], {})


def formula(totals: list[float], shares: list[float], spent: float) -> float:
    """docs/forecast.md in Python: the last days' totals and shares, yesterday first."""
    weights = [0.7**back for back in range(len(totals))]
    logs = [math.log(total) for total in totals]
    usual = math.exp(sum(w * x for w, x in zip(weights, logs, strict=True)) / sum(weights))
    share = sum(w * x for w, x in zip(weights, shares, strict=True)) / sum(weights)
    spread = (statistics.pvariance(logs) * len(logs) + 3 * 0.25) / (len(logs) + 2)
    shape = 0.01 * (1 - share) / share
    trust = spread / (spread + shape)
    day = usual * math.exp(trust * math.log(spent / share / usual) - trust * shape)
    return spent + (1 - share) * day


@pytest.mark.slow
def test_the_real_rules_on_real_days_say_what_the_formula_says_and_are_good_at_it() -> None:
    history = real([0, 1, 2, 3, 4])
    result = replay(history, Decimal(1), interval_minutes=10, alerts=False)
    spent = [[0, *accumulate(history.day(day))] for day in range(5)]
    for day in range(1, 5):
        before = [spent[day - back] for back in range(1, day + 1)]
        for hour in range(1, 24):
            expected = formula(
                [past[-1] / USD for past in before],
                [past[60 * hour] / past[-1] for past in before],
                spent[day][60 * hour] / USD,
            )
            # The replay's groups run at other seconds of the ten minutes.
            assert result.forecast[1440 * day + 60 * hour] == pytest.approx(expected, rel=0.02)
    assert summary(days(result))["mean_error"] <= 0.16


@pytest.mark.slow
def test_on_composites_it_foretells_a_crossing_hours_ahead_without_false_alarms() -> None:
    """A quick part of make bench-forecast: every fifth day, two of which cross $25."""
    judged = measure_composites([(day, day % 5) for day in range(7, 31, 5)], 25, 10)
    errors = [error for day in judged for error in day.error.values()]
    leads, false, calm = alarms(judged)
    assert statistics.fmean(errors) <= 0.33
    assert (len(leads), calm) == (2, 3)
    assert statistics.median(leads) >= 9
    assert false == 0


@pytest.mark.slow
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


@pytest.mark.slow
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
