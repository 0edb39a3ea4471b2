"""The models that a ladder puts in place of others: is each priced, and what does it save?"""

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from alertmanager.receiver.ladder.baseline import parse_baseline
from alertmanager.receiver.ladder.effective import effective
from alertmanager.receiver.ladder.ladder import NONE, Document, Ladder, parse_ladder
from alertmanager.receiver.ladder.sides import safe
from common.clock import SystemClock
from common.errors import UserError
from common.money import usd
from common.yamlfile import read_raw
from exporter.config import load_config
from exporter.event import DEFAULT_PROVIDER
from exporter.ledger.report import TOKENS, report
from exporter.prices.modelnames import read
from exporter.prices.pricelist import PriceList

# What an entry sets, as a sentence; the key's path; the new model; the one that it replaces.
Swap = tuple[str, tuple[str, ...], str, str]


def find_swaps(ladder: Ladder, baseline: Document) -> Iterator[Swap]:
    """What changes under a key whose name ends in `model`, by a level or a tuning."""

    def models(level: str, *tuned: str) -> dict[tuple[str, ...], str]:
        return dict(_models(effective(ladder, baseline, level, tuned).document))

    rungs = zip(ladder.levels, ladder.names, strict=False)
    changes = [(str(one), models(below), models(one.level)) for one, below in rungs]
    for tuning in ladder.tunings:
        fields = baseline.get("field_configs") or () if tuning.scope else [""]
        tuned = [f"{tuning.tuning}/{field}".rstrip("/") for field in fields]
        if tuning.level is None:
            changes.append((str(tuning), models(NONE), models(NONE, *tuned)))
    for entry, below, above in changes:
        for path, new in above.items():
            # What says no model of its own, a field or a roaster, has the whole config's.
            if (old := below.get(path) or below.get(path[2:], "(no model)")) != new:
                yield f"{entry} sets {'.'.join(path)} to {new}", path, new, old


def _models(node: Document, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _models(value, (*path, str(key)))
        elif isinstance(value, str) and str(key).lower().endswith("model"):
            yield (*path, str(key)), value


def judge_swaps(files: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Of each: ok, warning or error, and what it saves; nothing of files that are wrong."""
    now, ladder, baseline = SystemClock().now(), files.ladder, files.baseline
    try:
        config = load_config(files.config)
        known = safe(parse_ladder(read_raw(ladder), ladder), ladder)[0]
        swaps = [*find_swaps(known, parse_baseline(read_raw(baseline), baseline))]
    except (UserError, ArithmeticError, AttributeError, TypeError):  # their own check says it
        return
    prices = PriceList(config.prices, config.budget.calendar)
    for swap in swaps:
        status, problem = "error", swap[0]
        try:
            _cost(prices, swap[2], Counter(), now)
            status, problem = "warning", f"{swap[0]}; what it saves is not known"
            yield _judge(swap, files.ledger, prices, now)
        except UserError as error:
            yield status, f"{problem}: {error}"


def _judge(swap: Swap, ledger: Path, prices: PriceList, now: float) -> tuple[str, str]:
    """By the tokens of the path's field (else of all fields) and of the old model (else of all)."""
    said, path, new, old = swap
    rows = report(ledger, "6d", "today", "field,model", now)["rows"]
    rows = [row for row in rows if row["field"] in path[-2:-1]] or rows
    # Providers answer with a date behind the name; the ledger adds a service tier.
    name = re.compile(re.escape(read(old).bare) + "(-[0-9-]{8,10})?(:.*)?")
    its = [row for row in rows if name.fullmatch(read(row["model"]).bare)]
    mix: Counter[str] = Counter()
    for row in its or rows:
        mix.update({key: row[key] for key in ("calls", *TOKENS)})
    was, then = (_cost(prices, model, mix, now) for model in (old, new))
    whose = f"{mix['calls']} calls{'' if its else ', none of which is its,'} of the last seven days"
    change = f"{then / was - 1:+.1%}" if was else "which is free"
    said += f" instead of {old}: {whose} cost ${usd(then)} instead of ${usd(was)} ({change})"
    return ("error", f"{said}; a step must not be dearer") if then > was else ("ok", said)


def _cost(prices: PriceList, model: str, mix: Counter[str], now: float) -> int:
    """Pico-dollars, spread over a day's hours. Raises UserError: one of them has no price."""
    prompt = (mix["input_tokens"] + mix["cached_input_tokens"]) // max(1, mix["calls"])
    hours = [prices.find(model, DEFAULT_PROVIDER, now + 3600 * n, prompt) for n in range(24)]
    if not all("" in hour for hour in hours):
        raise UserError(f"nobody prices {model!r}; give it a price under `prices:` in budget.yml")
    return sum(hour[""].cost(*(mix[key] for key in TOKENS)) for hour in hours) // 24
