"""/metrics: golden, parsed, linted, scraped by the real Prometheus, and honest while it starts."""

import gzip
import sqlite3
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from command.stack.binaries import TOOLS_VARIABLE, need
from command.stack.processes import Child, free_port
from common import names
from exporter.service import main
from tests.support.exporters import Exporter, event, exporter_process, url, write_config
from tests.support.golden_metrics import GOLDEN, page
from tests.support.versions import NEWEST, SUITES
from tests.support.waiting import until
from tests.versions.test_versions import fetched


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


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


def scraped(exporter: Child, folder: Path) -> dict[str, Any]:
    """What Prometheus has of an exporter: {metric: {labels: value}} after a scrape."""
    target = exporter.ready_url.removeprefix("http://").removesuffix("/health")
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: {names.JOB_EXPORTER}, "
        f"static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    base = f"http://127.0.0.1:{(port := free_port())}"
    argv = [need("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder}/tsdb"]
    argv += [f"--web.listen-address=127.0.0.1:{port}"]
    prometheus = Child("prometheus", argv, folder / "prometheus.log", f"{base}/-/ready")
    prometheus.start()
    try:
        prometheus.wait_ready()

        def ask(query: str) -> list[Any]:
            answer = requests.get(f"{base}/api/v1/query", params={"query": query}, timeout=10)
            return list(answer.json()["data"]["result"])

        until(lambda: ask("up == 1"), what="the exporter is scraped")
        return {
            "version": requests.get(f"{base}/api/v1/status/buildinfo", timeout=10).json()["data"],
            "series": {
                (entry["metric"].pop("__name__"), frozenset(entry["metric"].items())): entry
                for entry in ask('{__name__=~"llm_.+"}')
            },
            "samples": float(ask("scrape_samples_scraped")[0]["value"][1]),
        }
    finally:
        prometheus.stop()


def scrape_and_compare(folder: Path) -> str:
    with exporter_process(folder) as exporter:
        calls = [event(roaster=f"r{i}", prompt=i, duration_seconds=1) for i in range(50)]
        calls.append(event(roaster='hostile "\\ \u2615'))
        requests.post(url(exporter, "/v1/usage"), json=calls, timeout=10).raise_for_status()
        found = scraped(exporter, folder)
        page = samples(requests.get(url(exporter, "/metrics"), timeout=10).text)
    common = {("job", names.JOB_EXPORTER), ("instance", url(exporter, "").removeprefix("http://"))}
    assert found["samples"] == len(page)
    assert {(name, labels - common) for name, labels in found["series"]} == page.keys()
    for (name, labels), entry in found["series"].items():
        assert float(entry["value"][1]) == page[name, labels - common]
    return str(found["version"]["version"])


@pytest.mark.slow
def test_prometheus_scrapes_every_sample(tmp_path: Path) -> None:
    scrape_and_compare(tmp_path)


@pytest.mark.versions
@pytest.mark.parametrize("version", SUITES)
def test_other_versions_scrape_every_sample(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOOLS_VARIABLE, str(fetched(version).bin))
    found = scrape_and_compare(tmp_path)
    assert found.startswith(f"{version}.") or version == NEWEST, found


def test_an_unreadable_ledger_frees_the_port(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 1000)
    for _ in range(2):
        config = write_config(tmp_path)
        flags = ["--config", str(config), "--ledger", str(tmp_path / "ledger.sqlite")]
        assert main([*flags, "--listen", f"127.0.0.1:{free_port()}"]) == 2
        assert "cannot open the ledger" in capsys.readouterr().err
