"""A history through the real rules: what the forecast said, and when each alert fired."""

from collections.abc import Callable, Container
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from command.paths import RULES
from command.replay.history import History
from command.replay.prometheus import FIRST_MIDNIGHT, ReplayPrometheus
from command.replay.rulefiles import Rule, load, passes
from common.names import FORECAST, FORECAST_HIGH, FORECAST_LOW

ALERT_PREFIX = "LLMBudget"
ByMinute = dict[int, float]  # since the first midnight
Progress = Callable[[int, int, str], None]  # steps done, of how many, what comes


@dataclass(frozen=True)
class Replay:
    """What the rules said of a history. Minutes count from the first midnight."""

    history: History
    limit_usd: Decimal
    interval_minutes: int
    forecast: ByMinute = field(default_factory=dict)
    low: ByMinute = field(default_factory=dict)
    high: ByMinute = field(default_factory=dict)
    firing: dict[str, list[int]] = field(default_factory=dict)  # alert: minutes at which it fires


def replay(
    history: History,
    limit_usd: Decimal,
    *,
    interval_minutes: int = 1,
    folder: Path = RULES,
    alerts: bool = True,
    progress: Progress = lambda done, of, what: None,
) -> Replay:
    """Evaluate the rule files of folder over the history. Raises UserError.

    interval_minutes: between samples and evaluations; above 4 the burn rate's windows run empty.
    """
    rules = load(folder)
    asked = [rule for rule in rules if alerts and rule.name.startswith(ALERT_PREFIX)]
    wanted = {FORECAST, FORECAST_LOW, FORECAST_HIGH} if alerts else {FORECAST}
    in_order = passes(rules, wanted.union(*(rule.reads for rule in asked)))
    minutes = range(0, len(history.picodollars), interval_minutes)
    end = FIRST_MIDNIGHT + 60 * len(history.picodollars)
    steps, numbers = len(in_order) + len(asked) + 2, count()
    with (
        TemporaryDirectory(prefix="llm-budget-backtest-") as data,
        closing(ReplayPrometheus(Path(data), interval_minutes)) as prometheus,
    ):
        progress(next(numbers), steps, "the history")
        prometheus.fill_metrics(history, f"{limit_usd:f}")
        for rules_of_pass in in_order:
            prometheus.start()
            names = sorted({rule.name for rule in rules_of_pass})
            progress(next(numbers), steps, ", ".join(names))
            prometheus.fill_rules(rules_of_pass, end)
        prometheus.start()
        progress(next(numbers), steps, "the forecast")
        forecast, low, high = (
            prometheus.values(name, end) for name in (FORECAST, FORECAST_LOW, FORECAST_HIGH)
        )
        firing = {}
        for alert in asked:
            progress(next(numbers), steps, alert.name)
            true = prometheus.values(str(alert.body["expr"]), end)
            firing[alert.name] = _firing(alert, true, minutes)
    progress(steps, steps, "done")
    return Replay(history, limit_usd, interval_minutes, forecast, low, high, firing)


def _firing(alert: Rule, true: Container[int], minutes: range) -> list[int]:
    """The minutes at which an alert fires, by when its expression is true."""
    wait, keep = alert.seconds("for") / 60, alert.seconds("keep_firing_for") / 60
    firing, since, last = [], None, None
    for minute in minutes:
        since = (minute if since is None else since) if minute in true else None
        if since is not None and minute - since >= wait:
            last = minute
        if last is not None and minute - last <= keep:
            firing.append(minute)
    return firing
