"""What Prometheus reads from an exporter's page, beside what stands on the page."""

from pathlib import Path
from typing import Any

import requests
from prometheus_client.parser import text_string_to_metric_families

from command.stack.binaries import need
from command.stack.processes import Child, free_port
from common import names
from tests.support.exporters import event, exporter_process, url
from tests.support.waiting import until


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of a page, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


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
    """Every sample of a filled exporter is in Prometheus as published; Prometheus' version."""
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
