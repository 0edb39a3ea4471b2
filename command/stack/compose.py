"""What docker-compose.yml mounts: rendered configs and token files, under data/compose.

The folder is for its owner only (0700); the files in it are readable by all, because the containers
run as different users and see single files only.
"""

import secrets
import shutil
from pathlib import Path
from typing import Any

from command.stack.bundle import (
    ALERTMANAGER,
    RECEIVER_AS_SHIPPED,
    RULES,
    TOKENS,
    ensure_token,
    write_yaml,
)
from command.stack.contacts import load_contacts, template
from common.files import replace_file
from common.names import JOB_EXPORTER, JOB_RECEIVER
from common.yamlfile import read_document

TARGETS = {
    JOB_EXPORTER: "exporter:8000",
    JOB_RECEIVER: "receiver:8001",
    "prometheus": "127.0.0.1:9090",
    "alertmanager": "alertmanager:9093",
}
# Those that people fill in; empty files keep the mounts whole.
PEOPLES_SECRETS = ("pagerduty_routing_key", "slack_webhook_url")


def prepare(folder: Path, contacts: Path) -> None:
    """Write everything that the compose file mounts; tokens stay as they are, in data/secrets.

    folder: data/compose. Raises UserError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    _prepare_secrets(folder / "secrets")
    write_yaml(folder / "prometheus.yml", prometheus_config())
    write_yaml(folder / "alertmanager.yml", alertmanager_config())
    templates = folder / "templates"
    shutil.copytree(ALERTMANAGER / "templates", templates, dirs_exist_ok=True)
    replace_file(templates / "contacts.tmpl", template(load_contacts(contacts)).encode())


def prometheus_config() -> dict[str, Any]:
    """rules/prometheus.yml with the services' names."""
    config: dict[str, Any] = read_document(RULES / "prometheus.yml")
    config["rule_files"] = [f"/etc/prometheus/rules/{name}" for name in config["rule_files"]]
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [TARGETS[job["job_name"]]]}]
    for manager in config["alerting"]["alertmanagers"]:
        manager["static_configs"] = [{"targets": [TARGETS["alertmanager"]]}]
    return config


def alertmanager_config() -> dict[str, Any]:
    """alertmanager.yml with the receiver's name."""
    config: dict[str, Any] = read_document(ALERTMANAGER / "alertmanager.yml")
    for receiver in config["receivers"]:
        for webhook in receiver.get("webhook_configs", []):
            webhook["url"] = webhook["url"].replace(RECEIVER_AS_SHIPPED, "http://receiver:8001")
    return config


def _prepare_secrets(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in (f"{token}_token" for token in TOKENS):
        made = folder.parents[1] / "secrets" / name  # where the command line looks, too
        ensure_token(made)
        replace_file(folder / name, made.read_bytes(), mode=0o644)
    password = folder / "grafana_admin_password"
    if not password.exists():
        replace_file(password, f"{secrets.token_urlsafe(32)}\n".encode(), mode=0o644)
    for name in PEOPLES_SECRETS:
        if not (folder / name).exists():
            replace_file(folder / name, b"", mode=0o644)
