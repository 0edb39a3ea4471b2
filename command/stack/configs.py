"""The shipped Prometheus and Alertmanager configs, rendered for where the services run.

rules/prometheus.yml and alertmanager/alertmanager.yml are used as they are, but for addresses and
intervals: what runs here is what ships.
"""

import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from command.paths import ALERTMANAGER, RULES
from command.stack.contacts import Contacts, template
from common.files import replace_file
from common.yamlfile import dump, read_as, read_document

TOKENS = ("ingest", "admin", "webhook")
RECEIVER_AS_SHIPPED = "127.0.0.1:8001"  # in alertmanager.yml
COMPOSE_ADDRESSES = {
    "exporter": "exporter:8000",
    "receiver": "receiver:8001",
    "prometheus": "127.0.0.1:9090",
    "alertmanager": "alertmanager:9093",
}
COMPOSE_RULES = Path("/etc/prometheus/rules")
# People fill these in; empty files keep the mounts whole.
PEOPLES_SECRETS = ("pagerduty_routing_key", "slack_webhook_url")


def prometheus_config(
    addresses: Mapping[str, str], rules: Path = RULES, interval: str | None = None
) -> dict[str, Any]:
    """rules/prometheus.yml for these addresses: HOST:PORT by service, as Prometheus reaches it.

    rules: the rules folder as Prometheus sees it. interval: between scrapes and evaluations; None
    is as shipped.
    """
    config: dict[str, Any] = read_document(RULES / "prometheus.yml")
    if interval:
        config["global"].update(scrape_interval=interval, evaluation_interval=interval)
    config["rule_files"] = [str(rules / name) for name in config["rule_files"]]
    for job in config["scrape_configs"]:
        service = job["job_name"].removeprefix("llm-")
        job["static_configs"] = [{"targets": [addresses[service]]}]
    for manager in config["alerting"]["alertmanagers"]:
        manager["static_configs"] = [{"targets": [addresses["alertmanager"]]}]
    return config


def write(path: Path, config: dict[str, Any]) -> None:
    """Put a rendered config in its place."""
    replace_file(path, dump(config, path))


def write_alertmanager(folder: Path, addresses: Mapping[str, str], contacts: Path) -> None:
    """Put alertmanager.yml and its templates into the folder; its secrets/ is relative to it too.

    Raises UserError when contacts.yml is not valid.
    """
    config = read_document(ALERTMANAGER / "alertmanager.yml")
    for receiver in config["receivers"]:
        for webhook in receiver.get("webhook_configs", []):
            webhook["url"] = webhook["url"].replace(RECEIVER_AS_SHIPPED, addresses["receiver"])
    shutil.copytree(ALERTMANAGER / "templates", folder / "templates", dirs_exist_ok=True)
    text = template(read_as(contacts, Contacts))
    replace_file(folder / "templates" / "contacts.tmpl", text.encode())
    write(folder / "alertmanager.yml", config)


def ensure_secret(path: Path, mode: int = 0o600, text: str | None = None) -> None:
    """A text, by default a random one, in a file of this mode, unless it is there."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        content = f"{secrets.token_urlsafe(32)}\n" if text is None else text
        replace_file(path, content.encode(), mode=mode)


def prepare_compose(folder: Path, contacts: Path) -> None:
    """Write everything that the compose file mounts; tokens stay as they are, in data/secrets.

    folder: data/compose, for its owner only (0700); the files in it are readable by all, because
    the containers run as different users and see single files only. Raises UserError.
    """
    mounted = folder / "secrets"
    mounted.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    write(folder / "prometheus.yml", prometheus_config(COMPOSE_ADDRESSES, COMPOSE_RULES))
    write_alertmanager(folder, COMPOSE_ADDRESSES, contacts)
    for name in (f"{token}_token" for token in TOKENS):
        made = folder.parent / "secrets" / name  # where the command line looks, too
        ensure_secret(made)
        replace_file(mounted / name, made.read_bytes(), mode=0o644)
    ensure_secret(mounted / "grafana_admin_password", mode=0o644)
    for name in PEOPLES_SECRETS:
        ensure_secret(mounted / name, mode=0o644, text="")
        if (said := folder.parent / "secrets" / name).exists():
            replace_file(mounted / name, said.read_bytes(), mode=0o644)
