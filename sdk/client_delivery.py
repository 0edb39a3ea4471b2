"""Optional, beside client.py: sends a spool to an exporter on another host.

    python client_delivery.py --spool FILE --exporter URL [--token-file FILE] [--once]

Or `deliver(spool, url)` in a thread of your own. Standard library only, Python 3.9+.
Everything else: docs/adopt.md of llm-budget.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import json
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING or __package__:
    from . import client as base
else:  # this file and client.py lie flat in a program's folder
    import client as base

__all__ = ["DeliveryError", "deliver"]

BATCH_BYTES = 256 << 10  # a thousand lines or so
RETIRE_BYTES = 1 << 20  # a spool that is read and larger is taken away
IDLE_SECONDS = 0.2
BACKOFF_SECONDS = (0.5, 60.0)


class DeliveryError(Exception):
    """What keeps the spool from being delivered; trying again later is right."""


def deliver(
    spool: str | os.PathLike[str],
    exporter: str,
    *,
    token: Callable[[], str | None] = lambda: _ingest_token(None),
    once: bool = False,
    stop: threading.Event | None = None,
) -> int:
    """Send the spool to an exporter's URL until stop is set; once: what is there now.

    Returns how many events were delivered. A repeat after a crash is harmless: the exporter knows
    the ids. Raises DeliveryError when another delivery works on this spool, and with once when the
    exporter does not take it all; otherwise it tries again, less and less often up to a minute.
    """
    stop = stop or threading.Event()
    pause = BACKOFF_SECONDS[0]
    total = 0
    with _Delivery(os.fspath(spool), exporter, token) as delivery:
        while not stop.is_set():
            try:
                sent = delivery.round()
                total, pause = total + sent, BACKOFF_SECONDS[0]
                if once and not sent:
                    break
                wait = 0.0 if sent else IDLE_SECONDS
            except (DeliveryError, OSError) as error:
                if once:
                    raise DeliveryError(str(error)) from error
                base.warn("deliver", f"{spool}: {error}; trying again")
                wait = pause * (1 - 0.25 * random.random())  # noqa: S311
                pause = min(pause * 2, BACKOFF_SECONDS[1])
            stop.wait(wait)
    return total


def _ingest_token(file: str | None) -> str | None:
    """Read afresh each time: a token may be replaced. Raises OSError."""
    file = file or os.environ.get("LLM_BUDGET_INGEST_TOKEN_FILE")
    if file:
        with open(file, encoding="ascii") as opened:
            return opened.read().strip()
    return os.environ.get("LLM_BUDGET_INGEST_TOKEN", "").strip() or None


class _Delivery:
    """The reader's side of the spool: read, send, remember, retire. One at a time (a lock)."""

    def __init__(self, spool: str, exporter: str, token: Callable[[], str | None]) -> None:
        self._spool = spool
        self._url = exporter.rstrip("/") + "/v1/usage"
        self._token = token
        self._batch_bytes = BATCH_BYTES
        self._mark = f"{spool}.delivered"

    def __enter__(self) -> _Delivery:
        self._lock_fd = base.open_file(f"{self._spool}.lock", os.O_RDWR)
        if not base.lock_file(self._lock_fd, fcntl.LOCK_EX, 0.0):
            os.close(self._lock_fd)
            raise DeliveryError(f"another delivery already reads {self._spool}")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock_fd)

    def round(self) -> int:
        """Send one batch of the spool, and each fold; how many events that were."""
        return self._spool_batch() + sum(map(self._send_fold, self._folds()))

    def _spool_batch(self) -> int:
        try:
            file = open(self._spool, "rb")  # noqa: SIM115  closed below
        except FileNotFoundError:
            return 0
        with file:
            header = file.readline(200)
            if header and not header.startswith(b'{"spool"'):
                raise DeliveryError(f"{self._spool} is not a spool: it does not begin as one")
            if not header:
                return 0
            offset = self._offset(header)
            file.seek(offset)
            while batch := self._batch(file):
                sent = self._post(batch)
                offset += len(batch)
                self._remember(header, offset)
                if sent:
                    return sent
            self._retire(file.fileno(), offset)
        return 0

    def _batch(self, file: BinaryIO) -> bytes:
        """The next whole lines; one that has no end yet waits."""
        batch = file.read(self._batch_bytes) + file.readline()
        return batch[: batch.rfind(b"\n") + 1]

    def _post(self, batch: bytes) -> int:
        """Deliver lines. Raises DeliveryError or OSError unless the exporter answers for each."""
        lines = sum(1 for line in batch.split(b"\n") if line.strip())
        if not lines:
            return 0
        headers = {"Content-Type": "application/x-ndjson"}
        token = self._token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        status, _, body = base.http_request(self._url, headers, data=batch)
        if status == 413:  # down to a few lines or one sum
            self._batch_bytes = max(base.SLOT, min(self._batch_bytes, len(batch)) // 2)
        if status != 200:
            raise DeliveryError(f"{self._url} answered {status}: {body[:200]!r}")
        return self._acknowledged(lines, body)

    def _acknowledged(self, lines: int, body: bytes) -> int:
        try:
            answer = json.loads(body)
            refused = answer["rejected"]
            if answer["accepted"] + answer["duplicate"] + len(refused) != lines:
                raise ValueError("not every event is accounted for")
        except (ValueError, KeyError, TypeError) as error:
            raise DeliveryError(f"{self._url} is not an exporter: {error}") from error
        if refused:
            base.warn("refused", f"the exporter refused {len(refused)} events: {refused[0]}")
        return lines

    def _offset(self, header: bytes) -> int:
        """Where to go on: behind the header, in a file not seen before."""
        try:
            with open(self._mark, encoding="ascii") as file:
                mark = json.load(file)
            if mark["header"] == header.decode():
                return int(mark["offset"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # none yet, or unreadable: from the start, and the ids make it harmless
        return len(header)

    def _remember(self, header: bytes, offset: int) -> None:
        temporary = f"{self._mark}.new"
        with open(temporary, "w", encoding="ascii") as file:
            json.dump({"header": header.decode(), "offset": offset}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._mark)

    def _retire(self, fd: int, offset: int) -> None:
        """Take a file away in which everything is delivered and no writer is at work."""
        if offset < RETIRE_BYTES or not base.lock_file(fd, fcntl.LOCK_EX, 0.0):
            return
        if os.fstat(fd).st_size == offset and base.is_file_at(self._spool, fd):
            os.unlink(self._spool)  # closing the file gives the lock back

    def _folds(self) -> list[str]:
        """The folds taken away and not yet delivered; the current one is taken if it has any."""
        fold = f"{self._spool}.fold"
        with contextlib.suppress(FileNotFoundError), open(fold, "rb") as file:
            fd = file.fileno()
            if (
                os.fstat(fd).st_size
                and base.lock_file(fd, fcntl.LOCK_EX, 0.0)
                and base.is_file_at(fold, fd)
            ):
                os.rename(fold, f"{fold}.{os.urandom(8).hex()}")
        folder, name = os.path.split(os.path.abspath(fold))
        found = (os.path.join(folder, entry) for entry in sorted(os.listdir(folder)))
        return [path for path in found if os.path.basename(path).startswith(f"{name}.")]

    def _send_fold(self, path: str) -> int:
        with open(path, "rb") as file:
            # Without the holes that a power cut leaves: one would spoil the sum behind it.
            slots = file.read().replace(b"\0" * base.SLOT, b"")
        step = self._batch_bytes // base.SLOT * base.SLOT
        sent = sum(self._post(slots[at : at + step]) for at in range(0, len(slots), step))
        os.unlink(path)
        return sent


def main(argv: Sequence[str] | None = None) -> int:
    """0 when done or stopped, 1 when --once could not deliver all."""
    parser = argparse.ArgumentParser(
        prog="client_delivery.py", description="Send a spool to an exporter on another host."
    )
    parser.add_argument("--spool", required=True, metavar="FILE")
    parser.add_argument("--exporter", required=True, metavar="URL")
    help_text = "else LLM_BUDGET_INGEST_TOKEN_FILE or LLM_BUDGET_INGEST_TOKEN"
    parser.add_argument("--token-file", metavar="FILE", help=help_text)
    parser.add_argument("--once", action="store_true", help="what is there now, then end")
    flags = parser.parse_args(argv)
    logging.basicConfig(format="%(asctime)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    token = functools.partial(_ingest_token, flags.token_file)
    try:
        deliver(flags.spool, flags.exporter, token=token, once=flags.once, stop=stop)
    except (DeliveryError, ValueError) as error:  # ValueError: of the URL or the token
        sys.stderr.write(f"client_delivery.py: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
