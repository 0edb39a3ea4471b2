"""A history through the real rules: what the forecast said, and when each alert fired."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from command.paths import RULES
from command.replay.history import History
from command.replay.openmetrics import FIRST_MIDNIGHT, PUBLISHED
from command.replay.rulefiles import Rule, levels, load
from command.replay.server import Server
from common.names import FORECAST, FORECAST_HIGH, FORECAST_LOW

ALERT_PREFIX = "LLMBudget"
Series = dict[int, float]  # by minutes since the first midnight
Progress = Callable[[int, int, str], None]  # steps done, of how many, what comes


@dataclass
class Replay:
    """What the rules said of a history. Minutes count from the first midnight."""

    history: History
    limit_usd: Decimal
    interval_minutes: int
    forecast: Series = field(default_factory=dict)
    low: Series = field(default_factory=dict)
    high: Series = field(default_factory=dict)
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
    wanted |= {name for rule in asked for name in rule.reads}
    passes = levels(rules, wanted, PUBLISHED)
    end = FIRST_MIDNIGHT + 60 * len(history.picodollars)
    result = Replay(history, limit_usd, interval_minutes)
    of = len(passes) + len(asked) + 2
    with Server.temporary(interval_minutes) as server:
        progress(0, of, "the history")
        server.fill_metrics(history, f"{limit_usd:f}")
        for number, rules_of_pass in enumerate(passes, 1):
            server.start()
            progress(number, of, ", ".join(sorted({rule.name for rule in rules_of_pass})))
            server.fill_rules(rules_of_pass, end)
        server.start()
        progress(len(passes) + 1, of, "the forecast")
        result.forecast = _one(server, FORECAST, end)
        if alerts:
            result.low, result.high = (_one(server, n, end) for n in (FORECAST_LOW, FORECAST_HIGH))
        for number, alert in enumerate(asked, len(passes) + 2):
            progress(number, of, alert.name)
            result.firing[alert.name] = _firing(server, alert, end, interval_minutes)
        progress(of, of, "done")
    return result


def _one(server: Server, name: str, end: int) -> Series:
    found = server.series(name, end)
    return found[0][1] if found else {}


def _firing(server: Server, alert: Rule, end: int, interval: int) -> list[int]:
    """The minutes at which an alert fires: its expression, its `for` and its `keep_firing_for`."""
    found = server.series(str(alert.body["expr"]), end)
    true = {minute for _, values in found for minute in values}
    wait, keep = alert.seconds("for") / 60, alert.seconds("keep_firing_for") / 60
    firing, since, last = [], None, None
    for minute in range(0, (end - FIRST_MIDNIGHT) // 60, interval):
        since = (minute if since is None else since) if minute in true else None
        if since is not None and minute - since >= wait:
            last = minute
        if last is not None and minute - last <= keep:
            firing.append(minute)
    return firing
