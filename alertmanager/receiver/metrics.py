"""What the receiver publishes about itself."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from common import names

HOLD_REASONS = (
    "source_unknown",
    "rule_unknown",
    "wanted",
    "evidence_missing",
    "exporter_unknown",
    "hold",
)


class Metrics:
    """Its metrics, in a registry of its own; counters start at 0."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.level = Gauge(
            names.DEGRADATION_LEVEL,
            "Rank of the level in force; 0 is none.",
            registry=registry,
        )
        self.rank = Gauge(
            names.DEGRADATION_RANK,
            "Rank of each level of the ladder.",
            ["entry"],
            registry=registry,
        )
        self.active = Gauge(
            names.DEGRADATION_ACTIVE,
            "Whether a level (with those above it) or a tuning is in force.",
            ["entry"],
            registry=registry,
        )
        self.applies = _counter(
            names.DEGRADATION_APPLIES, "Changes of the effective config put in place.", registry
        )
        self.apply_failures = _counter(
            names.DEGRADATION_APPLY_FAILURES, "Failed attempts to write state or config.", registry
        )
        self.apply_failed = Gauge(
            names.DEGRADATION_APPLY_FAILED,
            "Whether writing, the hook or the verify step failed last time.",
            ["step"],
            registry=registry,
        )
        self.holds = Counter(
            names.DEGRADATION_HOLDS.removesuffix("_total"),
            "Rounds in which something was not lowered, by reason.",
            ["reason"],
            registry=registry,
        )
        self.last_apply = Gauge(
            names.DEGRADATION_LAST_APPLY, "When the config changed last.", registry=registry
        )
        self.last_round = Gauge(
            names.DEGRADATION_LAST_ROUND,
            "When everyone was asked and the config compared last.",
            registry=registry,
        )
        self.hold = Gauge(
            names.DEGRADATION_HOLD,
            "How long evidence must be clear before a level falls.",
            registry=registry,
        )
        self.drift = _counter(
            names.DEGRADATION_CONFIG_DRIFT,
            "Effective files healed.",
            registry,
        )
        self.override = Gauge(
            names.DEGRADATION_OVERRIDE,
            "Whether a person's word is in force.",
            ["mode"],
            registry=registry,
        )
        self.watchdog = Gauge(
            names.WATCHDOG_SEEN, "When Alertmanager last passed the Watchdog on.", registry=registry
        )
        self.shadow = Gauge(
            names.DEGRADATION_SHADOW, "Whether decisions are only logged.", registry=registry
        )
        self.hook_failures = _counter(
            names.DEGRADATION_HOOK_FAILURES, "Hook and verify steps that failed.", registry
        )
        self.config_ok = Gauge(
            names.CONFIG_RELOAD_OK, "Whether ladder and baseline read well.", registry=registry
        )
        self.notifications = Counter(
            names.DEGRADATION_NOTIFICATIONS.removesuffix("_total"),
            "Webhook notifications by what became of them.",
            ["result"],
            registry=registry,
        )
        for reason in HOLD_REASONS:
            self.holds.labels(reason)
        for result in ("applied", "refused", "failed"):
            self.notifications.labels(result)
        for step in ("write", "hook", "verify"):
            self.apply_failed.labels(step).set(0)
        for mode in ("degrade", "pin"):
            self.override.labels(mode).set(0)


def _counter(name: str, text: str, registry: CollectorRegistry) -> Counter:
    return Counter(name.removesuffix("_total"), text, registry=registry)
