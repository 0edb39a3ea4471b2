"""After a change: a program without a shell, or an HTTP call; never in the next one's way."""

import os
import subprocess
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import requests

from alertmanager.receiver.ladder import Action

HTTP_ATTEMPTS = 3
RETRY_SECONDS = 1.0


class Hooks:
    """One thread that runs actions in order; of several waiting changes only the last matters."""

    def __init__(
        self, failed: Callable[[str, str], None], succeeded: Callable[[str], None]
    ) -> None:
        """failed(name, sentence) and succeeded(name) are called from the thread."""
        self._failed = failed
        self._succeeded = succeeded
        self._queue: SimpleQueue[dict[str, tuple[Action, dict[str, Any]]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="hooks", daemon=True)
        self._thread.start()

    def submit(self, actions: dict[str, tuple[Action, dict[str, Any]]]) -> None:
        """Run each named action with what it is told about the change."""
        if actions:
            self._queue.put(actions)

    def close(self) -> None:
        """Finish what runs, at most its timeout."""
        self._queue.put(None)
        self._thread.join(timeout=15)

    def _run(self) -> None:
        while (actions := self._queue.get()) is not None:
            while True:  # a flapping level must not pile up hooks
                try:
                    newer = self._queue.get_nowait()
                except Empty:
                    break
                if newer is None:
                    self._queue.put(None)
                    break
                actions |= newer
            for name, (action, change) in actions.items():
                problem = run_action(action, change, post=name == "hook")
                if problem:
                    self._failed(name, problem)
                else:
                    self._succeeded(name)


def run_action(action: Action, change: dict[str, Any], *, post: bool) -> str | None:
    """None when it worked, else one sentence. A program learns the change from LLM_BUDGET_LEVEL."""
    if action.argv:
        return _run_program(action.argv, action.timeout_seconds, change)
    return _call(str(action.url), action.timeout_seconds, change if post else None)


def _run_program(argv: list[str], timeout: float, change: dict[str, Any]) -> str | None:
    environment = {**os.environ, "LLM_BUDGET_LEVEL": str(change.get("level", ""))}
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, env=environment
        )
    except subprocess.TimeoutExpired:
        return f"{argv[0]} did not end within {timeout:g} s"
    except OSError as error:
        return f"{argv[0]} cannot be run: {error.strerror}"
    return f"{argv[0]} ended with status {done.returncode}" if done.returncode else None


def _call(url: str, timeout: float, body: dict[str, Any] | None) -> str | None:
    problem = None
    for attempt in range(HTTP_ATTEMPTS):
        if attempt:
            time.sleep(RETRY_SECONDS)
        try:
            method = "POST" if body is not None else "GET"
            answer = requests.request(method, url, json=body, timeout=timeout, stream=True)
            answer.close()
        except requests.RequestException as error:
            problem = f"{url} cannot be reached ({type(error).__name__})"
            continue
        if answer.status_code < 400:
            return None
        problem = f"{url} answered {answer.status_code}"
    return problem
