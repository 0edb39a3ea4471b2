"""The exporter put together: settings in force, ledger, inputs, registry and page."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from starlette.concurrency import run_in_threadpool

from common import names
from common.budget_status import ReloadStatus
from common.clock import Clock, iso8601
from common.errors import UserError
from exporter.access import ExporterSettings
from exporter.config import Config, Log
from exporter.intake.counters import IntakeMetrics
from exporter.intake.http import UsageEndpoint
from exporter.intake.logs.source import LogSource
from exporter.ledger.ledger import Ledger
from exporter.ledger.writer import LedgerUnavailableError
from exporter.metrics.page import Page, family
from exporter.metrics.provider import ProviderPoller

log = logging.getLogger("exporter")


class Exporter:
    """Owns all parts of a running exporter, and takes new settings: whole, or not at all."""

    def __init__(
        self,
        settings: ExporterSettings,
        load: Callable[[], ExporterSettings],  # reads them anew
        ledger: Path,
        clock: Clock,
        hosts: Sequence[str] = (),  # names to answer to, besides the config's
        logs: Sequence[Log] = (),  # to follow, besides the config's
    ) -> None:
        """Open the ledger. Raises UserError."""
        self.settings, self._load, self.clock = settings, load, clock
        self._loaded, self._problem = clock.now(), ""  # problem: why the last reload failed
        self._one_at_a_time = asyncio.Lock()
        self._extra_hosts, self._extra_logs = hosts, logs
        self.hosts = {*self.config.access.hosts, *hosts}
        self.ledger = Ledger(ledger, self.config, clock)
        registry = CollectorRegistry()
        self.intake = IntakeMetrics(registry, self.config.limits.models)
        self.usage = UsageEndpoint(self.ledger, self.intake, lambda: self.config.limits, clock)
        self.logs = LogSource([*self.config.log, *logs], self.ledger, self.intake, clock)
        self.page = Page(self.ledger, lambda: self.config, registry)
        self.provider = ProviderPoller(lambda: self.config.provider)
        registry.register(self.provider)
        registry.register(self)
        self._log_warnings()

    @property
    def config(self) -> Config:
        return self.settings.config

    @property
    def reload_status(self) -> ReloadStatus:
        """When the config in force was loaded, and why a later reload kept it."""
        return ReloadStatus(iso8601(self._loaded), self._problem or None)

    def warnings(self) -> list[str]:
        """A sentence for each cap of what the ledger has not seen yet: is it misspelt?"""
        budget, books = self.config.budget, self.ledger.books
        found: list[str] = []
        for label, caps in ((names.ROASTER, budget.roasters), (names.FIELD, budget.fields)):
            with books.lock:
                seen = {getattr(one, label) for one in books.totals} if caps else set()
            found += [
                f"budget.{label}s caps {name!r}, under which many names are summed up, or calls "
                "without one: no stop can reach them; give each name its own cap"
                for name in sorted(caps.keys() & {names.OTHER, names.UNKNOWN})
            ]
            seen |= {names.OTHER, names.UNKNOWN}
            found += [
                f"budget.{label}s caps {name!r}, which no event in this ledger names yet; is it "
                "spelt as the scraper reports it?"
                for name in sorted(caps.keys() - seen)
            ]
        return found

    def _log_warnings(self) -> None:
        for warning in self.warnings()[:10]:  # a new budget may have a thousand caps
            log.warning("%s", warning)

    def collect(self) -> Iterator[Metric]:
        """The same for Prometheus."""
        text = "Whether the last load of budget.yml worked."
        yield family(names.CONFIG_RELOAD_OK, text, not self._problem)
        text = "When budget.yml was last loaded, Unix seconds."
        yield family(names.CONFIG_RELOAD_TIME, text, self._loaded)

    def start(self) -> None:
        """Read logs, ask the provider. Raises UserError: another exporter reads one of the logs."""
        self.logs.start()
        self.provider.start()

    def close(self) -> None:
        self.provider.stop()
        self.logs.stop()
        self.ledger.close()

    async def reload(self) -> None:
        """Read budget.yml and the token files again. Raises what keeps the old ones in force."""
        async with self._one_at_a_time:
            try:
                settings = await run_in_threadpool(self._load)
                # The ledger's part first, which alone can fail; then all at once.
                await asyncio.wrap_future(self.ledger.reconfigure(settings.config))
            except Exception as error:
                self._problem = str(error) or type(error).__name__
                foreseen = isinstance(error, UserError | LedgerUnavailableError)
                text = "the config was not reloaded, the old one stays: %s"
                log.error(text, self._problem, exc_info=not foreseen)
                raise
            self.settings = settings
            self.hosts.clear()
            self.hosts.update(settings.config.access.hosts, self._extra_hosts)
            self.intake.max_models = settings.config.limits.models
            self.logs.configure([*settings.config.log, *self._extra_logs])
            self._loaded, self._problem = self.clock.now(), ""
            log.info("the config was reloaded")
            self._log_warnings()
