"""The rendered configs: the shipped ones, but for addresses, intervals and folders."""

import stat
from pathlib import Path
from typing import Any

import yaml

from command.paths import ALERTMANAGER, CONTACTS, RULES
from command.stack.configs import ensure_secret, prometheus_config, write, write_alertmanager

ADDRESSES = {"exporter": "e:1", "receiver": "r:2", "prometheus": "p:3", "alertmanager": "a:4"}


def shipped(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_prometheus_is_as_shipped_but_for_addresses_and_the_rules_folder(tmp_path: Path) -> None:
    write(tmp_path / "prometheus.yml", prometheus_config(ADDRESSES, Path("/rules")))
    expected = shipped(RULES / "prometheus.yml")
    expected["rule_files"] = [f"/rules/{name}" for name in expected["rule_files"]]
    jobs = expected["scrape_configs"]
    for job, target in zip(jobs, ("e:1", "r:2", "p:3", "a:4"), strict=True):
        job["static_configs"] = [{"targets": [target]}]
    expected["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": ["a:4"]}]}]
    assert shipped(tmp_path / "prometheus.yml") == expected


def test_an_interval_is_for_scrapes_and_evaluations() -> None:
    globally = prometheus_config(ADDRESSES, interval="1s")["global"]
    assert (globally["scrape_interval"], globally["evaluation_interval"]) == ("1s", "1s")


def test_alertmanager_is_as_shipped_but_for_the_receiver(tmp_path: Path) -> None:
    write_alertmanager(tmp_path, ADDRESSES, CONTACTS)
    expected = shipped(ALERTMANAGER / "alertmanager.yml")
    webhooks = [
        webhook for entry in expected["receivers"] for webhook in entry.get("webhook_configs", [])
    ]
    for webhook, path in zip(webhooks, ("alerts", "watchdog"), strict=True):
        webhook["url"] = f"http://r:2/{path}"
    assert shipped(tmp_path / "alertmanager.yml") == expected
    templates = {path.name for path in (ALERTMANAGER / "templates").iterdir()}
    assert {path.name for path in (tmp_path / "templates").iterdir()} == {
        *templates,
        "contacts.tmpl",
    }


def test_links_as_shipped_lead_to_the_ports_in_use(tmp_path: Path) -> None:
    write_alertmanager(tmp_path, ADDRESSES, CONTACTS)
    text = (tmp_path / "templates" / "contacts.tmpl").read_text()
    assert "http://127.0.0.1:8000/runbook" in text, "no browser knows what compose calls e:1"
    here = {"exporter": "127.0.0.1:9090", "prometheus": "127.0.0.1:21", "receiver": "r:2"}
    write_alertmanager(tmp_path, here, CONTACTS)
    text = (tmp_path / "templates" / "contacts.tmpl").read_text()
    assert "http://127.0.0.1:9090/runbook" in text
    assert "Prometheus: http://127.0.0.1:21\\n" in text


def test_a_token_file_is_private_random_and_kept(tmp_path: Path) -> None:
    first, second = tmp_path / "secrets" / "a", tmp_path / "secrets" / "b"
    ensure_secret(first)
    ensure_secret(second)
    token = first.read_text()
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert token != second.read_text()
    ensure_secret(first)
    assert first.read_text() == token
