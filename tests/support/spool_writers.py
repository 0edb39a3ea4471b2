"""Scrapers in processes of their own that write to a spool and are killed."""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.spools import Reader

PROMPT, COMPLETION = 812, 143
StartWriter = Callable[..., subprocess.Popen[bytes]]

# A scraper in its own process: records, and says so (one byte) each time record() returned True.
WRITER = """
import os, resource, sys
from sdk.client import Client
from tests.support.spools import answer
spool, calls, name, max_bytes, file_size = sys.argv[1:]
if int(file_size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_size), int(file_size)))
client = Client(spool, max_bytes=int(max_bytes))
for number in range(int(calls)):
    done = client.record(f"roaster-{number % 3}", "notes", answer(id=f"{name}-{number}"))
    os.write(1, b"+" if done else b"-")
"""


def spool_writer(
    spool: Path, calls: int, name: str = "w", max_bytes: int = 1 << 30, file_size: int = 0
) -> subprocess.Popen[bytes]:
    """Start one. file_size: the size at which the kernel refuses to let its files grow."""
    arguments = [str(spool), str(calls), name, str(max_bytes), str(file_size)]
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, *arguments],
        stdout=subprocess.PIPE,
        # Not pytest's capture file, which the limit on file sizes would hold for too.
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a writer, whether it still runs or not, and close its pipes."""
    process.kill()
    process.communicate()


@contextmanager
def spool_writers() -> Iterator[StartWriter]:
    """spool_writer, whose processes all end at the end."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*arguments: object, **more: object) -> subprocess.Popen[bytes]:
        running.append(spool_writer(*arguments, **more))  # type: ignore[arg-type]
        return running[-1]

    try:
        yield start
    finally:
        for process in running:
            end(process)


def acknowledged(process: subprocess.Popen[bytes]) -> Counter[str]:
    """How often record() returned True (+) and False (-), once the process has ended."""
    assert process.stdout
    said = Counter(process.stdout.read().decode())
    process.wait()
    return said


def check(reader: Reader, calls: int, prompt: int = PROMPT, completion: int = COMPLETION) -> None:
    """The spool holds exactly so many calls, and their tokens."""
    total = reader.read().totals()
    assert (total["calls"], total["prompt_tokens"], total["completion_tokens"]) == (
        calls,
        calls * prompt,
        calls * completion,
    )


def kill_writers(spool: Path, rounds: int) -> None:
    """kill -9 of two writers at random moments, round after round; every third round folds."""
    seen = random.Random(7)
    reader = Reader(spool)
    acknowledged_calls = 0
    with spool_writers() as start:
        for round_number in range(rounds):
            max_bytes = 6_000 if round_number % 3 == 2 else 1 << 30
            killed = [start(spool, 100_000, f"{round_number}.{n}", max_bytes) for n in range(2)]
            heard = []
            for process in killed:
                assert process.stdout
                heard.append(process.stdout.read(seen.randrange(1, 400)))
                os.kill(process.pid, signal.SIGKILL)
            reader.read()
            for first, process in zip(heard, killed, strict=True):
                acknowledged_calls += len(first) + acknowledged(process)["+"]
    calls = reader.read().totals()["calls"]
    # A call may be in the file whose record() had not returned when the process was killed.
    assert acknowledged_calls <= calls <= acknowledged_calls + 2 * rounds
    check(reader, calls)
    assert len(reader.bad_lines) <= 2 * rounds
