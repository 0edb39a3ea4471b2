"""What the receiver says of itself, read from its parts when it is asked: /state and /metrics."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal, get_args

import msgspec
from prometheus_client import Metric
from prometheus_client.registry import Collector

from alertmanager.receiver import ledgers
from alertmanager.receiver.announcer import NotificationResult
from alertmanager.receiver.controller import Controller
from alertmanager.receiver.decide import MAX_TUNINGS, top
from alertmanager.receiver.evidence import observations
from alertmanager.receiver.hooks import HookStep
from alertmanager.receiver.ladder.effective import changes
from alertmanager.receiver.overrides import written
from alertmanager.receiver.state import OverrideMode
from common import names
from common.clock import iso8601

MAX_CHANGES = 50  # of the config, that /state tells


def report(controller: Controller) -> dict[str, Any]:
    """/state: what is in force, why, and what is not known; times are RFC 3339."""
    with controller.lock:
        store, observed, now = controller.store, controller.observed, controller.clock.now()
        state, configs = store.state, store.configs
        claimed = state.claimed() | observed.claimed()
        read_at = controller.announcer.config_read_at
        sources = [*observed.alertmanagers, *observed.prometheuses, *observed.exporters]
        return {
            "level": store.in_force.level,
            "tunings": store.in_force.tunings,
            "alerts_ask_for": top(claimed | observed.wanted(), configs.ladder),
            "evidence_keeps": state.level,  # what they asked for, until it may be lowered
            "backstop": state.backstop is not None,
            "override": msgspec.to_builtins(state.current_override(now)),
            "shadow": store.shadow,
            "confirmed": bool(observed.prometheuses),  # else a level is lowered unconfirmed
            "holds": controller.announcer.holds,
            "wanted": sorted(observed.wanted()),
            "not_wanted": sorted(observed.not_wanted()),
            "claims": sorted(state.claimed()),
            "ledgers": ledgers.standing(state, observed),
            "months": state.months,  # USD, by "2026-11/ledger"
            "epochs": observed.epochs(),  # of each ledger, that all evidence knows of
            "sources": {source.url: _answer(source) for source in sources},
            "changes": list(
                islice(changes(configs.baseline, store.effective.document), MAX_CHANGES)
            ),
            "dropped_keys": store.effective.dropped,
            "no_op_keys": store.effective.no_ops,
            "levels": configs.ladder.names,
            "known_tunings": [
                {"tuning": written(tuning), "automatic": tuning.automatic}
                for tuning in configs.ladder.tunings
            ],
            "problems": controller.problems(),
            "question": configs.ladder.question,
            "hold_seconds": controller.hold_seconds,
            "ruler_delay_seconds": controller.sources.ruler_delay,
            "applied_at": store.applied_at and iso8601(store.applied_at),
            "config_read_at": iso8601(read_at) if read_at else None,  # by GET /config
            "reconciled_at": controller.reconciled_at and iso8601(controller.reconciled_at),
            "now": iso8601(now),
        }


def _answer(source: object) -> str:
    match source:
        case observations.NoAnswer():
            return f"unknown: {source.reason}"
        case observations.PrometheusAnswer(ruler=ruler):
            lag = "" if ruler.lag is None else f", records {ruler.lag:.1f} s behind"
            at = source.evaluated_at and iso8601(source.evaluated_at)
            evaluated = f"rules evaluated at {at}" if at else "rules not evaluated yet"
            return f"ok, {evaluated}, every {ruler.interval:g} s{lag}"
        case observations.ExporterAnswer():
            return f"ok, budget day since {iso8601(source.day_start)}"
    return "ok"


# Help and label ("": none) of each metric. What ends in _total is a counter, any other a gauge.
_FAMILIES = {
    names.DEGRADATION_LEVEL: ("Rank of the level in force; 0 is none.", ""),
    names.DEGRADATION_RANK: ("Rank of each level of the ladder.", "entry"),
    names.DEGRADATION_ACTIVE: (
        "Whether a level (with those above it) or a tuning is in force.",
        "entry",
    ),
    names.DEGRADATION_APPLIES: ("Changes of the effective config put in place.", ""),
    names.DEGRADATION_APPLY_FAILURES: ("Failed attempts to write state or config.", ""),
    names.DEGRADATION_APPLY_FAILED: (
        "Whether writing, the hook or the verify step failed last time.",
        "step",
    ),
    names.DEGRADATION_HOLDS: ("Rounds in which something was not lowered, by reason.", "reason"),
    names.DEGRADATION_LAST_APPLY: ("When the config changed last.", ""),
    names.DEGRADATION_LAST_ROUND: ("When a round of asking every source ended last.", ""),
    names.DEGRADATION_HOLD: ("How long evidence must be clear before a level falls.", ""),
    names.DEGRADATION_CONFIG_DRIFT: ("Effective files changed by others and put back.", ""),
    names.DEGRADATION_OVERRIDE: ("Whether a person's override is in force.", "mode"),
    names.WATCHDOG_SEEN: ("When Alertmanager last passed the Watchdog on.", ""),
    names.LEDGER_RETIRED: ("1 for a ledger whose evidence a person waived.", "ledger"),
    names.DEGRADATION_SHADOW: ("Whether decisions are only logged.", ""),
    names.DEGRADATION_HOOK_FAILURES: ("Hook and verify steps that failed.", ""),
    names.DEGRADATION_REFUSED_TUNINGS: (f"Tunings asked for beyond {MAX_TUNINGS:,}.", ""),
    names.CONFIG_RELOAD_OK: ("Whether ladder and baseline read well.", ""),
    names.DEGRADATION_NOTIFICATIONS: ("Webhook notifications by what became of them.", "result"),
}
# The type of a counter's label, whose values are all there from the start.
_COUNTED = {"": Literal[""], "reason": observations.HoldReason, "result": NotificationResult}


class ReceiverCollector(Collector):
    """/metrics of one receiver."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def collect(self) -> Iterator[Metric]:
        gauges, counts = _gauges(self._controller), self._controller.announcer.counts
        for name, (text, label) in _FAMILIES.items():
            found = gauges.get(name)
            if found is None:
                found = {value: counts[name, value] for value in get_args(_COUNTED[label])}
            kind = "counter" if name.endswith("_total") else "gauge"
            family = Metric(name.removesuffix("_total"), text, kind)
            for value, figure in found.items() if isinstance(found, dict) else [("", found)]:
                family.add_sample(name, {label: value} if label else {}, figure)
            yield family


def _gauges(controller: Controller) -> dict[str, float | dict[str, float]]:
    """By name; by its label's value where it has one."""
    store, announcer, configs = controller.store, controller.announcer, controller.store.configs
    ladder, in_force = configs.ladder, store.in_force
    rank, ranks = ladder.rank(in_force.level), {one: ladder.rank(one) for one in ladder.names[1:]}
    override = store.state.current_override(controller.clock.now())
    mode = override.mode if override else None
    return {
        names.DEGRADATION_LEVEL: rank,
        names.DEGRADATION_RANK: {**ranks},
        names.DEGRADATION_ACTIVE: {
            **{level: place <= rank for level, place in ranks.items()},
            **dict.fromkeys(in_force.tunings, 1),
        },
        names.DEGRADATION_APPLY_FAILED: {
            "write": bool(store.problems),
            **{step: step in announcer.failing for step in get_args(HookStep)},
        },
        names.DEGRADATION_LAST_APPLY: store.applied_at or 0,
        names.DEGRADATION_LAST_ROUND: controller.last_round_at,
        names.DEGRADATION_HOLD: controller.hold_seconds,
        names.DEGRADATION_OVERRIDE: {one: one == mode for one in get_args(OverrideMode)},
        names.WATCHDOG_SEEN: announcer.watchdog_at,
        names.LEDGER_RETIRED: {one: 1 for one, seen in store.state.ledgers.items() if seen.retired},
        names.DEGRADATION_SHADOW: store.shadow,
        names.DEGRADATION_REFUSED_TUNINGS: controller.refused_tunings,
        names.CONFIG_RELOAD_OK: configs.problem is None,
    }
