"""The exporter put together: settings in force, ledger, inputs, registry and page."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from common.clock import Clock
from exporter.access import ExporterSettings
from exporter.config import Config, Log
from exporter.intake.counters import IntakeMetrics
from exporter.intake.http import UsageEndpoint
from exporter.intake.logs.source import LogSource
from exporter.ledger.ledger import Ledger
from exporter.metrics.collectors import BudgetCollector, LedgerCollector
from exporter.metrics.page import Page
from exporter.metrics.provider import ProviderPoller
from exporter.reload import Reloader


class Exporter:
    """Owns all parts of a running exporter."""

    def __init__(
        self,
        settings: ExporterSettings,
        load: Callable[[], ExporterSettings],
        ledger: Path,
        clock: Clock,
        hosts: Sequence[str] = (),
        logs: Sequence[Log] = (),
    ) -> None:
        """Open the ledger. Raises UserError.

        load: reads the settings anew. hosts: Host names to answer to, logs: logs to follow, both
        besides the config's.
        """
        self.settings = settings
        self.clock = clock
        self._extra_hosts, self._extra_logs = hosts, logs
        self.hosts = {*self.config.access.hosts, *hosts}
        self.ledger = Ledger(ledger, self.config, clock)
        registry = CollectorRegistry()
        self.intake = IntakeMetrics(registry, self.config.limits.models)
        self.usage = UsageEndpoint(self.ledger, self.intake, lambda: self.config.limits, clock)
        self.logs = LogSource([*self.config.log, *logs], self.ledger, self.intake, clock)
        self.provider = ProviderPoller(lambda: self.config.provider)
        budget = BudgetCollector(lambda: self.config, self.ledger)
        self.reloader = Reloader(load, self.use, clock)
        for collector in (budget, LedgerCollector(self.ledger), self.provider, self.reloader):
            registry.register(collector)
        self.page = Page(self.ledger.books, budget, registry)

    @property
    def config(self) -> Config:
        """budget.yml as it is in force."""
        return self.settings.config

    def start(self) -> None:
        """Begin to read logs and to ask the provider.

        Raises UserError when another exporter reads one of the logs.
        """
        self.logs.start()
        self.provider.start()

    def close(self) -> None:
        """Finish what is under way, and close the ledger."""
        self.provider.stop()
        self.logs.stop()
        self.ledger.close()

    async def use(self, settings: ExporterSettings) -> None:
        """Put settings in force: the ledger's part first, which alone can fail; then all at once.

        Raises LedgerUnavailableError.
        """
        await asyncio.wrap_future(self.ledger.reconfigure(settings.config))
        self.settings = settings
        self.hosts.clear()
        self.hosts.update(settings.config.access.hosts, self._extra_hosts)
        self.intake.max_models = settings.config.limits.models
        self.logs.configure([*settings.config.log, *self._extra_logs])
