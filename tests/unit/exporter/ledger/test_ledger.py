"""A ledger whose disk fails: at every statement of a transaction, full, read-only, replaced."""

import contextlib
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from command.stack.processes import Child, free_port
from common.errors import UserError
from exporter.config import Config
from exporter.event import UsageEvent, parse_event
from exporter.ledger import ledger, schema
from tests.support.clock import ManualClock
from tests.support.exporters import ADMIN, INGEST, NOON, Exporter, event, write_config
from tests.support.faulty_sqlite import FaultyConnection, connect_faulty
from tests.support.waiting import until

TWO_PRICES = """
limits: {roasters: 3}
prices:
  deepseek-chat: {input_usd_per_1k: 0.00027, output_usd_per_1k: 0.00110}
  model-a: {input_usd_per_1k: 1, output_usd_per_1k: 1}
  model-b: {input_usd_per_1k: 2, output_usd_per_1k: 2}
"""


@pytest.fixture
def _faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "connect", connect_faulty)


def parse(raw: dict[str, Any]) -> UsageEvent:
    return parse_event(raw, NOON)


def lasting(exporter: Exporter) -> str:
    """The families of the page that only the books decide."""
    page = exporter.http.get("/metrics").text.replace(exporter.ledger.books.ledger_id, "")
    kept = ("llm_requests", "llm_tokens", "llm_cost", "llm_unpriced", "llm_late", "llm_label")
    return "\n".join(sorted(line for line in page.splitlines() if line.startswith(kept)))


FIRST = [event(roaster="r1")]
DOOMED = [event(id="2", roaster="r2", model="model-a"), event(id="3", roaster="r3", model="free")]
LATER = [event(id="4", roaster="r4", model="model-b"), event(id="2", roaster="r2", model="model-a")]


@pytest.mark.usefixtures("_faulty")
@pytest.mark.parametrize("statements", [1, 3])  # 3: rolling back fails, too
def test_a_failure_at_any_statement_books_nothing_and_confuses_nothing(
    tmp_path: Path, statements: int
) -> None:
    """Labels, id tables and price versions in memory are again those on disk."""
    with Exporter(tmp_path / "never", TWO_PRICES) as sound:
        for calls in (FIRST, LATER):
            sound.book(*calls)
        expected = lasting(sound)
    failures = 0
    for statement in range(100):
        with Exporter(tmp_path / str(statement), TWO_PRICES) as exporter:
            exporter.book(*FIRST)
            db = exporter.ledger.writer.db
            assert isinstance(db, FaultyConnection)
            db.arm(statement, statements)
            answer = exporter.post(DOOMED)
            db.disarm()
            if answer.status_code == 200:
                break
            failures += 1
            assert answer.status_code == 503
            assert "disk I/O error" in answer.json()["error"]
            assert exporter.value("llm_ledger_writable") == 0
            assert exporter.http.get("/health").status_code == 503
            assert exporter.book(*LATER)["accepted"] == 2
            assert lasting(exporter) == expected
            assert exporter.value("llm_ledger_writable") == 1
            query = "SELECT DISTINCT a.model, p.model FROM accounts a JOIN prices p "
            query += "ON p.version = a.price_version"
            assert all(booked == priced for booked, priced in db.execute(query))
        with Exporter(tmp_path / str(statement), TWO_PRICES) as again:
            assert lasting(again) == expected
    assert failures > 8, "the faults did not reach the transaction"


GOLD = """
limits: {call_usd: 1000000}
prices: {gold: {input_usd_per_1k: 10, output_usd_per_1k: 10}}
"""


def test_an_account_beyond_64_bits_refuses_what_would_pass_it_alone(tmp_path: Path) -> None:
    with Exporter(tmp_path, GOLD) as exporter:
        gold = [event(10_000_000, 10_000_000, model="gold")] * 46
        exporter.book(*gold)
        submit = exporter.ledger.submit
        parsed = [parse(event(roaster=name)) for name in ("a", "b")]
        with exporter.ledger.books.lock:  # the first commit waits, so that the next share one
            first = submit([])
            futures = [submit([parsed[0]]), submit([parse(gold[0])]), submit(parsed)]
        first.result(10)
        assert len(futures[0].result(10).accepted) == 1
        [(_, refusal)] = futures[1].result(10).rejected
        assert refusal.reason == "unstorable"
        assert len(futures[2].result(10).accepted) == 2
        assert exporter.status()["requests"] == 49
        assert exporter.http.get("/health").status_code == 200


def test_what_cannot_be_stored_is_refused_event_by_event_and_not_remembered(tmp_path: Path) -> None:
    gold = [event(10_000_000, 10_000_000, model="gold", id=f"g{n}") for n in range(50)]
    small = [event(roaster="small", id=f"s{n}") for n in range(50)]
    with Exporter(tmp_path, GOLD) as exporter:
        mixed = [one for pair in zip(gold, small, strict=True) for one in pair]
        answer = exporter.book(*mixed)
        assert answer["accepted"] == 46 + 50
        assert [item["index"] for item in answer["rejected"]] == [92, 94, 96, 98]
        labels = {"source": "http", "reason": "unstorable"}
        assert exporter.value("llm_ingest_rejected_total", **labels) == 4
        again = exporter.book(*mixed)
        assert (again["duplicate"], len(again["rejected"])) == (96, 4)
        shown = lasting(exporter)
        exporter.clock.advance(86_400)  # another day has an account of its own
        assert exporter.book(gold[46])["accepted"] == 1
    with Exporter(tmp_path, GOLD) as exporter:
        assert exporter.book(*small)["duplicate"] == 50
        assert lasting(exporter) != shown


def test_a_ledger_whose_accounts_add_up_beyond_64_bits_opens_with_exact_sums(
    tmp_path: Path,
) -> None:
    with Exporter(tmp_path, GOLD) as exporter:
        for _ in range(12):  # a year's sum, then
            exporter.book(*[event(10_000_000, 10_000_000, model="gold")] * 46)
            exporter.clock.advance(86_400)
        shown = lasting(exporter)
        now = exporter.clock.now()
    with Exporter(tmp_path, GOLD, now=now) as exporter:
        assert lasting(exporter) == shown


def test_a_reprice_beyond_64_bits_is_refused_and_the_ledger_stays_writable(tmp_path: Path) -> None:
    with Exporter(tmp_path, "prices: {}", tokens=True) as exporter:
        calls = [event(10_000_000, 10_000_000, model="gold")] * 47
        token = {"Authorization": f"Bearer {INGEST}"}
        assert exporter.post(calls, **token).json()["accepted"] == 47
        write_config(tmp_path, GOLD)
        admin = {"Authorization": f"Bearer {ADMIN}"}
        assert exporter.http.post("/-/reload", headers=admin).status_code == 200
        said = {"author": "tests", "reason": "a price"}
        answer = exporter.http.post("/api/v1/reprice", json=said, headers=admin)
        assert (answer.status_code, "64 bits" in answer.text) == (400, True)
        assert exporter.http.get("/health").status_code == 200


def test_a_caller_that_left_does_not_end_the_writer(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        with exporter.ledger.books.lock:
            first = exporter.ledger.submit([])
            left = exporter.ledger.submit([parse(event())])
            left.cancel()
        first.result(10)
        assert exporter.book(event())["accepted"] == 1
        assert exporter.status()["requests"] in (1, 2)  # cancelled, or already under way


def test_a_ledger_replaced_while_it_is_used_is_not_written(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.book(event())
        path = tmp_path / "ledger.sqlite"
        path.rename(tmp_path / "moved")
        assert exporter.post(event()).status_code == 503
        shutil.copy(tmp_path / "moved", path)
        assert "was replaced" in exporter.post(event()).json()["error"]
        (tmp_path / "moved").rename(path)
        assert exporter.book(event())["accepted"] == 1


def test_a_lock_is_found_through_another_name_and_freed_after_a_failure(tmp_path: Path) -> None:
    link = tmp_path / "link"
    with Exporter(tmp_path / "real") as exporter:
        link.symlink_to(tmp_path / "real" / "ledger.sqlite")
        with pytest.raises(UserError, match="an exporter already uses it"):
            ledger.Ledger(link, exporter.parts.config, exporter.clock)
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"no database" * 1000)
    for _ in range(2):
        with pytest.raises(UserError, match="cannot open the ledger"):
            ledger.Ledger(broken, exporter.parts.config, exporter.clock)


# --- real processes on real file systems


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root and the right to mount")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Sender:
    """Sends distinct calls; knows which were acknowledged."""

    def __init__(self, child: Child) -> None:
        self.base = child.ready_url.removesuffix("/health")
        self.acknowledged = 0
        self.sent = 0

    def send(self) -> requests.Response:
        calls = [
            event(id=f"call-{self.sent}-{i}", roaster=f"r{self.sent}-{i}", field="f" * 100)
            for i in range(10)
        ]
        self.sent += 1
        answer = requests.post(f"{self.base}/v1/usage", json=calls, timeout=20)
        self.acknowledged += answer.json().get("accepted", 0)
        return answer

    def fill(self) -> requests.Response:
        """Send until something is refused."""
        for _ in range(500):
            answer = self.send()
            if answer.status_code != 200:
                return answer
        raise AssertionError("nothing was ever refused")

    def health(self) -> int:
        return requests.get(f"{self.base}/health", timeout=10).status_code

    def writable(self) -> str:
        page = requests.get(f"{self.base}/metrics", timeout=10).text
        return next(line for line in page.splitlines() if line.startswith("llm_ledger_writable{"))[
            -3:
        ]

    def check(self) -> None:
        status = requests.get(f"{self.base}/api/v1/status", timeout=10).json()
        assert status["requests"] == self.acknowledged
        assert Decimal(status["spend_usd"]) == self.acknowledged * Decimal("0.00038")


def refused_until_mended(
    child: Child, path: Path, start: Callable[..., Child], mend: Callable[[], object]
) -> None:
    """503 with a reason while it lasts; recovery without a restart; the same books after one."""
    sender = Sender(child)
    answer = sender.fill()
    assert answer.status_code == 503
    assert "the ledger cannot be written" in answer.json()["error"]
    assert sender.writable() == "0.0"
    assert sender.health() == 503
    sender.check()
    mend()
    until(lambda: sender.health() == 200, what="the ledger is written again")
    assert sender.send().status_code == 200
    assert sender.writable() == "1.0"
    sender.check()
    child.kill()
    sender.base = start(ledger=path).ready_url.removesuffix("/health")
    sender.check()


def test_a_full_disk_refuses_and_recovers(small_disk: Path, start: Callable[..., Child]) -> None:
    path = small_disk / "ledger.sqlite"
    remount = ["mount", "-o", "remount,size=8m", str(small_disk)]
    refused_until_mended(
        start(ledger=path), path, start, lambda: subprocess.run(remount, check=True)
    )


def test_a_file_size_limit_refuses_and_recovers(
    tmp_path: Path, start: Callable[..., Child]
) -> None:
    """EFBIG instead of ENOSPC: SQLite reports an I/O error instead of a full disk."""
    path = tmp_path / "ledger.sqlite"
    child = start(ledger=path)
    (_, hard) = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (300_000, hard))
    unlimited = (hard, hard)
    refused_until_mended(
        child, path, start, lambda: resource.prlimit(child.pid, resource.RLIMIT_FSIZE, unlimited)
    )


def test_a_ledger_that_becomes_read_only_refuses_and_recovers(
    tmp_path: Path, start: Callable[..., Child]
) -> None:
    if shutil.which("chattr") is None:
        pytest.skip("making an open file immutable needs chattr (package e2fsprogs)")
    path = tmp_path / "ledger.sqlite"
    child = start(ledger=path)
    files = [str(path), f"{path}-wal"]
    if subprocess.run(["chattr", "+i", *files], capture_output=True).returncode != 0:
        pytest.skip("making an open file immutable needs root and a file system that knows how")
    try:
        refused_until_mended(
            child, path, start, lambda: subprocess.run(["chattr", "-i", *files], check=True)
        )
    finally:
        subprocess.run(["chattr", "-i", *files], check=False, capture_output=True)


def run_exporter(folder: Path, ledger: Path) -> "subprocess.CompletedProcess[str]":
    """An exporter that is expected to end at once."""
    argv = [sys.executable, "-m", "exporter", "--config", str(folder / "budget.yml")]
    argv += ["--listen", "127.0.0.1:0", "--ledger", str(ledger)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30)


def test_a_read_only_ledger_is_refused_at_start_with_a_sentence(
    small_disk: Path, tmp_path: Path, start: Callable[..., Child]
) -> None:
    start(ledger=small_disk / "ledger.sqlite").stop()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = run_exporter(tmp_path, small_disk / "ledger.sqlite")
    assert done.returncode == 2
    assert done.stderr.startswith("exporter: cannot write ")
    assert "Read-only file system" in done.stderr
    assert done.stderr.count("\n") == 1


def fill_up(folder: Path) -> Path:
    """Take every block that is left."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return filler


def test_started_on_a_full_disk_it_says_what_it_has_and_recovers(
    small_disk: Path, start: Callable[..., Child]
) -> None:
    path = small_disk / "ledger.sqlite"
    sender = Sender(child := start(ledger=path))
    assert sender.send().status_code == 200
    child.kill()
    filler = fill_up(small_disk)
    answers = "/api/v1/status"  # /health says 503 as soon as anything had to be written
    sender.base = start(ledger=path, answers=answers).ready_url.removesuffix(answers)
    sender.check()
    assert sender.fill().status_code == 503
    sender.check()
    filler.unlink()
    until(lambda: sender.health() == 200, what="the ledger is written again")
    assert sender.send().status_code == 200
    sender.check()


def test_a_disk_too_full_to_open_the_ledger_is_named_and_loses_nothing(
    small_disk: Path, tmp_path: Path, start: Callable[..., Child]
) -> None:
    """After a clean end even the write-ahead log's index must be made anew."""
    path = small_disk / "ledger.sqlite"
    sender = Sender(child := start(ledger=path))
    assert sender.send().status_code == 200
    child.stop()
    filler = fill_up(small_disk)
    done = run_exporter(tmp_path, path)
    assert done.returncode == 2
    assert done.stderr.startswith("exporter: cannot open the ledger ")
    assert done.stderr.count("\n") == 1
    filler.unlink()
    sender.base = start(ledger=path).ready_url.removesuffix("/health")
    sender.check()


def test_a_first_start_on_a_disk_with_any_room_left_works_or_is_one_sentence(
    small_disk: Path,
) -> None:
    refusals: list[str] = []
    for pages in range(0, 90, 3):
        filler = fill_up(small_disk)
        os.truncate(filler, max(0, filler.stat().st_size - pages * 4096))
        try:
            path = small_disk / "new" / "ledger.sqlite"
            ledger.Ledger(path, Config(), ManualClock(NOON)).close()
        except UserError as error:
            refusals.append(str(error))
        shutil.rmtree(small_disk / "new", ignore_errors=True)
        filler.unlink()
    assert 0 < len(refusals) < 30
    assert all(text.startswith("cannot ") and "rollback" not in text for text in refusals)


def test_an_exporter_whose_output_goes_to_a_full_disk_books(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "exporter", "--config", str(write_config(tmp_path))]
    argv += ["--ledger", str(tmp_path / "ledger.sqlite"), "--listen", f"127.0.0.1:{free_port()}"]
    with open("/dev/full", "wb") as full, open(tmp_path / "errors", "wb") as errors:
        process = subprocess.Popen(argv, stdout=full, stderr=errors)
        sender = f"http://{argv[-1]}"
        until(lambda: answers(f"{sender}/health"))
        answer = requests.post(f"{sender}/v1/usage", json=event(), timeout=10)
        assert answer.json()["accepted"] == 1
        process.terminate()
        process.wait(30)
    assert "Traceback" not in (tmp_path / "errors").read_text()


def answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def test_the_write_ahead_log_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = schema.connect

    def hasty(path: Path) -> sqlite3.Connection:
        db = connect(path)
        db.execute("PRAGMA synchronous = OFF")
        return db

    monkeypatch.setattr(schema, "connect", hasty)
    with Exporter(tmp_path) as exporter:
        for number in range(1500):
            exporter.ledger.submit([parse(event(id=str(number)))]).result(10)
        log = tmp_path / "ledger.sqlite-wal"
        assert 0 < log.stat().st_size < 6 << 20  # a checkpoint every 1,000 pages of 4 KiB
