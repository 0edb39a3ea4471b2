"""A machine with every way in, for power cuts: an exporter's ledger and logs, clients, a delivery.

`python -m tests.support.power_cut_load FOLDER JOURNAL SEED` loads one, and says in the journal what
it is about to report, and what is booked: that is on disk, whatever happens next.
"""

import contextlib
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry

from common.clock import SystemClock, iso8601
from exporter.config import Config, Limits, Log
from exporter.event import parse_event
from exporter.intake.counters import IntakeMetrics
from exporter.intake.logs.mapping import read_lines
from exporter.intake.logs.source import LogSource
from exporter.ledger.ledger import Ledger
from sdk import client_delivery
from sdk.client import Client

LEDGER = "ledger.sqlite"
STEPS = 220
MAX_BYTES = 1500  # of a spool: calls fold early
RETIRE_BYTES = 1000
PER_NAME = 3  # calls that share a name, and so a slot of the fold


def retire_early(set_attribute: Callable[[object, str, object], None]) -> None:
    """Take even small spools away. set_attribute: setattr, or pytest's."""
    set_attribute(client_delivery, "RETIRE_BYTES", RETIRE_BYTES)


class _Delivery(client_delivery._Delivery):
    """Delivers into a ledger at once, without a network."""

    def __init__(self, path: Path, ledger: Ledger) -> None:
        super().__init__(str(path), "", lambda: None)
        self._ledger = ledger

    def _post(self, batch: bytes) -> int:
        events, _ = read_lines(batch.split(b"\n"), None, SystemClock().now())
        self._ledger.submit(events).result()
        return sum(1 for line in batch.split(b"\n") if line.strip())


class Machine:
    """Its reports have names; booked() counts the calls under each."""

    def __init__(self, folder: Path) -> None:
        self.log, self.spool, self.remote = (
            folder / name for name in ("app.log", "calls.spool", "remote.spool")
        )
        self.clock = SystemClock()
        self.ledger = Ledger(folder / LEDGER, Config(limits=Limits(roasters=9000)), self.clock)
        logs = Log(str(self.log)), Log(str(self.spool))
        metrics = IntakeMetrics(CollectorRegistry(), 10)
        self.source = LogSource(logs, self.ledger, metrics, self.clock)
        self.clients = {
            path: Client(path, max_bytes=MAX_BYTES) for path in (self.spool, self.remote)
        }

    def close(self) -> None:
        self.source.stop()
        self.ledger.close()
        for client in self.clients.values():
            client.close()

    def http(self, name: str) -> None:
        event = {"id": name, "roaster": name, "outcome": "cached"}
        self.ledger.submit([parse_event(event, self.clock.now())]).result()

    def write_log(self, name: str) -> None:
        line = {"time": iso8601(self.clock.now()), "roaster": name, "outcome": "cached"}
        with open(self.log, "ab", buffering=0) as file:
            file.write(json.dumps(line).encode() + b"\n")

    def record(self, name: str) -> None:
        self._record(self.clients[self.spool], name)

    def record_remote(self, name: str) -> None:
        self._record(self.clients[self.remote], name)

    def _record(self, client: Client, name: str) -> None:
        at = self.clock.now() // 3600 * 3600  # a fold has a sum for each minute: let it be one
        assert client.record(name, "notes", outcome="cached", at=at)

    def poll(self) -> None:
        idle = 0
        while idle < 3:
            idle = 0 if self.source.poll() else idle + 1

    def deliver(self) -> None:
        with contextlib.closing(_Delivery(self.remote, self.ledger)) as delivery:
            while delivery.round():
                pass

    def rotate(self) -> None:
        if self.log.exists():
            number = len(list(self.log.parent.glob("app.log.*"))) + 1
            self.log.rename(f"{self.log}.{number}")

    def write_back(self, rng: random.Random) -> None:
        """What the kernel does now and then on its own."""
        path = rng.choice([self.log, self.spool, self.remote])
        if path.exists():
            with open(path, "rb") as file:
                os.fsync(file)

    def inodes(self) -> dict[str, int]:
        """Of the files that the exporter follows."""
        found = self.log.parent.glob("app.log*"), self.log.parent.glob(self.spool.name)
        return {path.name: path.stat().st_ino for paths in found for path in paths}

    def go_on(self, names: Iterable[str]) -> Counter[str]:
        """After a reboot: programs report before the exporter looks, and afterwards; what.

        names: of calls that may be in a fold that is there again; more calls join them.
        """
        again = Counter(names)
        for path in (self.spool, self.remote):
            with contextlib.closing(Client(path, max_bytes=0)) as folding:
                for name in names:
                    self._record(folding, name)
        again += again
        with open(self.log, "ab") as file:
            file.write(b"\n")  # as a line that was cut spoils the one behind it
        for moment in ("early", "late"):
            for way in (self.http, self.write_log, self.record, self.record_remote):
                for number in range(4):
                    way(name := f"{moment}-{way.__name__}-{number}")
                    again[name] += 1
            self.poll()
            self.deliver()
        return again

    def booked(self) -> Counter[str]:
        calls: Counter[str] = Counter()
        for key, total in self.ledger.books.totals.items():
            calls[key.roaster] += total.requests
        return calls


def load(folder: Path, journal: Path, seed: int) -> None:
    """Some hundred reports and looks, then the end without a farewell."""
    retire_early(setattr)
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    with open(journal, "ab", buffering=0) as said:

        def say(kind: str, what: object) -> None:
            said.write(json.dumps([kind, what]).encode() + b"\n")

        machine = Machine(folder)
        ways = [machine.http, machine.write_log, machine.record, machine.record_remote]
        looks = [machine.poll, machine.poll, machine.deliver, lambda: machine.write_back(rng)]
        looks += [lambda: machine.write_back(rng), machine.rotate]
        for _ in range(STEPS):
            if rng.random() < 0.75:
                report(rng.choice(ways), rng.choice((1, 1, 2, 6)), counts, say)
            else:
                rng.choice(looks)()
            say("booked", machine.booked())
            say("inodes", machine.inodes())
    os._exit(0)


def report(
    way: Callable[[str], None], calls: int, counts: Counter[str], say: Callable[[str, object], None]
) -> None:
    kind = way.__name__
    for _ in range(calls):
        shared = PER_NAME if kind.startswith("record") else 1
        name = f"{kind}-{counts[kind] // shared}"
        counts[kind] += 1
        say("reports", name)
        way(name)


if __name__ == "__main__":
    load(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
