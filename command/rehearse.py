"""`llm-budget rehearse`: what each level saves, by a dry run of your own scraper at each."""

import argparse
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.text import Text

from alertmanager.receiver.configs import Configs
from alertmanager.receiver.hooks import run_program
from alertmanager.receiver.ladder.effective import effective
from alertmanager.receiver.ladder.ladder import NONE, Ladder
from command.flags import command, file_flag, flag, json_flag, print_json, print_table
from command.paths import BASELINE, BUDGET, LADDER, LEDGER
from command.replay.history import past_days
from common import signals
from common.clock import SystemClock
from common.errors import UserError
from common.money import usd
from common.yamlfile import dump
from exporter.config import Config, Log, load_config
from exporter.intake.counters import IntakeMetrics
from exporter.intake.logs.source import LogSource
from exporter.ledger.books import Amounts, Series
from exporter.ledger.ledger import Ledger
from exporter.ledger.writer import LedgerUnavailableError
from sdk.client import Client

Totals = dict[Series, Amounts]
Run = Callable[[str, Ladder, str], Totals]  # of a name, a ladder and its level; raises UserError
IDLE_ROUNDS = 3  # of the log reader, after which nothing is left to read
CANNOT_TELL = (
    "The books tell what fields and roasters save that are off, not what thresholds, batches, "
    "caches, queues, rate limits and shorter prompts save, nor what a level saved on those days."
)
COLUMNS = ("level", "field", "calls", "tokens", "cost_usd", "change")


@command(
    "run your scraper at each level: what does it save?",
    file_flag("--ladder", LADDER),
    file_flag("--baseline", BASELINE),
    file_flag("--config", BUDGET),
    file_flag("--ledger", LEDGER),
    flag("--by-field", action="store_true", help="each level by field, too"),
    flag("--timeout", type=float, default=600.0, metavar="SECONDS", help="of a run"),
    flag("--from-ledger", metavar="DAYS", help="no runs: what the books of the last 1d, 7d … tell"),
    json_flag(),
    flag("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND…", help="a repeatable dry run"),
)
def rehearse(arguments: argparse.Namespace) -> int:
    """Runs COMMAND at each level, with LLM_BUDGET_EFFECTIVE and LLM_BUDGET_SPOOL set. Exit status:
    1 when a level costs more than the one below, 2 when it cannot be told.
    """
    argv, past = arguments.argv[arguments.argv[:1] == ["--"] :], arguments.from_ledger
    if bool(argv) == bool(past):
        example = "llm-budget rehearse -- python scraper.py --dry-run"
        raise UserError(f"say what to run, as in `{example}`, or --from-ledger 1d")
    if not 0 < arguments.timeout < 1e9:
        raise UserError(f"--timeout {arguments.timeout:g} must be above 0 seconds")
    config, now, notes = load_config(arguments.config), SystemClock().now(), []
    source = DryRun(argv, arguments.timeout, config, now).run
    must = "a dry run must record() its calls, with their usage, in LLM_BUDGET_SPOOL"
    if past:
        if not (days := past.removesuffix("d")).isdecimal() or not 0 < int(days) < 10_000:
            raise UserError(f"--from-ledger {past!r} is no number of days; 1d is yesterday")
        books = past_days(arguments.ledger, int(days), config.budget.calendar.day_of(now))
        source, must = partial(remaining, books.totals), "the books of those days have no cost"
        notes = [CANNOT_TELL]
        if tokens := books.pending_tokens.total():
            must = f"cost of {tokens} tokens without a price is missing; see `llm-budget reprice`"
            notes.append(f"The {must}.")
    file = arguments.baseline
    configs = Configs(arguments.ladder, file, Path(os.devnull))  # each run has a file of its own
    ladder = configs.ladder

    def run(name: str, ladder: Ladder, level: str) -> Totals:
        made = TemporaryDirectory(prefix="llm-budget-rehearse-", ignore_cleanup_errors=True)
        with Console(stderr=True).status(Text(name)), made as folder:
            config_file = Path(folder, f"effective{file.suffix}")
            document = effective(ladder, configs.baseline, level).document
            config_file.write_bytes(dump(document, config_file))
            return source(name, config_file)

    levels = totals_by_level(run, ladder, must)
    if argv and _cost(levels[ladder.names[-1]]) == _cost(levels[NONE]):
        notes.append("No level saves anything: does the scraper read LLM_BUDGET_EFFECTIVE?")
    rises = [*find_rises(run, ladder, levels)]
    report = {"levels": [*_rows(levels, arguments.by_field)], "rises": rises, "notes": notes}
    (print_json if arguments.json else _print)(report)
    return int(bool(rises))


class DryRun(NamedTuple):
    """A command, the seconds that it may take, what prices it, and when (Unix seconds)."""

    argv: list[str]
    timeout: float
    config: Config
    at: float

    def now(self) -> float:
        """The books' clock stands still, or a price by the time of day would tell runs apart."""
        return self.at

    def run(self, name: str, config_file: Path) -> Totals:
        """What the exporter would book of a run with this effective config. Raises UserError."""
        spool = config_file.with_name("spool")
        named = {"EFFECTIVE": str(config_file), "SPOOL": str(spool), "CONFIG_URL": ""}
        known = {**os.environ, **{f"LLM_BUDGET_{key}": value for key, value in named.items()}}
        for key in [key for key in known if key.startswith("LLM_BUDGET_") and "_TOKEN" in key]:
            del known[key]  # so that it cannot deliver a rehearsal to an exporter that wants one
        with signals.noted():
            problem = run_program(self.argv, self.timeout, known, signals.sleep, all_end=True)
        if problem:
            raise UserError(f"{name}: {problem}")
        metrics = IntakeMetrics(CollectorRegistry(), max_models=1)
        try:
            with closing(Ledger(spool.with_name("ledger"), self.config, self)) as ledger:
                source = LogSource([Log(str(spool))], ledger, metrics, self)
                while any(source.poll() for _ in range(IDLE_ROUNDS)):
                    pass
                source.stop()
        except LedgerUnavailableError as error:
            raise UserError(f"{name}: its spool cannot be read: {error}") from error
        wrong = [log.problem or log.last_refusal for log in source.report()]
        wrong += [f"{model} has no price" for model in +ledger.books.unpriced_tokens]
        for problem in filter(None, wrong):
            raise UserError(f"{name}: the cost of what it recorded is not known: {problem}")
        return ledger.books.totals


def remaining(totals: Totals, _name: str, config_file: Path) -> Totals:
    """What a config would have let through: a call that the client allows costs what it cost."""
    with closing(Client(effective=config_file)) as client:
        return {one: totals[one] for one in totals if client.allowed(one.field, one.roaster)}


def totals_by_level(run: Run, ladder: Ladder, must: str) -> dict[str, Totals]:
    """The totals of a run at each level, the lowest first. Raises UserError; must: without any.

    The first level runs again at the end: costs that differ from run to run prove nothing.
    """
    levels: dict[str, Totals] = {}
    for level in ladder.names:
        levels[level] = run(level, ladder, level)
        if not _cost(levels[NONE]):
            raise UserError(f"at level {NONE} nothing was recorded that costs money: {must}")
    first, again = (usd(_cost(totals)) for totals in (levels[NONE], run(NONE, ladder, NONE)))
    if first != again:
        must = "a dry run must be repeatable (the same input and answers, no cache that is kept)"
        raise UserError(f"level {NONE} cost ${first} at first and ${again} at the end: {must}")
    return levels


def find_rises(run: Run, ladder: Ladder, levels: dict[str, Totals]) -> Iterator[dict[str, Any]]:
    """Each level that costs more than the one below, and the operations that do so alone."""
    for rung, (below, level) in zip(ladder.levels, pairwise(levels), strict=True):
        cost, operations = _cost(levels[below]), {}
        if (by := _cost(levels[level]) - cost) <= 0:
            continue
        for step in rung.steps:
            alone = [replace(one, steps=[step]) if one is rung else one for one in ladder.levels]
            totals = run(f"{level}: {step.written}", replace(ladder, levels=alone), level)
            if _cost(totals) > cost:
                operations[step.written] = usd(_cost(totals) - cost)
        yield {"level": level, "below": below, "by_usd": usd(by), "operations": operations}


def _cost(totals: Totals) -> int:
    """Pico-dollars."""
    return sum(amounts.cost_picodollars for amounts in totals.values())


def _rows(levels: dict[str, Totals], by_field: bool) -> Iterator[dict[str, Any]]:
    """Each level (field "") and its fields. change: of the cost, a ratio, from the level below."""
    below: dict[str, int] = {}
    for level, totals in levels.items():
        sums: dict[str, Amounts] = defaultdict(Amounts)
        for series, amounts in totals.items():
            for field in {"", series.field if by_field else ""}:
                sums[field].add(amounts)
        for field in sorted({"", *below, *sums}):
            of, cost, was = sums[field], sums[field].cost_picodollars, below.get(field)
            figures = (of.success + of.error + of.rate_limited, of.tokens, usd(cost))
            change = cost / was - 1 if was else None
            yield dict(zip(COLUMNS, (level, field, *figures, change), strict=True))
            below[field] = cost


def _print(report: dict[str, Any]) -> None:
    for row in report["levels"]:
        row["change"] = "" if row["change"] is None else f"{row['change']:+.1%}"
    print_table(COLUMNS, ([*map(str, row.values())] for row in report["levels"]))
    for rise in report["rises"]:
        print(f"{rise['level']} costs ${rise['by_usd']} more than {rise['below']}.")
        for name, by in rise["operations"].items():
            print(f"  {name} does so: alone, on top of {rise['below']}, it adds ${by}.")
            if name.startswith("raise."):
                print("  Does that threshold have the other `reading`? See docs/degradation.md.")
        if not rise["operations"]:
            print("  None of its operations does so alone.")
    for note in report["notes"]:
        print(note)
