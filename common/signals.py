"""SIGINT, SIGTERM and SIGHUP from a process's first moment to its last. Imports nothing slow.

They end a program also where a shell has put it in the background and told it to ignore SIGINT:
that is how whoever started it there stops it, and Prometheus does so too. Only a SIGHUP that is
ignored (nohup) stays so.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENDING = (signal.SIGINT, signal.SIGTERM)
STEP_SECONDS = 0.05
_came: list[int] = []  # and not yet obeyed, as far as we know


class Interrupted(KeyboardInterrupt):
    """A signal asks the program to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number  # as shells count


def end_at_once(status: int | None = None) -> None:
    """From here on a signal ends the process on the spot: for the time in which it holds nothing.

    Not by an exception: what runs while a module is imported may swallow it, and the program goes
    on. status: of the process, by default 128 + the signal's number.
    """
    _handle(lambda number: os._exit(128 + number if status is None else status))


def run(main: Callable[[], int]) -> int:
    """main's exit status; a signal raises Interrupted in it, and its status is the result."""
    try:
        _handle(_interrupt)
        return main()
    except Interrupted as interrupted:
        return interrupted.status
    finally:
        end_at_once()


@contextmanager
def noted() -> Iterator[None]:
    """A signal cuts nothing in here: check and sleep raise Interrupted, and the block's end does.

    For what must not be cut in the middle, or swallows exceptions as a fork does.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone has signals
        yield
        return
    before = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGHUP)}
    _handle(_came.append)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    check()


def check() -> None:
    """Raises Interrupted when a signal was noted, or something swallowed it."""
    if _came:
        number = _came[0]
        _came.clear()
        raise Interrupted(number)


def sleep(seconds: float) -> None:
    """time.sleep that a signal ends. Raises Interrupted."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        check()
        time.sleep(min(left, STEP_SECONDS))
    check()


def _interrupt(number: int) -> None:
    _came.append(number)
    raise Interrupted(number)


def _handle(handler: Callable[[int], object]) -> None:
    hangup = [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN else []
    for number in (*ENDING, *hangup):
        signal.signal(number, lambda number, _: handler(number))
