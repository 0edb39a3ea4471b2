"""Hot reload of budget.yml and the token files: taken whole, or the old ones stay and say why."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from starlette.concurrency import run_in_threadpool

from common import names
from common.clock import Clock, iso8601
from common.errors import UserError
from exporter.access import Settings
from exporter.ledger.writer import LedgerUnavailableError

log = logging.getLogger("exporter")


class Reloader:
    """Reloads one at a time; problem is None, or why the last one kept the old settings."""

    def __init__(
        self,
        load: Callable[[], Settings],
        use: Callable[[Settings], Awaitable[None]],
        registry: CollectorRegistry,
        clock: Clock,
    ) -> None:
        """load: reads the files. use: puts settings in force; it raises when it could not."""
        self._load = load
        self._use = use
        self._clock = clock
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.problem: str | None = None
        self._ok = Gauge(
            names.CONFIG_RELOAD_OK, "Whether the last load of budget.yml worked.", registry=registry
        )
        self._time = Gauge(
            names.CONFIG_RELOAD_TIME,
            "When budget.yml was last loaded, Unix seconds.",
            registry=registry,
        )
        self._succeeded()

    async def reload(self) -> None:
        """Raises UserError or LedgerUnavailableError; then the old settings stay in force."""
        async with self._lock:
            try:
                await self._use(await run_in_threadpool(self._load))
            except (UserError, LedgerUnavailableError) as error:
                self.problem = str(error)
                self._ok.set(0)
                log.error("the config was not reloaded, the old one stays: %s", error)
                raise
            self._succeeded()
            log.info("the config was reloaded")

    def hang_up(self) -> None:
        """SIGHUP: reload in the background; what is wrong is logged, measured and in the status."""
        task = asyncio.create_task(self._quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def report(self) -> dict[str, Any]:
        """For /api/v1/status."""
        return {"loaded": iso8601(self._loaded), "problem": self.problem}

    async def _quietly(self) -> None:
        with contextlib.suppress(UserError, LedgerUnavailableError):  # reload() has said it
            await self.reload()

    def _succeeded(self) -> None:
        self.problem = None
        self._loaded = self._clock.now()
        self._ok.set(1)
        self._time.set(self._loaded)
