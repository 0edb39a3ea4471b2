"""The installed Prometheus scrapes every sample of the exporter's page."""

from pathlib import Path

from tests.support.scrapes import scrape_and_compare


def test_prometheus_scrapes_every_sample(tmp_path: Path) -> None:
    scrape_and_compare(tmp_path)
