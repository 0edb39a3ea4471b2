"""Intake by log: one thread that follows every configured log and books what it reads.

Positions commit with the counts, so a line is booked exactly once, whatever dies when. Batches are
small and wait for the disk one by one: requests over HTTP share the ledger's commits meanwhile.
"""

import contextlib
import sys
import threading
import traceback
from collections.abc import Sequence

from common.budget_status import LogStatus
from common.clock import Clock
from common.errors import UserError
from exporter.config import Log
from exporter.event import EventError, UsageEvent
from exporter.intake.counters import IntakeMetrics
from exporter.intake.logs.file import LogFile, WholeLines, is_spool_header
from exporter.intake.logs.mapping import read_lines
from exporter.intake.logs.rotation import KnownFiles, paths_of
from exporter.intake.logs.stream import Stream
from exporter.ledger.ledger import Ledger
from exporter.ledger.progress import LogProgress
from exporter.ledger.writer import LedgerUnavailableError

SOURCE = "log"
POLL_SECONDS = 0.25
RETRY_SECONDS = 1.0  # after the ledger could not be written
MAX_LOGS = 200  # each takes two file descriptors


class LogSource:
    """Follows logs until stop(). poll() is one round, for the thread and for tests."""

    def __init__(
        self, logs: Sequence[Log], ledger: Ledger, metrics: IntakeMetrics, clock: Clock
    ) -> None:
        """logs: the first one that matches a file says how to read it."""
        self._logs = tuple(logs)
        self._metrics = metrics
        self._clock = clock
        self._known = KnownFiles(ledger, clock)
        self._streams: dict[str, Stream] = {}
        self._report: list[LogStatus] = []
        self._fault = ""  # of this program, not of a log
        self._renewed = False  # whether the positions of what was found at the start are
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def configure(self, logs: Sequence[Log]) -> None:
        """Follow these from the next round on."""
        self._logs = tuple(logs)

    def start(self) -> None:
        """Begin to follow. Raises UserError when another exporter reads one of the logs."""
        with contextlib.suppress(LedgerUnavailableError):  # the thread tries again
            self._discover()
            for stream in self._streams.values():
                if stream.locked:
                    self._close()
                    raise UserError(stream.problem)
        self._publish()
        self._thread = threading.Thread(target=self._run, name="log-reader")
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch under way, then close every log; before the ledger closes."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._close()

    def report(self) -> list[LogStatus]:
        """Every log, and at the end what is wrong with the reading itself."""
        return self._report

    @property
    def problems(self) -> list[str]:
        """A sentence for each log that cannot be read; one that is missing may come later."""
        return [log.problem for log in self._report if log.state == "problem"]

    def poll(self) -> bool:
        """One batch of every log; whether any had something.

        Raises LedgerUnavailableError: nothing is lost, poll again later.
        """
        busy = False
        try:
            self._discover()
            if not self._renewed:
                self._known.renew_positions()
                self._renewed = True
            for stream in list(self._streams.values()):
                busy = self._read(stream) or busy
        finally:
            self._publish()
        return busy

    def _run(self) -> None:
        while True:
            pause = RETRY_SECONDS
            try:
                pause = 0 if self.poll() else POLL_SECONDS
                self._fault = ""
            except LedgerUnavailableError:
                pass  # the ledger says so itself: /health, llm_ledger_writable
            except Exception as error:  # a fault of ours must not end the reading in silence
                traceback.print_exc(file=sys.stderr)
                self._fault = f"reading logs failed: {error!r}"
                self._publish()
            if self._stop.wait(pause):
                return

    def _discover(self) -> None:
        """Find new files and rotations."""
        wanted = self._wanted()
        self._known.followed = set(wanted)
        for path, rule in wanted.items():
            if path not in self._streams:
                self._streams[path] = Stream(path, rule, self._known)
            self._streams[path].rule = rule
        for path, stream in list(self._streams.items()):
            if len(self._known.open) >= MAX_LOGS and not stream.files:
                stream.problem = f"more than {MAX_LOGS} logs are open; {path} has to wait"
            else:
                with stream.problems_noted():
                    stream.look()
            if stream.finished and path not in wanted:
                self._streams.pop(path).close()

    def _wanted(self) -> dict[str, Log]:
        """The paths to follow and how to read them; what a reload left out is closed."""
        logs = self._logs
        patterns = {log.path for log in logs}
        for path in [p for p, s in self._streams.items() if s.rule.path not in patterns]:
            self._streams.pop(path).close()
        wanted: dict[str, Log] = {}
        for log in logs:
            for path in paths_of(log.path):
                wanted.setdefault(path, log)
        return wanted

    def _read(self, stream: Stream) -> bool:
        """Book the next lines of a stream, if there are any. Raises LedgerUnavailableError."""
        found = None
        with stream.problems_noted():
            found = stream.next()
        if found is None:
            return False
        lines, ends = found
        events, refusals = self._parse(lines, ends[-1][0], stream.rule)
        positions = tuple(position for _, position in ends)
        result = self._known.record(LogProgress(positions=positions), events)
        for file, position in ends:
            file.advance(position)
        self._metrics.booked(SOURCE, events, result, refusals)
        for refusal in [*refusals, *(error for _, error in result.rejected)]:
            if refusal.reason != "not_json":  # these are left out by the log's rule
                stream.last_refusal = f"{refusal.reason}: {str(refusal)[:200]}"
        return True

    def _parse(
        self, found: WholeLines, file: LogFile, rule: Log
    ) -> tuple[list[UsageEvent], list[EventError]]:
        begins = file.position.offset == 0 and found.lines and is_spool_header(found.lines[0])
        own = file.fold or file.is_spool()
        lines = found.lines[1:] if begins else found.lines
        events, refusals = read_lines(lines, None if own else rule, self._clock.now())
        refusals += [EventError("too_long", "a line of more than 1 MiB")] * found.too_long
        zeros = EventError("malformed", "zero bytes instead of lines, as a power cut leaves")
        return events, refusals + [zeros] * found.zeroed

    def _publish(self) -> None:
        report = [stream.status() for stream in self._streams.values()]
        self._metrics.log_lag.set(sum(log.lag_bytes for log in report))
        fault = [LogStatus("", "problem", self._fault)] if self._fault else []
        self._report = report + fault
        self._metrics.log_problems.set(len(self.problems))

    def _close(self) -> None:
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()
