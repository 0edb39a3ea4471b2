"""After a change: a program without a shell, or an HTTP call; never in the next one's way."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from alertmanager.receiver.ladder.ladder import Action
from common.fetch import FetchError, fetch

HTTP_ATTEMPTS = 3
RETRY_SECONDS = 1.0
AGAIN_SECONDS = 60.0  # what failed is run again after so long
KEPT_OUTPUT_BYTES = 300  # the last words of a program; the rest of what it prints is dropped
CLOSE_SECONDS = 5.0
POLL_SECONDS = 0.02
READS_A_POLL = 16
Actions = dict[str, tuple[Action, dict[str, Any]]]


class Hooks:
    """One thread that runs actions in order; of several waiting changes only the last matters."""

    def __init__(
        self, failed: Callable[[str, str], None], succeeded: Callable[[str], None]
    ) -> None:
        """failed(name, sentence) and succeeded(name) are called from the thread."""
        self._failed = failed
        self._succeeded = succeeded
        self._waiting: Actions = {}
        self._failing: dict[str, tuple[float, dict[str, Any]]] = {}  # since when, on which change
        self._news = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hooks", daemon=True)
        self._thread.start()

    def submit(self, actions: Actions) -> None:
        """Run each named action with what it is told about the change."""
        with self._news:
            for name in actions:
                self._failing.pop(name, None)  # an older change must not be told after a newer
            self._waiting |= actions
            self._news.notify()

    def retry(self, current: dict[str, Action | None]) -> None:
        """Run what failed a while ago again, as it is written now; what is gone fails no more."""
        with self._news:
            for name, (failed_at, change) in list(self._failing.items()):
                action = current[name]
                if action and time.monotonic() - failed_at < AGAIN_SECONDS:
                    continue
                del self._failing[name]
                if action is None:
                    self._succeeded(name)
                else:
                    self._waiting.setdefault(name, (action, change))
            self._news.notify()

    def close(self) -> None:
        """Run what waits, then end; what takes too long is killed."""
        with self._news:
            self._waiting[""] = self._waiting.get("", (Action(url="-"), {}))
            self._news.notify()
        self._thread.join(timeout=CLOSE_SECONDS)
        self._closed.set()
        self._thread.join(timeout=CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting)
                actions, self._waiting = self._waiting, {}
            last = actions.pop("", None)
            for name, (action, change) in actions.items():
                self._note(name, change, self._run_action(name, action, change))
            if last:
                return

    def _note(self, name: str, change: dict[str, Any], problem: str | None) -> None:
        with self._news:
            self._failing.pop(name, None)
            if problem:
                self._failing[name] = (time.monotonic(), change)
        if problem:
            self._failed(name, problem)
        else:
            self._succeeded(name)

    def _run_action(self, name: str, action: Action, change: dict[str, Any]) -> str | None:
        """None when it worked, else one sentence."""
        try:
            if action.argv:
                return run_program(action.argv, action.timeout_seconds, change, self._closed)
            body = change if name == "hook" else None
            return call(str(action.url), action.timeout_seconds, body)
        except Exception as error:  # whatever it is, the next change's hook must still run
            return f"the {name} cannot be run: {error}"


def run_program(
    argv: list[str], timeout: float, change: dict[str, Any], stop: threading.Event
) -> str | None:
    """None when it ended with 0, else one sentence. It learns the level from LLM_BUDGET_LEVEL.

    At the timeout, or on stop, it is killed with everything that it started (its process group).
    """
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(change),
            start_new_session=True,
        )
    except OSError as error:
        return f"{argv[0]} cannot be run: {error.strerror}"
    with process:
        words = _follow(process, timeout, stop)
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"{argv[0]} did not end within {timeout:g} s"
    if process.returncode == 0:
        return None
    said = f": {words}" if words else ""
    return f"{argv[0]} ended with status {process.returncode}{said}"


def _follow(process: "subprocess.Popen[bytes]", timeout: float, stop: threading.Event) -> str:
    """Wait until it ends or its time is over; its last words.

    The end is the process', not the pipe's: something that it left running may hold the pipe.
    """
    assert process.stdout
    pipe, deadline, tail = process.stdout.fileno(), time.monotonic() + timeout, b""
    os.set_blocking(pipe, False)
    while process.poll() is None and time.monotonic() < deadline and not stop.wait(POLL_SECONDS):
        tail = _drained(pipe, tail)
    return " ".join(_drained(pipe, tail).decode(errors="replace").split())


def _drained(pipe: int, tail: bytes) -> bytes:
    """The tail after reading what the pipe holds, so that a talkative program never blocks."""
    with contextlib.suppress(BlockingIOError):
        for _ in range(READS_A_POLL):
            tail = (tail + os.read(pipe, 1 << 16))[-KEPT_OUTPUT_BYTES:]
    return tail


def _environment(change: dict[str, Any]) -> dict[str, str]:
    """The receiver's own without its tokens, and the level."""
    own = {name: value for name, value in os.environ.items() if "_TOKEN" not in name}
    return {**own, "LLM_BUDGET_LEVEL": str(change.get("level", ""))}


def call(url: str, timeout: float, body: dict[str, Any] | None) -> str | None:
    """POST body as JSON, or GET without one, with retries. None when it worked, else a sentence."""
    problem = None
    for attempt in range(HTTP_ATTEMPTS):
        if attempt:
            time.sleep(RETRY_SECONDS)
        try:
            answer = fetch(url, content=body, timeout=timeout, max_bytes=0)
        except FetchError as error:
            problem = str(error)
        else:
            problem = f"{url} answered {answer.status}" if answer.status >= 300 else None
        if problem is None:
            return None
    return problem
