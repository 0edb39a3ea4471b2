"""Intake by log: one thread that follows every configured log and books what it reads.

Positions commit with the counts, so a line is booked exactly once, whatever dies when. Batches are
small and wait for the disk one by one: requests over HTTP share the ledger's commits meanwhile.
"""

import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any

from common.clock import Clock
from common.errors import UserError
from exporter.config import Log
from exporter.event import EventError, UsageEvent
from exporter.intake.counters import IntakeMetrics
from exporter.intake.logs.file import LogFile, Piece, is_spool_header
from exporter.intake.logs.find import expand
from exporter.intake.logs.mapping import read_lines
from exporter.intake.logs.rotation import Shared
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
        self._ledger = ledger
        self._metrics = metrics
        self._clock = clock
        self._shared = Shared(ledger.places, self._record, clock)
        self._streams: dict[str, Stream] = {}
        self._problems: dict[str, str] = {}  # by path
        self._refusals: dict[str, str] = {}  # the last one, by path
        self._report: list[dict[str, Any]] = []
        self._met = False  # whether what was found at the start is recorded as still there
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def configure(self, logs: Sequence[Log]) -> None:
        """Follow these from the next round on."""
        self._logs = tuple(logs)

    def start(self) -> None:
        """Begin to follow. Raises UserError when another exporter reads one of the logs."""
        try:
            locked = self._discover()
        except LedgerUnavailableError:
            locked = []  # the thread tries again
        if locked:
            self._close()
            raise locked[0]
        self._publish()
        self._thread = threading.Thread(target=self._run, name="log-reader")
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch under way, then close every log; before the ledger closes."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._close()

    def report(self) -> list[dict[str, Any]]:
        """Each log's path, state (ok, missing, problem), problem, last refusal and lag in bytes."""
        return self._report

    @property
    def problems(self) -> list[str]:
        """A sentence for each log that cannot be read; one that is not there yet is none."""
        return [entry["problem"] for entry in self._report if entry["state"] == "problem"]

    def poll(self) -> bool:
        """One batch of every log; whether any had something.

        Raises LedgerUnavailableError: nothing is lost, poll again later.
        """
        busy = False
        try:
            self._discover()
            if not self._met:
                self._record(self._met_again())
                self._met = True
            for stream in list(self._streams.values()):
                busy = self._step(stream) or busy
        finally:
            self._publish()
        return busy

    def _run(self) -> None:
        while True:
            pause = RETRY_SECONDS
            try:
                pause = 0 if self.poll() else POLL_SECONDS
                self._problems.pop("", None)
            except LedgerUnavailableError:
                pass  # the ledger says so itself: /health, llm_ledger_writable
            except Exception as error:  # a fault of ours must not end the reading in silence
                traceback.print_exc(file=sys.stderr)
                self._problems[""] = f"reading logs failed: {error!r}"
                self._publish()
            if self._stop.wait(pause):
                return

    def _discover(self) -> list[UserError]:
        """Find new files and rotations; the refusals by another reader's lock."""
        wanted = self._wanted()
        self._shared.matched = set(wanted)
        for path, rule in wanted.items():
            if path not in self._streams:
                self._streams[path] = Stream(path, rule, self._shared)
            self._streams[path].rule = rule
        locked = []
        for path, stream in list(self._streams.items()):
            try:
                self._look(path, stream)
            except UserError as error:
                self._problems[path] = str(error)
                locked.append(error)
            if stream.finished and path not in wanted:
                self._let_go(path)
        return locked

    def _wanted(self) -> dict[str, Log]:
        """The paths to follow and how to read them; what a reload left out is let go."""
        logs = self._logs
        patterns = {log.path for log in logs}
        for path in [p for p, s in self._streams.items() if s.rule.path not in patterns]:
            self._let_go(path)
        wanted: dict[str, Log] = {}
        for log in logs:
            for path in expand(log.path):
                wanted.setdefault(path, log)
        return wanted

    def _let_go(self, path: str) -> None:
        self._streams.pop(path).close()
        self._problems.pop(path, None)
        self._refusals.pop(path, None)

    def _look(self, path: str, stream: Stream) -> None:
        if len(self._shared.open) >= MAX_LOGS and not stream.files:
            self._problems[path] = f"more than {MAX_LOGS} logs are open; {path} has to wait"
            return
        try:
            stream.look()
            self._problems.pop(path, None)
        except OSError as error:
            self._problems[path] = f"cannot read {path}: {error.strerror}"

    def _step(self, stream: Stream) -> bool:
        try:
            found = stream.next()
        except UserError as error:
            self._problems[stream.path] = str(error)
            return False
        except OSError as error:
            self._problems[stream.path] = f"cannot read {stream.path}: {error.strerror}"
            return False
        if found is None:
            return False
        self._book(stream, *found)
        return True

    def _book(self, stream: Stream, file: LogFile, piece: Piece) -> None:
        """Parse, commit with the position, count. Raises LedgerUnavailableError."""
        events, refusals = self._parse(stream, file, piece)
        progress = LogProgress(positions=(piece.position,))
        outcome = self._ledger.submit(events, progress).result()
        self._shared.places.apply(progress)
        file.advance(piece.position)
        self._metrics.booked(SOURCE, events, outcome)
        for refusal in refusals:
            self._metrics.reject(SOURCE, refusal.reason)
        for refusal in [*refusals, *(error for _, error in outcome.rejected)]:
            self._refusals[stream.path] = f"{refusal.reason}: {str(refusal)[:200]}"

    def _parse(
        self, stream: Stream, file: LogFile, piece: Piece
    ) -> tuple[list[UsageEvent], list[EventError]]:
        lines = piece.lines
        if file.position.offset == 0 and lines and is_spool_header(lines[0]):
            lines = lines[1:]
        rule = None if file.is_spool() or stream.is_fold(file) else stream.rule
        events, refusals = read_lines(lines, rule, self._clock.now())
        refusals += [EventError("too_long", "a line of more than 1 MiB")] * piece.too_long
        return events, refusals

    def _record(self, progress: LogProgress) -> None:
        self._ledger.submit([], progress).result()
        self._shared.places.apply(progress)

    def _met_again(self) -> LogProgress:
        """The positions of everything that is still there: the ledger forgets very old others."""
        positions = self._shared.places.positions
        met = tuple(positions[key] for key in self._shared.found if key in positions)
        return LogProgress(positions=met, expire=True)

    def _publish(self) -> None:
        report: list[dict[str, Any]] = []
        for path, stream in self._streams.items():
            problem = self._problems.get(path, "")
            state = "problem" if problem else "missing" if stream.missing else "ok"
            report.append(
                {
                    "path": path,
                    "state": state,
                    "problem": problem,
                    "last_refusal": self._refusals.get(path, ""),
                    "lag_bytes": stream.lag(),
                }
            )
        if "" in self._problems:
            report.append({"path": "", "state": "problem", "problem": self._problems[""]})
        self._metrics.log_lag.set(sum(entry.get("lag_bytes", 0) for entry in report))
        self._report = report

    def _close(self) -> None:
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()
