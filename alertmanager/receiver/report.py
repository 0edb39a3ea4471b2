"""/state: what is in force, why, and what is not known."""

from typing import Any

import msgspec

from alertmanager.receiver import ledgers
from alertmanager.receiver.controller import Controller
from alertmanager.receiver.evidence.observations import ExporterAnswer, NoAnswer, PrometheusAnswer
from alertmanager.receiver.overrides import written
from alertmanager.receiver.state import current_override
from common.clock import iso8601


def report(controller: Controller) -> dict[str, Any]:
    """A plain document; times are RFC 3339."""
    with controller.lock:
        store, observed, now = controller.store, controller.observed, controller.clock.now()
        state, configs = store.state, store.configs
        sources = [*observed.alertmanagers, *observed.prometheuses, *observed.exporters]
        return {
            "level": store.in_force.level,
            "tunings": store.in_force.tunings,
            "alerts_ask_for": state.level,
            "backstop": state.backstop is not None,
            "override": msgspec.to_builtins(current_override(state, now)),
            "shadow": store.shadow,
            "confirmed": bool(observed.prometheuses),  # else a level is lowered unconfirmed
            "holds": controller.announcer.holds,
            "wanted": sorted(observed.wanted()),
            "not_wanted": sorted(observed.not_wanted()),
            "claims": sorted(state.claimed()),
            "ledgers": ledgers.standing(state, observed),
            "sources": {source.url: _answer(source) for source in sources},
            "dropped_keys": store.effective.dropped,
            "no_op_keys": store.effective.no_ops,
            "levels": configs.ladder.names,
            "known_tunings": [
                {"tuning": written(tuning), "automatic": tuning.automatic}
                for tuning in configs.ladder.tunings
            ],
            "problems": controller.problems(),
            "hold_seconds": controller.hold_seconds,
            "ruler_delay_seconds": controller.sources.ruler_delay,
            "applied_at": _time(store.applied_at),
            "reconciled_at": _time(controller.reconciled_at),
            "now": iso8601(now),
        }


def _time(timestamp: float | None) -> str | None:
    return None if timestamp is None else iso8601(timestamp)


def _answer(source: object) -> str:
    if isinstance(source, NoAnswer):
        return f"unknown: {source.reason}"
    if isinstance(source, PrometheusAnswer):
        lag = "" if source.ruler.lag is None else f", records {source.ruler.lag:.1f} s behind"
        every = f"every {source.ruler.interval:g} s"
        return f"ok, rules evaluated at {iso8601(source.evaluated_at)}, {every}{lag}"
    if isinstance(source, ExporterAnswer):
        return f"ok, budget day since {iso8601(source.day_start)}"
    return "ok"
