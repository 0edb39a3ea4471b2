"""Hot reload of budget.yml and the token files: taken whole, or the old ones stay and say why."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator

from prometheus_client.metrics_core import Metric
from starlette.concurrency import run_in_threadpool

from common import names
from common.budget_status import ReloadStatus
from common.clock import Clock, iso8601
from common.errors import UserError
from exporter.access import ExporterSettings
from exporter.ledger.writer import LedgerUnavailableError
from exporter.metrics.collectors import FreshCollector, gauge

log = logging.getLogger("exporter")


class Reloader(FreshCollector):
    """Reloads one at a time; status says when it worked, and why the last one did not."""

    status: ReloadStatus

    def __init__(
        self,
        load: Callable[[], ExporterSettings],
        use: Callable[[ExporterSettings], Awaitable[None]],
        clock: Clock,
    ) -> None:
        """load: reads the files. use: puts settings in force; it raises when it could not."""
        self._load = load
        self._use = use
        self._clock = clock
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._succeeded()

    def collect(self) -> Iterator[Metric]:
        worked = self.status.problem is None
        yield gauge(names.CONFIG_RELOAD_OK, "Whether the last load of budget.yml worked.", worked)
        text = "When budget.yml was last loaded, Unix seconds."
        yield gauge(names.CONFIG_RELOAD_TIME, text, self._loaded)

    async def reload(self) -> None:
        """Raises UserError or LedgerUnavailableError; then the old settings stay in force."""
        async with self._lock:
            try:
                await self._use(await run_in_threadpool(self._load))
            except (UserError, LedgerUnavailableError) as error:
                self.status = ReloadStatus(self.status.loaded, str(error))
                log.error("the config was not reloaded, the old one stays: %s", error)
                raise
            self._succeeded()
            log.info("the config was reloaded")

    def hang_up(self) -> None:
        """SIGHUP: reload in the background; what is wrong is logged, measured and in the status."""
        task = asyncio.create_task(self._reload_or_log())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload_or_log(self) -> None:
        with contextlib.suppress(UserError, LedgerUnavailableError):  # reload() has logged it
            await self.reload()

    def _succeeded(self) -> None:
        self._loaded = self._clock.now()
        self.status = ReloadStatus(iso8601(self._loaded), None)
