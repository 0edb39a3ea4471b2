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
import glob
import hashlib
import json
import logging
import os
import random
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING or __package__:
    from . import client as base
else:  # this file and client.py lie flat in a program's folder
    import client as base

__all__ = ["DeliveryError", "deliver"]

BATCH_BYTES = 256 << 10  # a thousand lines or so
RETIRE_BYTES = 1 << 20  # a spool that is read and larger is taken away
LINE_BYTES = 1 << 20  # more than any line of the client's
FINGERPRINT_BYTES = 1024
IDLE_SECONDS = 0.2
BACKOFF_SECONDS = (0.5, 60.0)
_BESIDE = re.compile(r"\.(lock|delivered(\.new)?|fold(\.[0-9a-f]{16})?)$")


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
    with contextlib.closing(_Delivery(os.fspath(spool), exporter, token)) as delivery:
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


# --- the reader's half of the spool's protocol: the exporter's, too, when it follows a spool -----
# Killed between any two steps, the next start finds either the old file or the new name.


def is_beside_spool(name: str) -> bool:
    """Whether a name is that of a fold, taken or not, or what else is kept beside a spool."""
    return bool(_BESIDE.search(name))


def lock_spool(spool: str) -> int | None:
    """Keep other readers out until the descriptor is closed; None: there is one. Raises OSError."""
    fd = base.open_file(f"{spool}.lock", os.O_RDWR)
    if base.lock_file(fd, fcntl.LOCK_EX, 0.0):
        return fd
    os.close(fd)
    return None


def retire(spool: str, fd: int, offset: int) -> bool:
    """Remove a spool read up to offset, unless it is small, has more or a writer is at work."""
    if offset < RETIRE_BYTES or not base.lock_file(fd, fcntl.LOCK_EX, 0.0):
        return False
    try:
        done = os.fstat(fd).st_size == offset and base.is_file_at(spool, fd)
        if done:
            os.unlink(spool)
        return done
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


def take_folds(spool: str) -> Iterator[str]:
    """The folds of a spool that never change again; the one that is there now comes last.

    Others were taken before and are not finished, perhaps after a kill. Raises OSError.
    """
    fold = f"{spool}.fold"
    yield from sorted(glob.glob(f"{glob.escape(fold)}.{'[0-9a-f]' * 16}"))
    with contextlib.suppress(FileNotFoundError):
        if taken := _take(fold):
            yield taken


def _take(fold: str) -> str | None:
    """Its new name; durably, as no power cut may bring an older one back for calls to join."""
    with _open(fold) as file:
        fd = file.fileno()
        if not (_is_fold(fd) and base.lock_file(fd, fcntl.LOCK_EX, 0.0)):
            return None
        if not base.is_file_at(fold, fd):
            return None
        os.fsync(fd)
        taken = f"{fold}.{os.urandom(8).hex()}"
        os.rename(fold, taken)
        folder = os.open(os.path.dirname(os.path.abspath(fold)), os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        return taken


def _is_fold(fd: int) -> bool:
    """Whether the first slot is a fold's, but for the holes that kills and power cuts leave."""
    heads = (os.pread(fd, 64, at) for at in range(0, os.fstat(fd).st_size, base.SLOT))
    slot = next((head for head in heads if not head.startswith(b"\0")), b"")
    return slot.startswith(b"{") and b'"fold-' in slot


# --- sending it ---------------------------------------------------------------------------------


class _Delivery:
    """The reader's side of the spool: read, send, remember, retire. One at a time (a lock)."""

    def __init__(self, spool: str, exporter: str, token: Callable[[], str | None]) -> None:
        self._spool = spool
        self._url = exporter.rstrip("/") + "/v1/usage"
        self._token = token
        self._batch_bytes = BATCH_BYTES
        self._mark = f"{spool}.delivered"
        try:
            lock = lock_spool(spool)
        except OSError as error:
            raise DeliveryError(f"cannot lock {spool}: {error}") from error
        if lock is None:
            raise DeliveryError(f"another delivery already reads {spool}")
        self.close = functools.partial(os.close, lock)

    def round(self) -> int:
        """Send one batch of the spool, and each fold; how many events that were."""
        sent = self._spool_batch()
        with _planted_warned():
            for fold in take_folds(self._spool):
                sent += self._send_fold(fold)
        return sent

    def _spool_batch(self) -> int:
        try:
            file = _open(self._spool)
        except FileNotFoundError:
            return 0
        with file:
            # What a power cut left of the header: perhaps only zero bytes, or its beginning.
            header, begin = file.readline(200), base.SPOOL_HEADER
            if not begin.startswith(header.partition(b"\0")[0].strip()[: len(begin)]):
                raise DeliveryError(f"{self._spool} is not a spool: it does not begin as one")
            is_whole = header.startswith(begin) and header.endswith(b"\n")
            offset = self._offset(file) or len(header) * is_whole
            file.seek(offset)
            while batch := self._batch(file):
                sent = self._post(batch)
                offset += len(batch)
                self._remember(file, offset)
                if sent:
                    return sent
            retire(self._spool, file.fileno(), offset)
        return 0

    def _batch(self, file: BinaryIO) -> bytes:
        """The next whole lines; one that has no end yet waits. Zero bytes end a line, too."""
        batch = file.read(self._batch_bytes) + file.readline(LINE_BYTES)
        batch = batch.replace(b"\0", b"\n")
        return batch[: batch.rfind(b"\n") + 1]

    def _post(self, batch: bytes) -> int:
        """Deliver lines. Raises DeliveryError or OSError unless the exporter answers for each."""
        lines = sum(1 for line in batch.split(b"\n") if line.strip())
        if not lines:
            return 0
        status, body = self._ask(batch)
        if status == 413:  # down to a few lines or one sum
            self._batch_bytes = max(base.SLOT, min(self._batch_bytes, len(batch)) // 2)
        if status != 200:
            raise DeliveryError(f"{self._url} answered {status}: {body[:200]!r}")
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

    def _ask(self, batch: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/x-ndjson"}
        if token := self._token():
            headers["Authorization"] = f"Bearer {token}"
        try:
            status, _, body = base.http_request(self._url, headers, data=batch)
        except OSError as error:
            why = error.strerror or error
            raise DeliveryError(f"{self._url} gives no answer: {why}") from error
        return status, body

    def _offset(self, file: BinaryIO) -> int:
        """Where to go on: at the start, where the ids make it harmless, unless all is as it was."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, OverflowError):
            with _open(self._mark) as marked:
                mark = json.loads(marked.read(4096))
            offset = int(mark["offset"])
            if mark["before"] == _fingerprint(file, offset):
                return offset
        return 0

    def _remember(self, file: BinaryIO, offset: int) -> None:
        temporary = f"{self._mark}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # whatever lies there: never write into it
        mark = {"offset": offset, "before": _fingerprint(file, offset)}
        fd = base.open_file(temporary, os.O_WRONLY | os.O_EXCL)
        with os.fdopen(fd, "w", encoding="ascii") as opened:
            json.dump(mark, opened)
            opened.flush()
            os.fsync(fd)
        os.replace(temporary, self._mark)

    def _send_fold(self, path: str) -> int:
        sent = 0
        with _planted_warned(), _open(path) as file:
            while slots := file.read(max(1, self._batch_bytes // base.SLOT) * base.SLOT):
                # Zero bytes are holes that a power cut left: they must not spoil the sum behind.
                sent += self._post(slots.replace(b"\0", b"\n"))
            os.unlink(path)
        return sent


@contextlib.contextmanager
def _planted_warned() -> Iterator[None]:
    """What somebody planted is said; the other folds are sent all the same."""
    try:
        yield
    except base.PlantedError as error:
        base.warn("planted", str(error))


def _open(path: str) -> BinaryIO:
    """Open a file for reading; never a link, nor what blocks. Raises OSError."""
    return os.fdopen(base.open_file(path, os.O_RDONLY, create=0), "rb")


def _fingerprint(file: BinaryIO, offset: int) -> str:
    """Of the last bytes before an offset. Raises ValueError when one is missing, OSError."""
    start = max(0, offset - FINGERPRINT_BYTES)
    content = os.pread(file.fileno(), offset - start, start)
    if len(content) != offset - start:
        raise ValueError("the file is shorter")
    return hashlib.blake2b(content, digest_size=16).hexdigest()


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
