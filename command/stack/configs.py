"""The shipped Prometheus and Alertmanager configs, rendered for where the services run.

rules/prometheus.yml and alertmanager/alertmanager.yml are used as they are, but for addresses and
intervals: what runs here is what ships.
"""

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from command.paths import ALERTMANAGER, DASHBOARDS, LADDER, RULES
from command.stack.contacts import Contacts, template
from command.stack.processes import free_port
from common.files import replace_file
from common.yamlfile import dump, read_as, read_document

TOKENS = ("ingest", "admin", "webhook")
LOOPBACK = "127.0.0.1"
COMPOSE_ADDRESSES = {
    "exporter": "exporter:8000",
    "receiver": "receiver:8001",
    "prometheus": "127.0.0.1:9090",
    "alertmanager": "alertmanager:9093",
}
COMPOSE_USER = 1000  # the exporter's, in docker-compose.yml
COMPOSE_RULES = Path("/etc/prometheus/rules")
PROVISIONED = ("alerting", "dashboards", "datasources", "plugins")
COMPOSE_FOLDERS = (
    "exporter", "receiver", "prometheus/rules", "alertmanager", "scraper", "grafana/dashboards",
    *(f"grafana/provisioning/{name}" for name in PROVISIONED),
)  # fmt: skip
COMPOSE_SECRETS = {
    "exporter": ("ingest_token", "admin_token"),
    "receiver": ("webhook_token", "admin_token"),
    "grafana": ("grafana_admin_password",),
    "scraper": ("ingest_token",),
}  # Alertmanager gets those that its config names


@dataclass(frozen=True)
class Ports:
    """Loopback TCP ports of the four services; the defaults are the design's."""

    exporter: int = 8000
    receiver: int = 8001
    prometheus: int = 9090
    alertmanager: int = 9093

    @classmethod
    def free(cls) -> "Ports":
        return cls(*(free_port() for _ in range(4)))


AS_SHIPPED = {name: f"{LOOPBACK}:{port}" for name, port in asdict(Ports()).items()}


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


def alertmanager_config(receiver: str) -> dict[str, Any]:
    """alertmanager.yml for a receiver at this HOST:PORT; paths are relative to its folder."""
    config: dict[str, Any] = read_document(ALERTMANAGER / "alertmanager.yml")
    for one in config["receivers"]:
        for webhook in one.get("webhook_configs", []):
            webhook["url"] = webhook["url"].replace(AS_SHIPPED["receiver"], receiver)
    return config


def write_templates(folder: Path, contacts: Path, addresses: Mapping[str, str] = {}) -> None:
    """Put the messages' templates into templates/. Raises UserError: contacts.yml is not valid.

    addresses: of services that run here; links as shipped lead to them whatever their ports are.
    """
    (folder / "templates").mkdir(parents=True, exist_ok=True)
    for file in (ALERTMANAGER / "templates").iterdir():
        replace_file(folder / "templates" / file.name, file.read_bytes())
    text = template(read_as(contacts, Contacts))
    moved = {
        old: new
        for name, old in AS_SHIPPED.items()
        if (new := addresses.get(name, "")).startswith(LOOPBACK)  # a browser knows it
    }
    text = re.sub(r"(?<=//)127\.0\.0\.1:\d+", lambda one: moved.get(one[0], one[0]), text)
    replace_file(folder / "templates" / "contacts.tmpl", text.encode())


def write_alertmanager(folder: Path, addresses: Mapping[str, str], contacts: Path) -> None:
    """Put alertmanager.yml and its templates into the folder; its secrets/ is relative to it too.

    Raises UserError when contacts.yml is not valid.
    """
    write_templates(folder, contacts, addresses)
    write(folder / "alertmanager.yml", alertmanager_config(addresses["receiver"]))


def ensure_secret(path: Path) -> None:
    """A random text in a file of mode 0600, unless it is there."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        replace_file(path, f"{secrets.token_urlsafe(32)}\n".encode(), mode=0o600)


def prepare_compose(folder: Path, contacts: Path, budget: Path, baseline: Path) -> None:
    """Write what the compose file mounts: a folder for each service, with its configs and secrets.

    folder: data/compose, for its owner only (0700); what is in it is readable by all whatever the
    umask, because the containers run as different users and see only their own folder. Tokens stay
    as they are, in data/secrets. Raises UserError.
    """
    data, followed = folder.parent, folder.parent / "followed"
    for made in (followed, *(folder / name for name in COMPOSE_FOLDERS)):
        made.mkdir(parents=True, exist_ok=True)
    _share(data / "spool")
    _keep_old_secrets(folder / "secrets", data / "secrets")
    copied = {
        "exporter/budget.yml": budget,
        "receiver/degradation.yml": LADDER,
        "receiver/llm_config.yml": baseline,
        **{f"prometheus/rules/{file.name}": file for file in RULES.glob("*.yml")},
        **{f"grafana/dashboards/{file.name}": file for file in DASHBOARDS.glob("*.json")},
        **{
            f"grafana/provisioning/{file.stem}/llm-budget.yml": file
            for file in DASHBOARDS.glob("provisioning/*.yml")
        },
    }
    for name, file in copied.items():
        replace_file(folder / name, file.read_bytes())
    # Grafana leaves all dashboards as they were when one of an older version has the same uid.
    for old in {*folder.glob("grafana/dashboards/*")} - {folder / name for name in copied}:
        old.unlink()
    configured = prometheus_config(COMPOSE_ADDRESSES, COMPOSE_RULES)
    write(folder / "prometheus" / "prometheus.yml", configured)
    write_alertmanager(folder / "alertmanager", COMPOSE_ADDRESSES, contacts)
    for service, names in COMPOSE_SECRETS.items():
        for name in names:
            ensure_secret(data / "secrets" / name)
        _copy_secrets(data / "secrets", folder / service, names)
    config = (folder / "alertmanager" / "alertmanager.yml").read_text()
    named = re.findall(r"_file: secrets/(\S+)", config)
    _copy_secrets(data / "secrets", folder / "alertmanager", named)
    ours = {folder / Path(name).parts[0] for name in COMPOSE_FOLDERS}  # others' may be root's
    for path in (followed, *ours, *(path for one in ours for path in one.rglob("*"))):
        path.chmod(0o755 if path.is_dir() else 0o644)
    folder.chmod(0o700)


def _share(spool: Path) -> None:
    """The exporter removes what it has read, so its user or its group must write to the folder.

    Done once: whose folder it is may be changed by people.
    """
    spool.mkdir(parents=True, exist_ok=True)
    if not spool.stat().st_mode & stat.S_ISGID:
        if os.geteuid() == 0 == spool.stat().st_uid:
            os.chown(spool, COMPOSE_USER, COMPOSE_USER)
        spool.chmod(0o2770)


def _keep_old_secrets(old: Path, kept: Path) -> None:
    """Up to 0.1 people filled them in there; lost, nobody would be paged."""
    kept.mkdir(mode=0o700, exist_ok=True)
    for file in old.glob("*"):
        if file.is_file() and file.stat().st_size and not (kept / file.name).exists():
            replace_file(kept / file.name, file.read_bytes(), mode=0o600)
    shutil.rmtree(old, ignore_errors=True)


def _copy_secrets(kept: Path, service: Path, names: Iterable[str]) -> None:
    """kept: where people and the command line look, too. What is not there is not mounted."""
    (service / "secrets").mkdir(exist_ok=True)
    for name in names:
        if (kept / name).exists():
            replace_file(service / "secrets" / name, (kept / name).read_bytes())
        else:
            (service / "secrets" / name).unlink(missing_ok=True)
