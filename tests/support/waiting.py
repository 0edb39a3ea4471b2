"""Waiting for events: poll until something holds, and say what did not."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    predicate: Callable[[], T], timeout: float = 30.0, what: str = "", every: float = 0.05
) -> T:
    """The first truthy result of predicate, polled every so many seconds.

    Exceptions of connections count as "not yet". Raises AssertionError after timeout seconds.
    """
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    last: object = None
    while time.monotonic() < deadline:
        try:
            result = predicate()
            if result:
                return result
            last = result
        except OSError as error:  # requests' and urllib's errors are OSErrors
            last = error
        pause.wait(every)
    raise AssertionError(f"after {timeout} s still not: {what or predicate}; last: {last!r}")
