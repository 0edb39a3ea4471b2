"""/metrics: what the receiver publishes about itself, read from its parts when it is asked for."""

from collections.abc import Iterator
from typing import NamedTuple, get_args

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from alertmanager.receiver.announcer import NotificationResult
from alertmanager.receiver.controller import Controller
from alertmanager.receiver.evidence.observations import HoldReason
from alertmanager.receiver.hooks import HookStep
from alertmanager.receiver.state import OverrideMode, current_override
from common import names


class _Family(NamedTuple):
    """A metric's help and label; of a labelled counter all values that the label has."""

    help: str
    label: str = ""
    values: tuple[str, ...] = ("",)


# What ends in _total is a counter, any other a gauge.
_FAMILIES = {
    names.DEGRADATION_LEVEL: _Family("Rank of the level in force; 0 is none."),
    names.DEGRADATION_RANK: _Family("Rank of each level of the ladder.", "entry"),
    names.DEGRADATION_ACTIVE: _Family(
        "Whether a level (with those above it) or a tuning is in force.", "entry"
    ),
    names.DEGRADATION_APPLIES: _Family("Changes of the effective config put in place."),
    names.DEGRADATION_APPLY_FAILURES: _Family("Failed attempts to write state or config."),
    names.DEGRADATION_APPLY_FAILED: _Family(
        "Whether writing, the hook or the verify step failed last time.", "step"
    ),
    names.DEGRADATION_HOLDS: _Family(
        "Rounds in which something was not lowered, by reason.", "reason", get_args(HoldReason)
    ),
    names.DEGRADATION_LAST_APPLY: _Family("When the config changed last."),
    names.DEGRADATION_LAST_ROUND: _Family("When a round of asking every source ended last."),
    names.DEGRADATION_HOLD: _Family("How long evidence must be clear before a level falls."),
    names.DEGRADATION_CONFIG_DRIFT: _Family("Effective files changed by others and put back."),
    names.DEGRADATION_OVERRIDE: _Family("Whether a person's override is in force.", "mode"),
    names.WATCHDOG_SEEN: _Family("When Alertmanager last passed the Watchdog on."),
    names.LEDGER_RETIRED: _Family("1 for a ledger whose evidence a person waived.", "ledger"),
    names.DEGRADATION_SHADOW: _Family("Whether decisions are only logged."),
    names.DEGRADATION_HOOK_FAILURES: _Family("Hook and verify steps that failed."),
    names.DEGRADATION_REFUSED_TUNINGS: _Family("Tunings asked for beyond the bound of 2,000."),
    names.CONFIG_RELOAD_OK: _Family("Whether ladder and baseline read well."),
    names.DEGRADATION_NOTIFICATIONS: _Family(
        "Webhook notifications by what became of them.", "result", get_args(NotificationResult)
    ),
}


class ReceiverCollector(Collector):
    """The metrics of one receiver."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def collect(self) -> Iterator[Metric]:
        """One family for each row of the table."""
        gauges, counts = _gauges(self._controller), self._controller.announcer.counts
        for name, (text, label, values) in _FAMILIES.items():
            labels = [label] if label else []
            family: GaugeMetricFamily | CounterMetricFamily
            if name in gauges:
                family, figures = GaugeMetricFamily(name, text, labels=labels), gauges[name]
            else:
                family = CounterMetricFamily(name, text, labels=labels)
                figures = {value: counts[name, value] for value in values}
            for value, figure in figures.items():
                family.add_metric([value] if label else [], figure)
            yield family


def _gauges(controller: Controller) -> dict[str, dict[str, float]]:
    """By name and the label's value ("": it has no label)."""
    store, announcer, configs = controller.store, controller.announcer, controller.store.configs
    ladder, in_force = configs.ladder, store.in_force
    ranks = {level: ladder.rank(level) for level in ladder.names[1:]}
    rank = ladder.rank(in_force.level)
    override = current_override(store.state, controller.clock.now())
    return {
        names.DEGRADATION_LEVEL: {"": rank},
        names.DEGRADATION_RANK: {**ranks},
        names.DEGRADATION_ACTIVE: {
            **{level: place <= rank for level, place in ranks.items()},
            **dict.fromkeys(in_force.tunings, 1),
        },
        names.DEGRADATION_APPLY_FAILED: {
            "write": not store.ok,
            **{step: step in announcer.failing for step in get_args(HookStep)},
        },
        names.DEGRADATION_LAST_APPLY: {"": store.applied_at or 0},
        names.DEGRADATION_LAST_ROUND: {"": controller.last_round_at},
        names.DEGRADATION_HOLD: {"": controller.hold_seconds},
        names.DEGRADATION_OVERRIDE: {
            mode: bool(override and override.mode == mode) for mode in get_args(OverrideMode)
        },
        names.WATCHDOG_SEEN: {"": announcer.watchdog_at},
        names.LEDGER_RETIRED: {one: 1 for one, seen in store.state.ledgers.items() if seen.retired},
        names.DEGRADATION_SHADOW: {"": store.shadow},
        names.DEGRADATION_REFUSED_TUNINGS: {"": controller.refused_tunings},
        names.CONFIG_RELOAD_OK: {"": configs.problem is None},
    }
