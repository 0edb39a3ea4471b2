"""Crash tests: loads that report usage while an exporter is killed, and what they must add up to.

A Load sends usage and keeps its own books. Whatever it calls acknowledged must be on disk after
any kill -9; everything that it sent must be counted exactly once in the end.
"""

import json
import random
import shutil
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Any

import requests

from command.stack.processes import Child, free_port
from sdk.client import Client
from tests.support.exporters import write_config
from tests.support.waiting import until

Event = dict[str, Any]
# Pico-dollars per token of DeepSeek's list, by hand: 0.00027, 0.00007 and 0.00110 USD per 1,000.
INPUT, CACHED, OUTPUT = 270_000, 70_000, 1_100_000
FIELDS = ("notes", "tags", "weight")


def tally(events: Iterable[Event]) -> Counter[tuple[str, ...]]:
    """What events add up to: requests, tokens by type and pico-dollars per series."""
    sums: Counter[tuple[str, ...]] = Counter()
    for event in events:
        usage = event["usage"]
        cached = usage["prompt_cache_hit_tokens"]
        fresh, output = usage["prompt_tokens"] - cached, usage["completion_tokens"]
        series = (event["roaster"], event["field"])
        sums[*series, event["outcome"]] += 1
        sums[*series, "input"] += fresh
        sums[*series, "cached_input"] += cached
        sums[*series, "output"] += output
        sums[*series, "cost"] += fresh * INPUT + cached * CACHED + output * OUTPUT
    return +sums  # without zeros


def some_event(rng: random.Random, identity: str) -> Event:
    """A random call with an id."""
    prompt = rng.randint(1, 5000)
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": rng.randint(0, 900),
        "prompt_cache_hit_tokens": rng.randint(0, prompt),
    }
    return {
        "id": identity,
        "roaster": f"roaster-{rng.randint(0, 5)}",
        "field": rng.choice(FIELDS),
        "model": "deepseek-chat",
        "outcome": rng.choice(("success", "error")),
        "usage": usage,
    }


class Load:
    """Something that reports usage. Subclass: work() until told to stop, then drain()."""

    flags: Sequence[str] = ()  # what the exporter needs for it, e.g. --log FILE
    folds = False  # whether it may put several calls into one event

    def __init__(self) -> None:
        self.sent: dict[str, Event] = {}  # by id: all of it must be counted in the end
        self._acknowledged: set[str] = set()
        self._lock = threading.Lock()

    def acknowledge(self, ids: Iterable[str]) -> None:
        with self._lock:
            self._acknowledged.update(ids)

    def acknowledged(self) -> set[str]:
        """Ids that must be on disk from now on; a load whose promise comes later returns none."""
        with self._lock:
            return set(self._acknowledged)

    def work(self, url: str, stop: threading.Event) -> None:
        """Report usage until stop; the exporter at url comes and goes."""
        raise NotImplementedError

    def drain(self, url: str) -> None:
        """Return when everything that was sent is acknowledged; the exporter stays up now."""
        raise NotImplementedError


class HttpLoad(Load):
    """One client: posts batches, repeats what was not acknowledged, and now and then what was."""

    def __init__(self, name: str, seed: int) -> None:
        super().__init__()
        self._name = name
        self._rng = random.Random(seed)  # each client its own: no order of threads decides
        self._pending: list[Event] = []

    def work(self, url: str, stop: threading.Event) -> None:
        with requests.Session() as session:
            while not stop.is_set():
                if not self._pending:
                    self._pending = [self._next() for _ in range(self._rng.randint(1, 6))]
                if not self._post(session, url):
                    stop.wait(0.02)

    def drain(self, url: str) -> None:
        with requests.Session() as session:
            until(lambda: not self._pending or self._post(session, url), what="acknowledged")

    def _next(self) -> Event:
        if self.sent and self._rng.random() < 0.2:
            return self._rng.choice(list(self.sent.values()))
        event = some_event(self._rng, f"{self._name}-{len(self.sent)}")
        self.sent[event["id"]] = event
        return event

    def _post(self, session: requests.Session, url: str) -> bool:
        ndjson = self._rng.random() < 0.5
        lines = "\n".join(json.dumps(event) for event in self._pending)
        body = lines if ndjson else json.dumps(self._pending)
        kind = "application/x-ndjson" if ndjson else "application/json"
        headers = {"Content-Type": kind}
        try:
            answer = session.post(f"{url}/v1/usage", data=body, headers=headers, timeout=10)
        except requests.RequestException:
            return False
        if answer.status_code == 503:
            return False
        assert answer.status_code == 200, answer.text
        result = answer.json()
        assert result["rejected"] == []
        assert result["accepted"] + result["duplicate"] == len(self._pending)
        self.acknowledge(event["id"] for event in self._pending)
        self._pending = []
        return True


class LogLoad(Load):
    """A scraper's structured log: lines with and without ids, repeated ones, and rotation."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__()
        self._log = folder / "scraper.log"
        self._rng = random.Random(seed)
        self._rotations = 0
        self.flags = ("--log", str(self._log))

    def work(self, url: str, stop: threading.Event) -> None:
        while not stop.is_set():
            event = some_event(self._rng, f"log-{len(self.sent)}")
            self.sent[event["id"]] = event
            repeats = 2 if self._rng.random() < 0.1 else 1
            with open(self._log, "a") as log:
                log.write((json.dumps(event) + "\n") * repeats)
            if self._rng.random() < 0.002:
                self._rotations += 1
                self._log.rename(f"{self._log}.{self._rotations}")
            stop.wait(0.01)

    def drain(self, url: str) -> None:
        """The exporter reads on by itself."""


class SpoolLoad(Load):
    """The vendored client: record() has returned True, so the call is in the spool for good."""

    folds = True  # several calls may become one event

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__()
        self._rng = random.Random(seed)
        self._client = Client(folder / "spool.jsonl")
        self.flags = ("--log", str(folder / "spool.jsonl"))

    def work(self, url: str, stop: threading.Event) -> None:
        while not stop.is_set():
            event = some_event(self._rng, f"spool-{len(self.sent)}")
            self.sent[event["id"]] = event
            assert self._client.record(
                event["roaster"], event["field"], event, outcome=event["outcome"]
            )
            stop.wait(0.01)

    def drain(self, url: str) -> None:
        assert self._client.lost() == 0


class CrashTest:
    """An exporter that is killed again and again under loads."""

    def __init__(self, folder: Path, loads: Sequence[Load]) -> None:
        self.folder = folder
        self.loads = loads
        self.ledger = folder / "ledger.sqlite"
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        argv = [sys.executable, "-m", "exporter", "--config", str(write_config(folder))]
        argv += ["--listen", f"127.0.0.1:{port}", "--ledger", str(self.ledger)]
        argv += [flag for load in loads for flag in load.flags]
        self.exporter = Child("exporter", argv, folder / "log", f"{self.url}/health")
        self._failures: list[BaseException] = []

    def run(self, kills: int, seed: int) -> None:
        """Kill at random moments, start-up included; check after each kill and at the end."""
        rng = random.Random(seed)
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._work, args=(load, stop), daemon=True)
            for load in self.loads
        ]
        self.exporter.start()
        for thread in threads:
            thread.start()
        try:
            for _ in range(kills):
                if rng.random() < 0.85:  # else: killed while it starts
                    self.exporter.wait_ready()
                threading.Event().wait(rng.uniform(0, 0.6))  # the random moment
                before = [load.acknowledged() for load in self.loads]
                self.exporter.kill()
                self.check_disk(before)
                self.exporter.start()
            self.exporter.wait_ready()
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        assert not self._failures, self._failures
        for load in self.loads:
            load.drain(self.url)
        self.check_books()
        self.exporter.kill()
        self.exporter.start()
        self.exporter.wait_ready()
        self.check_books()
        self.exporter.stop()

    def _work(self, load: Load, stop: threading.Event) -> None:
        try:
            load.work(self.url, stop)
        except BaseException as error:
            self._failures.append(error)

    def check_disk(self, acknowledged: Sequence[set[str]]) -> None:
        """In a copy of what the killed one left: acknowledged ids are there, sums agree with ids.

        Every event has an id and no call is sent under two, so requests and ids must be as many.
        """
        copy = self.folder / "copy"
        copy.mkdir(exist_ok=True)
        for path in (self.ledger, Path(f"{self.ledger}-wal")):
            if path.exists():
                shutil.copy(path, copy)
        with sqlite3.connect(copy / self.ledger.name) as db:
            query = "SELECT name FROM sqlite_schema WHERE name GLOB 'event_ids_*'"
            tables = [name for (name,) in db.execute(query)]
            known = {row[0] for name in tables for row in db.execute(f"SELECT digest FROM {name}")}
            missing = {i for ids in acknowledged for i in ids if digest(i) not in known}
            assert not missing, f"acknowledged and lost: {sorted(missing)[:5]}"
            if known and not any(load.folds for load in self.loads):
                query = "SELECT sum(success + error) FROM accounts"
                assert db.execute(query).fetchone() == (len(known),)
        shutil.rmtree(copy)

    def check_books(self) -> None:
        """The page says what the loads added up themselves, to the last pico-dollar."""
        events = [event for load in self.loads for event in load.sent.values()]
        assert len({event["id"] for event in events}) == len(events)
        expected = tally(events)

        def read() -> Counter[tuple[str, ...]]:
            return published(requests.get(f"{self.url}/metrics", timeout=10).text)

        def all_there() -> bool:
            sums = read()
            return all(sums[key] >= value for key, value in expected.items())

        until(all_there, timeout=60, what="logs and spools are read")
        assert read() == expected


def digest(identity: str) -> bytes:
    return blake2b(f"deepseek\0{identity}".encode(), digest_size=16).digest()


def published(page: str) -> Counter[tuple[str, ...]]:
    """The same sums as tally, read from the page's own decimals."""
    sums: Counter[tuple[str, ...]] = Counter()
    for line in page.splitlines():
        name, _, rest = line.partition("{")
        if name not in ("llm_requests_total", "llm_tokens_total", "llm_cost_usd_total"):
            continue
        labels, _, value = rest.rpartition("} ")
        pairs = dict(pair.split("=") for pair in labels.replace('"', "").split(","))
        what = pairs.get("outcome") or pairs.get("type") or "cost"
        amount = Decimal(value) * (10**12 if what == "cost" else 1)
        assert amount == int(amount)
        sums[pairs["roaster"], pairs["field"], what] += int(amount)
    return +sums


def every_load(folder: Path, seed: int) -> list[Load]:
    """Every way in: HTTP, a structured log and the client's spool."""
    http = [HttpLoad(f"http-{number}", seed + number) for number in range(4)]
    return [*http, LogLoad(folder, seed), SpoolLoad(folder, seed)]


def crash(folder: Path, kills: int, seed: int) -> None:
    """Kill an exporter so many times under every load, then compare."""
    test = CrashTest(folder, every_load(folder, seed))
    try:
        test.run(kills, seed)
    finally:
        test.exporter.kill()
    assert all(len(load.sent) > kills for load in test.loads), "there was next to no load"
