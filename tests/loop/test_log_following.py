"""A real exporter that follows logs: kill -9 in the middle, SIGTERM, health, two of them."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from command.stack.processes import Child
from exporter.service import main
from tests.support.log_followers import append, line
from tests.support.waiting import until

Start = Callable[..., Child]


def get(child: Child, path: str) -> requests.Response:
    return requests.get(child.ready_url.removesuffix("/health") + path, timeout=10)


def requests_booked(child: Child) -> int:
    return int(get(child, "/api/v1/status").json()["requests"])


def grown_by(calls: int, child: Child) -> Callable[[], bool]:
    goal = requests_booked(child) + calls
    return lambda: requests_booked(child) >= goal


def test_kill_9_in_the_middle_of_writing_and_rotating(tmp_path: Path, start: Start) -> None:
    log = tmp_path / "llm.log"
    ended = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        pause = threading.Event()
        while not ended.is_set():
            append(log, "".join(line("a") for _ in range(20)))  # no ids: a repeat would count
            written += 20
            if written % 1000 == 0:
                log.rename(f"{log}.{written}")
            pause.wait(0.002)

    writer = threading.Thread(target=write)
    child = start("--log", str(log))
    writer.start()
    try:
        for _ in range(3):
            until(grown_by(300, child), every=0.01)
            assert child.kill() == -signal.SIGKILL
            child = start("--log", str(log))
    finally:
        ended.set()
        writer.join()
    until(lambda: requests_booked(child) >= written)
    assert child.stop() == 0
    child = start("--log", str(log))
    assert requests_booked(child) == written


def test_a_log_of_the_config_is_followed_and_sigterm_ends_it(tmp_path: Path, start: Start) -> None:
    child = start(config="log: [{path: '*.jsonl', only: {kind: llm}}]")
    append(tmp_path / "a.jsonl", line("a", kind="llm") + line("b", kind="web"))
    until(lambda: requests_booked(child) == 1)
    assert child.stop() == 0


def test_health_and_status_name_what_cannot_be_read(tmp_path: Path, start: Start) -> None:
    good, bad = tmp_path / "good.log", tmp_path / "bad.log"
    child = start("--log", str(good), "--log", str(bad))
    states = {entry["path"]: entry["state"] for entry in get(child, "/health").json()["logs"]}
    assert states == {str(good): "missing", str(bad): "missing"}
    bad.mkdir()
    until(lambda: get(child, "/health").status_code == 503)
    words = get(child, "/health").json()["status"]
    assert words == f"cannot read {bad}: it is not a regular file"
    assert "it is not a regular file" in get(child, "/").text
    bad.rmdir()
    until(lambda: get(child, "/health").status_code == 200)


def test_a_second_exporter_on_the_same_log_is_refused(
    tmp_path: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "llm.log"
    append(log, line("a"))
    start("--log", str(log))
    files = ["--config", str(tmp_path / "budget.yml"), "--ledger", str(tmp_path / "other.sqlite")]
    assert main([*files, "--listen", "127.0.0.1:0", "--log", str(log)]) == 2
    assert capsys.readouterr().err == (
        f"exporter: {log} is read by another exporter; stop that one first\n"
    )


def test_a_backlog_does_not_starve_http(tmp_path: Path, start: Start) -> None:
    log = tmp_path / "llm.log"
    append(log, line("a") * 50_000)
    child = start("--log", str(log))
    url = child.ready_url.replace("/health", "/v1/usage")
    answered = 0
    while requests_booked(child) - answered < 50_000:
        answer = requests.post(url, json={"outcome": "cached"}, timeout=2)
        assert answer.json()["accepted"] == 1
        answered += 1
    assert answered > 3
