"""Measure intake over HTTP: 16 clients, each event with an id, answered when it is on disk."""

import json
import multiprocessing
import statistics
import tempfile
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.support.exporters import event, exporter_process

PROCESSES, THREADS = 4, 4
SECONDS = 6.0


def client(port: int, name: str, batch: int, until: float, latencies: list[float]) -> None:
    """One client with one connection; each request waits for its answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Content-Type": "application/json"}
    number = 0
    while time.monotonic() < until:
        calls = [event(id=f"{name}-{number}-{i}", roaster=f"r{i % 50}") for i in range(batch)]
        body = json.dumps(calls)
        begin = time.monotonic()
        connection.request("POST", "/v1/usage", body, headers)
        answer = json.loads(connection.getresponse().read())
        latencies.append(time.monotonic() - begin)
        assert answer["accepted"] == batch, answer
        number += 1


def clients(port: int, name: str, batch: int, results: Any) -> None:
    """A process of clients, so that the clients' interpreter is not what is measured."""
    latencies: list[float] = []
    until = time.monotonic() + SECONDS
    threads = [
        threading.Thread(target=client, args=(port, f"{name}-{n}", batch, until, latencies))
        for n in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(latencies)


def measure(port: int, batch: int) -> None:
    results: Any = multiprocessing.Queue()
    processes = [
        multiprocessing.Process(target=clients, args=(port, f"{batch}-{n}", batch, results))
        for n in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    latencies = [latency for _ in processes for latency in results.get()]
    for process in processes:
        process.join()
    cuts = statistics.quantiles(latencies, n=100)
    rate = len(latencies) * batch / SECONDS
    median, late = cuts[49] * 1000, cuts[98] * 1000
    print(
        f"  batches of {batch:<4}{rate:>9,.0f} events/s; "
        f"durable answer after {median:.1f} ms (median), {late:.1f} ms (p99)",
        flush=True,
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary, exporter_process(Path(temporary)) as exporter:
        port = int(exporter.ready_url.rsplit(":", 1)[1].partition("/")[0])
        print(f"POST /v1/usage, {PROCESSES * THREADS} clients, {SECONDS:.0f} s each")
        for batch in (1, 100):
            measure(port, batch)


if __name__ == "__main__":
    main()
