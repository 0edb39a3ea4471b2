"""A ladder's cheaper model: refused without a price or when dearer, and its saving foreseen."""

import json
from argparse import Namespace
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from alertmanager.receiver.ladder.effective import effective
from alertmanager.receiver.ladder.ladder import parse_ladder
from command.main import main
from command.swaps import find_swaps, judge_swaps
from common.clock import SystemClock
from demo.pipeline import CYCLE_SECONDS, Pipeline
from demo.provider import Provider
from demo.trace import read_trace
from tests.support.exporters import Exporter, event
from tests.support.ladders import BASELINE_FILE, LADDER_FILE, shipped_baseline

PRICES = """
prices:
  deepseek-chat: &usual
    {input_usd_per_1k: 0.00027, cached_input_usd_per_1k: 0.00007, output_usd_per_1k: 0.0011}
  lite: {input_usd_per_1k: 0.0001, cached_input_usd_per_1k: 0.00003, output_usd_per_1k: 0.0004}
  twin: *usual
  wordy: {input_usd_per_1k: 0.0001, output_usd_per_1k: 0.009}
  free: {input_usd_per_1k: 0, output_usd_per_1k: 0}
  late:
    - {input_usd_per_1k: 0.0001, output_usd_per_1k: 0.0004, valid_from: "2999-01-01"}
"""
LADDER = "levels:\n  - level: control\n    set: {model: %s}\n"


def judged(
    folder: Path, ladder: str, baseline: str = '{"model": "deepseek-chat"}'
) -> list[tuple[str, str]]:
    """What is said of a ladder with the ledger and the budget.yml of a folder."""
    (folder / "ladder.yml").write_text(ladder)
    (folder / "llm.json").write_text(baseline)
    if not (folder / "budget.yml").exists():
        (folder / "budget.yml").write_text(PRICES)
    names = ("ladder.yml", "llm.json", "budget.yml", "ledger.sqlite")
    return list(judge_swaps(files(*(folder / name for name in names))))


def files(*paths: Path) -> Namespace:
    """What check hands on."""
    keys = ("ladder", "baseline", "config", "ledger")
    return Namespace(**dict(zip(keys, paths, strict=True)))


def books(folder: Path, *events: dict[str, Any], config: str = PRICES) -> Decimal:
    """What a ledger of these calls, made today, has cost."""
    with Exporter(folder, config, now=SystemClock().now()) as exporter:
        for start in range(0, len(events), 5000):
            exporter.book(*events[start : start + 5000])
        return exporter.spend()


def replay(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The calls that the demo's scraper makes of its trace, with the provider's own usage."""
    provider, pipeline, waiting = Provider(Decimal(1000)), Pipeline(), iter(read_trace())
    arrivals = defaultdict(list)
    for task in waiting:
        arrivals[int(task.at // CYCLE_SECONDS) + 1].append(task)
    events = []
    for cycle in range(1, max(arrivals) + 1):
        now = cycle * CYCLE_SECONDS
        for task, outcome in pipeline.cycle(now, config, arrivals[cycle]):
            if outcome == "call":
                words = [f"field-{task.field}"] * 128 + [f"product-{task.product}"]
                words += ["word"] * max(0, task.prompt_tokens - 129)
                usage = provider._charge(words, task.completion_tokens)
                more = {"field": task.field, "model": config["model"], "usage": usage}
                events.append(event(roaster=task.roaster, **more))
    return events


def test_the_saving_foreseen_on_the_demos_trace_is_the_one_that_its_replay_books(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ladder = tmp_path / "degradation.yml"
    text = LADDER_FILE.read_text()
    shipped = "# model: gemini-2.5-flash-lite"
    assert text.count(shipped) == 1
    ladder.write_text(text.replace(shipped, "model: gemini-2.5-flash-lite"))
    baseline = shipped_baseline()
    before = replay(baseline)
    assert len(before) > 800
    cost = books(tmp_path / "before", *before)
    # The same calls: what else `control` does saves on top, and is the rehearsal's to say.
    cheaper = [{**call, "model": "gemini-2.5-flash-lite"} for call in before]
    after = books(tmp_path / "after", *cheaper)
    assert 0 < after < cost
    ledger = tmp_path / "before" / "ledger.sqlite"
    main(["check", "--json", "--ladder", str(ladder), "--ledger", str(ledger)])
    (found,) = [one for one in json.loads(capsys.readouterr().out) if one["part"] == "models"]
    assert found["status"] == "ok", found
    assert found["detail"] == (
        "level control sets model to gemini-2.5-flash-lite instead of deepseek-chat: "
        f"{len(before)} calls of the last seven days cost ${after} instead of ${cost} "
        f"({float(after / cost) - 1:+.1%})"
    )
    scrapers = effective(parse_ladder(ladder.read_bytes(), ladder), baseline, "control").document
    assert scrapers["model"] == "gemini-2.5-flash-lite"


@pytest.mark.parametrize(
    ("model", "status", "words"),
    [
        ("lite", "ok", "cost $0.00014 instead of $0.00038 (-63.2%)"),
        ("twin", "ok", "cost $0.00038 instead of $0.00038 (+0.0%)"),
        ("free", "ok", "cost $0 instead of $0.00038 (-100.0%)"),
        ("wordy", "error", "cost $0.001 instead of $0.00038 (+163.2%); a step must not be dearer"),
        (
            "gpt-nobody-9",
            "error",
            "nobody prices 'gpt-nobody-9'; give it a price under",
        ),
        ("late", "error", "nobody prices"),
    ],
)
def test_a_model_is_judged_by_the_tokens_of_the_one_it_replaces(
    model: str, status: str, words: str, tmp_path: Path
) -> None:
    books(tmp_path, event(1000, 100), event(10, 100_000, model="lite"))
    ((found, said),) = judged(tmp_path, LADDER % model)
    assert (found, words in said) == (status, True), said
    assert said.startswith(f"level control sets model to {model}")


def test_what_a_free_model_is_replaced_by_is_dearer(tmp_path: Path) -> None:
    books(tmp_path, event(model="free"))
    ((status, said),) = judged(tmp_path, LADDER % "lite", '{"model": "free"}')
    assert status == "error"
    assert "instead of $0 (which is free)" in said


def test_the_ledgers_spelling_of_the_model_may_have_a_date_or_a_provider(tmp_path: Path) -> None:
    books(tmp_path, event(model="gpt-4o-2024-08-06"), event(model="openai/gpt-4o"), event(5))
    ((status, said),) = judged(tmp_path, LADDER % "lite", '{"model": "gpt-4o"}')
    assert (status, ": 2 calls of the" in said) == ("ok", True), said


def test_a_field_is_judged_by_its_own_tokens(tmp_path: Path) -> None:
    """`wordy` pays where the answers are short."""
    books(tmp_path, event(10_000, 1, field="weight"), event(1000, 1000, field="notes"))
    ladder = "levels:\n  - level: control\n    set: {field_configs.%s.model: wordy}\n"
    baseline = '{"model": "deepseek-chat", "field_configs": {"weight": {}, "notes": {}}}'
    ((status, said),) = judged(tmp_path, ladder % "weight", baseline)
    assert (status, ": 1 calls of the" in said) == ("ok", True), said
    assert judged(tmp_path, ladder % "notes", baseline)[0][0] == "error"


@pytest.mark.parametrize("prepare", [None, "empty", "old", "damaged"])
def test_without_a_ledger_it_says_so_and_asks_only_for_a_price(
    prepare: str | None, tmp_path: Path
) -> None:
    if prepare == "old":
        with Exporter(tmp_path, PRICES, now=SystemClock().now() - 9 * 86_400) as exporter:
            exporter.book(event())
    elif prepare:
        books(tmp_path)
    if prepare == "damaged":
        (tmp_path / "ledger.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    ((status, said),) = judged(tmp_path, LADDER % "wordy")
    assert status == "warning"
    assert "what it saves is not known: " in said
    assert judged(tmp_path, LADDER % "nobodys")[0][0] == "error"


def test_a_model_that_replaces_one_without_a_price_cannot_be_compared(tmp_path: Path) -> None:
    books(tmp_path, event())
    ((status, said),) = judged(tmp_path, LADDER % "lite", '{"model": "our-own"}')
    assert (status, "is not known: nobody prices 'our-own'" in said) == ("warning", True)
    ((status, said),) = judged(tmp_path, LADDER % "lite", '{"batch": 1}')
    assert (status, "is not known: nobody prices '(no model)'" in said) == ("warning", True)


def test_every_level_tuning_field_and_roaster_that_changes_a_model_is_found(tmp_path: Path) -> None:
    ladder = """
levels:
  - {level: low, set: {model: b}}
  - {level: high, set: {model: c, field_configs.*.llmModel: d, size: model}}
tunings:
  - {tuning: cheap, set: {model: e}}
  - {tuning: one, scope: field, set: {"field_configs.{field}.model": f}}
  - {tuning: roaster, scope: roaster, level: high}
"""
    baseline = {
        "model": "a",
        "field_configs": {"notes": {"model": "n"}, "weight": {}},
        "roasters": {"naivo": {"model": "own"}, "rumi": {"batch": 1}},
    }
    found = find_swaps(parse_ladder(ladder.encode(), tmp_path / "x.yml"), baseline)
    assert [
        (said.partition(" sets ")[0], ".".join(path), old, new) for said, path, new, old in found
    ] == [
        ("level low", "model", "a", "b"),
        ("level low", "roasters.naivo.model", "own", "b"),
        ("level high", "model", "b", "c"),
        ("level high", "field_configs.notes.llmModel", "(no model)", "d"),
        ("level high", "field_configs.weight.llmModel", "(no model)", "d"),
        ("level high", "roasters.naivo.model", "b", "c"),
        ("tuning cheap", "model", "a", "e"),
        ("tuning cheap", "roasters.naivo.model", "own", "e"),
        ("tuning one", "field_configs.notes.model", "n", "f"),
        ("tuning one", "field_configs.weight.model", "a", "f"),
    ]


def test_a_step_up_again_is_dearer_than_the_level_below(tmp_path: Path) -> None:
    books(tmp_path, event())
    ladder = LADDER % "free" + "  - level: emergency\n    set: {model: lite}\n"
    assert [status for status, _ in judged(tmp_path, ladder)] == ["ok", "error"]


@pytest.mark.parametrize(
    ("ladder", "baseline"),
    [
        ("levels: []", '{"model": "a"}'),
        (LADDER % "lite", "[]"),
        (LADDER % "lite" + "tunings: [{tuning: t, scope: field}]\n", '{"field_configs": 5}'),
    ],
)
def test_a_file_that_is_wrong_is_left_to_its_own_check(
    ladder: str, baseline: str, tmp_path: Path
) -> None:
    assert judged(tmp_path, ladder, baseline) == []


def test_what_ships_sets_no_model(tmp_path: Path) -> None:
    (budget := tmp_path / "budget.yml").write_text("")
    assert list(judge_swaps(files(LADDER_FILE, BASELINE_FILE, budget, tmp_path / "none"))) == []
