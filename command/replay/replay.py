"""A history through the real rules: what the forecast said, and when each alert fired."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from command.paths import RULES
from command.replay.history import History
from command.replay.prometheus import FIRST_MIDNIGHT, ReplayPrometheus
from command.replay.rulefiles import load, passes
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
    # Those that wait (`for`) look after the services; the budget's have their windows in the data.
    known = [rule for rule in rules if rule.name.startswith(ALERT_PREFIX)]
    asked = [alert for alert in known if alerts and "for" not in alert.body]
    foretold = {FORECAST, FORECAST_LOW, FORECAST_HIGH}
    in_order = passes(rules, foretold.union(*(rule.reads for rule in asked)))
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
            firing[alert.name] = sorted(prometheus.values(str(alert.body["expr"]), end))
    progress(steps, steps, "done")
    return Replay(history, limit_usd, interval_minutes, forecast, low, high, firing)
