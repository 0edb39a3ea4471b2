"""/metrics: golden, parsed, linted, of one instant, and honest while the exporter starts."""

import gzip
import sqlite3
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path

import pytest
import requests

from command.stack.binaries import need
from command.stack.processes import Child, free_port
from common import names
from exporter.service import main
from tests.support.exporters import Exporter, event, write_config
from tests.support.golden_metrics import GOLDEN, page
from tests.support.scrapes import samples
from tests.support.waiting import until


def test_the_golden_page_is_what_is_published(tmp_path: Path) -> None:
    assert page(tmp_path) == GOLDEN.read_text(), "meant? then: make golden"


def test_the_page_reads_back_to_the_values_booked(tmp_path: Path) -> None:
    text = page(tmp_path)
    found = samples(text)
    hostile = {"roaster": 'say "hi" \\ {x="y"} # HELP', "field": "notes", "model": "deepseek-chat"}
    assert found[names.COST, frozenset(hostile.items())] == 0.000027
    labels = [dict(labels) for name, labels in found if name == names.COST]
    starts = [dict(labels) for name, labels in found if name == names.COST_AT_DAY_START]
    assert labels == starts
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(found) == len(lines), "a series is published twice"


def test_promtool_finds_nothing_to_say() -> None:
    with open(GOLDEN) as text:
        done = subprocess.run(
            [need("promtool"), "check", "metrics"], stdin=text, capture_output=True, text=True
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_each_family_stands_once_and_with_its_type(tmp_path: Path) -> None:
    text = page(tmp_path)
    for word in ("HELP", "TYPE"):
        heads = [line.split()[2] for line in text.splitlines() if line.startswith(f"# {word} ")]
        assert len(heads) == len(set(heads))
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name.endswith("_total") == (kind == "counter"), name


def test_content_type_and_compression(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.book(event())
        plain = exporter.http.get("/metrics", headers={"Accept-Encoding": "identity"})
        assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "content-encoding" not in plain.headers
        assert plain.headers["vary"] == "Accept-Encoding"
        with exporter.http.stream("GET", "/metrics", headers={"Accept-Encoding": "gzip"}) as answer:
            body = b"".join(answer.iter_raw())
        assert answer.headers["content-encoding"] == "gzip"
        assert body[8] == 4  # XFL: the fastest level
        assert samples(gzip.decompress(body).decode()) == samples(plain.text)


def test_total_minus_day_start_is_todays_spend_while_events_pour_in(tmp_path: Path) -> None:
    """Each page is of one instant: it can never show a total without its own day start."""
    with Exporter(tmp_path) as exporter:
        stop = threading.Event()

        def pour() -> None:
            while not stop.is_set():
                exporter.book(event(), event(at=exporter.clock.now() - 86_400))

        exporter.book(event(), event(at=exporter.clock.now() - 86_400))
        thread = threading.Thread(target=pour)
        thread.start()
        try:
            for _ in range(50):
                text = exporter.http.get("/metrics").text
                values = {line.split("{")[0]: line.split()[-1] for line in text.splitlines()}
                total, start = (Decimal(values[n]) for n in (names.COST, names.COST_AT_DAY_START))
                assert total == 2 * start
        finally:
            stop.set()
            thread.join()


def test_every_answer_is_503_until_the_ledger_is_read(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.book(event())
    address = f"127.0.0.1:{free_port()}"
    argv = ["--config", str(tmp_path / "budget.yml"), "--listen", address]
    argv += ["--ledger", str(tmp_path / "ledger.sqlite")]
    holder = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN IMMEDIATE")  # its reader waits, as it would for a large ledger
    child = Child(
        "exporter",
        [sys.executable, "-m", "exporter", *argv],
        tmp_path / "log",
        f"http://{address}/health",
    )
    child.start()
    try:
        answer = until(lambda: [requests.get(f"http://{address}/metrics", timeout=5)])[0]
        assert answer.status_code == 503
        assert "being read" in answer.json()["error"]
        for path in ("/health", "/api/v1/status", "/v1/usage"):
            assert requests.get(f"http://{address}{path}", timeout=5).status_code == 503
        holder.close()
        child.wait_ready()
        assert names.COST in requests.get(f"http://{address}/metrics", timeout=5).text
    finally:
        child.stop()


def test_an_unreadable_ledger_frees_the_port(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 1000)
    for _ in range(2):
        config = write_config(tmp_path)
        flags = ["--config", str(config), "--ledger", str(tmp_path / "ledger.sqlite")]
        assert main([*flags, "--listen", f"127.0.0.1:{free_port()}"]) == 2
        assert "cannot open the ledger" in capsys.readouterr().err


def test_the_ledgers_own_figures_are_the_sum_of_its_series(tmp_path: Path) -> None:
    """The rules read the few; the many are what they stand for."""
    with Exporter(tmp_path) as exporter:
        for number in range(30):
            yesterday = exporter.clock.now() - 86_400
            exporter.book(
                event(number, 3, roaster=f"r{number % 7}", field=f"f{number % 3}"),
                event(50 * number, 1, at=yesterday, roaster=f"r{number % 7}"),
            )
        page = exporter.page()
        for name, own in (
            (names.COST, names.LEDGER_COST),
            (names.COST_AT_DAY_START, names.LEDGER_COST_AT_DAY_START),
        ):
            total = sum(Decimal(str(value)) for key, value in page.items() if key[0] == name)
            assert exporter.value(own) == float(total) > 0
        spend = exporter.value(names.LEDGER_SPEND)
        assert spend == float(exporter.spend()) > 0
        (labels,) = (dict(key[1]) for key in page if key[0] == names.LEDGER_SPEND)
        start = exporter.value(names.DAY_START)
        assert labels == {"ledger": exporter.ledger.books.ledger_id, "day": f"{start:.0f}"}
