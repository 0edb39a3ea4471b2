"""The one thread that writes: what waits is grouped, each in its turn, answered when it is done."""

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from exporter.event import UsageEvent
from exporter.ledger.booking import Outcome
from exporter.ledger.progress import LogProgress

MAX_EVENTS_PER_COMMIT = 20_000
MAX_WAITING_EVENTS = 200_000
PROBE_SECONDS = 2.0  # how often an unwritable ledger is tried again


class LedgerUnavailableError(Exception):
    """Nothing was booked; try again. str() says why."""


@dataclass
class Submission:
    """Events to book together, or none (a probe); resolved when they are on disk."""

    events: list[UsageEvent] = field(default_factory=list)
    progress: LogProgress | None = None  # of the logs that the events come from
    future: "Future[Outcome]" = field(default_factory=Future)


@dataclass
class Task:
    """Work in a transaction of its own, in its turn between the submissions."""

    work: Callable[[sqlite3.Connection, float], Any]  # database, Unix seconds
    applied: Callable[[Any], None]  # after the commit, with work's result: the picture in memory
    future: "Future[Any]" = field(default_factory=Future)


class Writer:
    """Takes submissions and tasks from any thread, and hands them on from its own."""

    def __init__(
        self,
        commit: Callable[[list[Submission]], None],
        execute: Callable[[Task], None],
        writable: Callable[[], bool],
    ) -> None:
        """commit, execute: resolve the futures of what they are given, and raise nothing.

        While writable() is false an empty submission is committed every two seconds.
        """
        self._commit = commit
        self._execute = execute
        self._writable = writable
        self._queue: queue.Queue[Submission | Task | None] = queue.Queue()
        self._waiting = 0
        self._waiting_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="ledger-writer")
        self._thread.start()

    def submit(self, submission: Submission) -> "Future[Outcome]":
        """Raises LedgerUnavailableError when too many events wait already."""
        count = len(submission.events)
        with self._waiting_lock:
            if self._waiting + count > MAX_WAITING_EVENTS:
                raise LedgerUnavailableError("too many events are waiting to be written")
            self._waiting += count
        submission.future.add_done_callback(lambda _: self._release(count))  # cancelled ones, too
        self._queue.put(submission)
        return submission.future

    def run(self, task: Task) -> "Future[Any]":
        """Do the task after what waits now."""
        self._queue.put(task)
        return task.future

    def close(self) -> None:
        """Finish what was handed in."""
        self._queue.put(None)
        self._thread.join()

    def _release(self, count: int) -> None:
        with self._waiting_lock:
            self._waiting -= count

    def _run(self) -> None:
        ended = False
        while not ended:
            try:
                first = self._queue.get(timeout=None if self._writable() else PROBE_SECONDS)
            except queue.Empty:
                self._commit([Submission()])
                continue
            group, ended = self._group(first)
            self._process(group)

    def _group(self, first: Submission | Task | None) -> tuple[list[Submission | Task], bool]:
        """Everything that waits, up to a commit's size; and whether the end was reached."""
        group: list[Submission | Task] = []
        events = 0
        item = first
        while item is not None:
            group.append(item)
            events += len(item.events) if isinstance(item, Submission) else 0
            if events >= MAX_EVENTS_PER_COMMIT:
                return group, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _process(self, group: list[Submission | Task]) -> None:
        """In order: neighbouring submissions in one transaction, each task in its own."""
        # A caller that left cancelled its future; one that is running cannot be cancelled.
        group = [item for item in group if item.future.set_running_or_notify_cancel()]
        for _, neighbours in groupby(group, type):
            items = list(neighbours)
            if submissions := [item for item in items if isinstance(item, Submission)]:
                self._commit(submissions)
            for task in (item for item in items if isinstance(item, Task)):
                self._execute(task)
