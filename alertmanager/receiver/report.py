"""/state: what is in force, why, and what is not known."""

from typing import Any

import msgspec

from alertmanager.receiver.controller import Controller
from alertmanager.receiver.evidence.observations import ExporterSeen, PrometheusSeen, Unknown
from alertmanager.receiver.ladder.ladder import Tuning
from alertmanager.receiver.precedence import in_force
from common.clock import iso8601


def report(controller: Controller) -> dict[str, Any]:
    """A plain document; times are RFC 3339."""
    with controller.lock:
        store, seen, now = controller.store, controller.seen, controller.clock.now()
        state = store.state
        override = in_force(state.override, now)
        sources = [*seen.alertmanagers, *seen.prometheuses, *seen.exporters]
        return {
            "level": store.shown.level,
            "tunings": list(store.shown.tunings),
            "alerts_ask_for": state.level,
            "backstop": state.backstop is not None,
            "override": msgspec.to_builtins(override),
            "shadow": store.shadow,
            "confirmed": bool(seen.prometheuses),  # without Prometheus a lift goes unconfirmed
            "holds": [msgspec.to_builtins(hold) for hold in controller.holds],
            "wanted": sorted(seen.wanted()),
            "not_wanted": sorted(seen.zero()),
            "claims": sorted({claim.entry for claim in state.claims.values()}),
            "sources": {source.url: _word(source) for source in sources},
            "dropped_keys": list(store.effective.dropped),
            "no_op_keys": list(store.effective.no_ops),
            "levels": store.configs.ladder.names,
            "known_tunings": [_written(tuning) for tuning in store.configs.ladder.tunings],
            "problems": {
                **controller.problems(),
                **({"config": store.configs.problem} if store.configs.problem else {}),
            },
            "hold_seconds": controller.hold_seconds,
            "applied_at": _time(store.applied_at),
            "reconciled_at": _time(controller.reconciled_at),
            "now": iso8601(now),
        }


def _written(tuning: Tuning) -> dict[str, Any]:
    """How people write a tuning, and whether it follows an alert."""
    scope = f"/{tuning.scope.upper()}" if tuning.scope else ""
    return {"tuning": tuning.tuning + scope, "automatic": tuning.automatic}


def _time(timestamp: float | None) -> str | None:
    return None if timestamp is None else iso8601(timestamp)


def _word(source: object) -> str:
    if isinstance(source, Unknown):
        return f"unknown: {source.reason}"
    if isinstance(source, PrometheusSeen):
        return f"ok, rules evaluated at {iso8601(source.evaluated_at)}"
    if isinstance(source, ExporterSeen):
        return f"ok, budget day since {iso8601(source.day_start)}"
    return "ok"
