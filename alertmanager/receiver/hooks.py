"""After a change: a program without a shell, or an HTTP call; never in the next one's way."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from alertmanager.receiver.ladder.ladder import Action
from common.fetch import FetchError, fetch

HookStep = Literal["hook", "verify"]
Facts = dict[str, Any]  # what an action is told of a change
Pause = Callable[[float], bool | None]  # waits so many seconds; True: stop
HTTP_ATTEMPTS = 3
RETRY_SECONDS = 1.0
AGAIN_SECONDS = 60.0  # what failed is run again after so long
KEPT_OUTPUT_BYTES = 300  # the end of what a program prints; the rest is dropped
CLOSE_SECONDS, KILL_SECONDS = 3.0, 0.5  # with the server's five less than the process has
POLL_SECONDS = 0.02
READS_A_POLL = 16


@dataclass
class Hooks:
    """One thread that runs actions in order; of several waiting changes only the last matters."""

    action: Callable[[HookStep], Action | None]  # as it is written now; called from the thread
    ran: Callable[[HookStep, str | None], None]  # told why it failed, in a sentence; likewise

    def __post_init__(self) -> None:
        self._waiting: dict[HookStep, tuple[float, Facts]] = {}  # when each is due, and its change
        self._wake = threading.Condition()
        self._closing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hooks", daemon=True)
        self._thread.start()

    def submit(self, steps: Iterable[HookStep], change: Facts) -> None:
        """Run these steps' actions. An older change that waits or failed is dropped."""
        with self._wake:
            self._waiting |= dict.fromkeys(steps, (0.0, change))
            self._wake.notify()

    def close(self) -> None:
        """Run what is due, then end; what takes too long is killed."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout=CLOSE_SECONDS)
        self._stop.set()
        self._thread.join(timeout=KILL_SECONDS)

    def _run(self) -> None:
        while due := self._next_due():
            step, change = due
            try:
                problem = self._run_action(step, change)
            except Exception as error:  # whatever it is, the next change's hook must still run
                problem = f"the {step} cannot be run: {error}"
            if problem is not None:
                with self._wake:
                    self._waiting.setdefault(step, (time.monotonic() + AGAIN_SECONDS, change))
            self.ran(step, problem)

    def _next_due(self) -> tuple[HookStep, Facts] | None:
        """The next step that is due, waited for; the hook before verify. None at the end."""
        with self._wake:
            while True:
                now = time.monotonic()
                for step in sorted(self._waiting):
                    if self._waiting[step][0] <= now:
                        return step, self._waiting.pop(step)[1]
                if self._closing:
                    return None
                times = [at - now for at, _ in self._waiting.values()]
                self._wake.wait(min(times, default=None))

    def _run_action(self, step: HookStep, change: Facts) -> str | None:
        action, level = self.action(step), str(change.get("level", ""))
        body = change if step == "hook" else None
        return run_action(action, level, self._stop.wait, body) if action else None


def run_action(action: Action, level: str, pause: Pause, body: Facts | None) -> str | None:
    """None when it worked, else one sentence. level, body: what a program, a URL is told."""
    if action.argv:
        known = {name: value for name, value in os.environ.items() if "_TOKEN" not in name}
        known["LLM_BUDGET_LEVEL"] = level
        return run_program(action.argv, action.timeout_seconds, known, pause)
    return call(str(action.url), action.timeout_seconds, body)


def run_program(
    argv: list[str], timeout: float, known: dict[str, str], pause: Pause, all_end: bool = False
) -> str | None:
    """None when it ended with 0, else one sentence. known: its environment.

    At the timeout, or when pause says or raises so, it is killed with everything that it started
    (its process group); all_end: so is what it leaves running.
    The end is the process', not the pipe's: something that it left running may hold the pipe.
    """
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=known,
            start_new_session=True,
        )
    except OSError as error:
        return f"{argv[0]} cannot be run: {error.strerror}"
    with process:
        assert process.stdout
        pipe, deadline, tail = process.stdout.fileno(), time.monotonic() + timeout, b""
        os.set_blocking(pipe, False)
        try:
            while process.poll() is None and time.monotonic() < deadline:
                if pause(POLL_SECONDS):
                    break
                tail = _drained(pipe, tail)
        finally:
            if process.poll() is None or all_end:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode is None:
            return f"{argv[0]} did not end within its timeout of {timeout:g} s"
        printed = " ".join(_drained(pipe, tail).decode(errors="replace").split())
    if process.returncode == 0:
        return None
    return f"{argv[0]} ended with status {process.returncode}{printed and f': {printed}'}"


def _drained(pipe: int, tail: bytes) -> bytes:
    """The tail after reading what the pipe holds, so that a talkative program never blocks."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(READS_A_POLL):
            tail = (tail + os.read(pipe, 1 << 16))[-KEPT_OUTPUT_BYTES:]
    return tail


def call(url: str, timeout: float, body: Facts | None) -> str | None:
    """POST body as JSON, or GET without one, with retries. None when it worked, else a sentence."""
    problem = None
    for attempt in range(HTTP_ATTEMPTS):
        time.sleep(RETRY_SECONDS if attempt else 0)
        try:
            status = fetch(url, content=body, timeout=timeout, max_bytes=0).status
            if status < 300:
                return None
            problem = f"{url} answered {status}"
        except FetchError as error:
            problem = str(error)
    return problem
