"""One child process: started with a log of its own, ended by its own process id, never orphaned."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from common import signals
from common.errors import UserError
from common.fetch import FetchError, fetch

READY_TIMEOUT_SECONDS = 30.0
READY_CALL_SECONDS = 2.0
STOP_TIMEOUT_SECONDS = 10.0
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


def free_port() -> int:
    """A loopback TCP port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> None:
    """In the child: SIGKILL when the parent goes, so that even its kill -9 leaves nothing behind.

    Linux counts the thread that started the child as its parent: start from one that lives on.
    """
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(eq=False)
class Child:
    """A child process with a readiness URL; started and ended by its own pid."""

    name: str
    argv: list[str]
    log: Path  # its output, appended
    ready_url: str  # answers 200 when it is up
    environment: Mapping[str, str] = field(default_factory=dict)  # on top of ours
    folder: Path | None = None  # it works there
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)
    _log_from: int = field(default=0, init=False)

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeError when it was never started."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as output, signals.noted():
            self._log_from = output.tell()  # an earlier run's output explains nothing
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                start_new_session=True,  # Ctrl-C reaches the parent, which stops them in order
                preexec_fn=_die_with_parent,
            )

    def wait_ready(self, timeout: float = READY_TIMEOUT_SECONDS) -> None:
        """Raises UserError with the last lines of its log, Interrupted at a signal."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and self.running:
            if self.ready():
                return
            signals.sleep(0.05)
        with open(self.log, "rb") as log:
            log.seek(self._log_from)
            lines = log.read().decode(errors="replace").strip().splitlines()[-5:]
        state = "did not get ready" if self.running else "ended at once"
        raise UserError(f"{self.name} {state}; its log ends: " + (" | ".join(lines) or "(empty)"))

    def ready(self) -> bool:
        try:
            return fetch(self.ready_url, timeout=READY_CALL_SECONDS, max_bytes=0).status == 200
        except FetchError:
            return False

    def kill(self) -> int | None:
        return self.stop(signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int | None:
        """A signal, then SIGKILL after ten seconds; the exit status, None if it did not run."""
        process = self._process
        if process is None:
            return None
        process.send_signal(number)  # which sends none to one that has ended
        process.send_signal(signal.SIGCONT)  # a stopped process cannot act on SIGTERM
        try:
            return process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
