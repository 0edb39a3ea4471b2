"""The whole bundle in one folder: exporter, receiver, Prometheus and Alertmanager, wired together.

The shipped rules/prometheus.yml and alertmanager/alertmanager.yml are used as they are, but for
ports, intervals and where the degradation webhook goes: what runs here is what ships.
"""

import secrets
import shutil
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from command.stack.binaries import need
from command.stack.contacts import load_contacts, template
from command.stack.processes import Child, free_port
from common.files import replace_file
from common.http import bind
from common.names import JOB_EXPORTER, JOB_RECEIVER
from common.yamlfile import dump, read_document

REPOSITORY = Path(__file__).resolve().parents[2]
RULES = REPOSITORY / "rules"
ALERTMANAGER = REPOSITORY / "alertmanager"
TOKENS = ("ingest", "admin", "webhook")
RECEIVER_AS_SHIPPED = "http://127.0.0.1:8001"  # in alertmanager.yml


@dataclass(frozen=True)
class Ports:
    """Loopback TCP ports of the four services; the defaults are the design's."""

    exporter: int = 8000
    receiver: int = 8001
    prometheus: int = 9090
    alertmanager: int = 9093

    @classmethod
    def free(cls) -> "Ports":
        """Four ports that nothing listens on."""
        return cls(free_port(), free_port(), free_port(), free_port())


@dataclass
class Settings:
    """What differs between `make up`, the demo and a test."""

    folder: Path
    budget: Path = REPOSITORY / "budget.yml"
    baseline: Path = ALERTMANAGER / "llm_config.yml"
    ladder: Path = ALERTMANAGER / "degradation.yml"
    contacts: Path = REPOSITORY / "contacts.yml"
    ports: Ports = field(default_factory=Ports)
    interval: str | None = None  # scrape and evaluation interval; None = as shipped
    receiver_flags: tuple[str, ...] = ()
    exporter_flags: tuple[str, ...] = ()
    prometheus_flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class Bundle:
    """The four processes; children are attributes, so that a test can kill any of them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.folder
        self.ports = settings.ports
        self.effective = self.folder / f"effective{settings.baseline.suffix}"
        self.exporter = self._exporter()
        self.receiver = self._receiver()
        self.prometheus = self._prometheus()
        self.alertmanager = self._alertmanager()

    @property
    def children(self) -> tuple[Child, ...]:
        """In starting order: what protects is up before what triggers."""
        return (self.exporter, self.receiver, self.alertmanager, self.prometheus)

    def url(self, service: str) -> str:
        """The base URL of exporter, receiver, prometheus or alertmanager."""
        return f"http://127.0.0.1:{getattr(self.ports, service)}"

    def start(self) -> None:
        """Write the configs, start all four and wait until each is ready. Raises UserError."""
        with ExitStack() as ports:  # a child of another bundle would look ready; so would a twin
            for port in asdict(self.ports).values():
                ports.enter_context(bind("127.0.0.1", port))
        self.prepare()
        try:
            for child in self.children:
                child.start()
            for child in self.children:
                child.wait_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all, in reverse order; safe to call twice."""
        for child in reversed(self.children):
            child.stop()

    def prepare(self) -> None:
        """Folders, token files (0600) and the rendered configs."""
        for name in ("ledger", "prometheus", "alertmanager", "logs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name in TOKENS:
            ensure_token(self.token_file(name))
        write_yaml(self.folder / "prometheus.yml", self.prometheus_config())
        self._write_alertmanager_config()

    def token_file(self, name: str) -> Path:
        """Where the ingest, admin or webhook token lies."""
        return self.folder / "secrets" / f"{name}_token"

    def token(self, name: str) -> str:
        """The token's text."""
        return self.token_file(name).read_text().strip()

    def prometheus_config(self) -> dict[str, object]:
        """rules/prometheus.yml with this bundle's ports and interval."""
        config = read_document(RULES / "prometheus.yml")
        targets = {
            JOB_EXPORTER: self.ports.exporter,
            JOB_RECEIVER: self.ports.receiver,
            "prometheus": self.ports.prometheus,
            "alertmanager": self.ports.alertmanager,
        }
        if self.settings.interval:
            config["global"]["scrape_interval"] = self.settings.interval
            config["global"]["evaluation_interval"] = self.settings.interval
        config["rule_files"] = [str(RULES / name) for name in config["rule_files"]]
        for job in config["scrape_configs"]:
            job["static_configs"] = [{"targets": [f"127.0.0.1:{targets[job['job_name']]}"]}]
        managers = [{"targets": [f"127.0.0.1:{self.ports.alertmanager}"]}]
        for manager in config["alerting"]["alertmanagers"]:
            manager["static_configs"] = managers
        return dict(config)

    def _write_alertmanager_config(self) -> None:
        """alertmanager.yml with this bundle's receiver; its relative files beside it."""
        config = read_document(ALERTMANAGER / "alertmanager.yml")
        for receiver in config["receivers"]:
            for webhook in receiver.get("webhook_configs", []):
                webhook["url"] = webhook["url"].replace(RECEIVER_AS_SHIPPED, self.url("receiver"))
            make_files_absolute(receiver, self.folder)
        templates = self.folder / "templates"
        shutil.copytree(ALERTMANAGER / "templates", templates, dirs_exist_ok=True)
        text = template(load_contacts(self.settings.contacts))
        replace_file(templates / "contacts.tmpl", text.encode())
        write_yaml(self.folder / "alertmanager.yml", config)

    def _exporter(self) -> Child:
        argv = [
            sys.executable, "-m", "exporter",
            "--config", str(self.settings.budget),
            "--listen", f"127.0.0.1:{self.ports.exporter}",
            "--ledger", str(self.folder / "ledger" / "ledger.sqlite"),
            *self.settings.exporter_flags,
        ]  # fmt: skip
        return self._child("exporter", argv, "/health")

    def _receiver(self) -> Child:
        argv = [
            sys.executable, "-m", "alertmanager.receiver",
            "--config", str(self.settings.ladder),
            "--baseline", str(self.settings.baseline),
            "--effective", str(self.effective),
            "--state", str(self.folder / "receiver-state.json"),
            "--listen", f"127.0.0.1:{self.ports.receiver}",
            "--alertmanager", self.url("alertmanager"),
            "--prometheus", self.url("prometheus"),
            "--exporter", self.url("exporter"),
            *self.settings.receiver_flags,
        ]  # fmt: skip
        return self._child("receiver", argv, "/health")

    def _prometheus(self) -> Child:
        argv = [
            need("prometheus"),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{self.ports.prometheus}",
            "--storage.tsdb.retention.time=15d",  # the forecast looks eight days back
            "--rules.alert.resend-delay=5s",  # the default minute is a minute of lost protection
            *self.settings.prometheus_flags,
        ]
        return self._child("prometheus", argv, "/-/ready")

    def _alertmanager(self) -> Child:
        argv = [
            need("alertmanager"),
            f"--config.file={self.folder / 'alertmanager.yml'}",
            f"--storage.path={self.folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{self.ports.alertmanager}",
            "--cluster.listen-address=",  # single: no gossip, no settling delay
        ]
        return self._child("alertmanager", argv, "/-/ready")

    def _child(self, name: str, argv: list[str], ready_path: str) -> Child:
        environment = {
            f"LLM_BUDGET_{token.upper()}_TOKEN_FILE": str(self.token_file(token))
            for token in TOKENS
        }
        log = self.folder / "logs" / f"{name}.log"
        environment.update(self.settings.environment)
        return Child(name, argv, log, self.url(name) + ready_path, environment)


def ensure_token(path: Path) -> None:
    """A random token in a file of mode 0600, unless it is there."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        replace_file(path, f"{secrets.token_urlsafe(32)}\n".encode(), mode=0o600)


def make_files_absolute(node: object, folder: Path) -> None:
    """In place: every "…_file" path of a config, relative to folder, made absolute."""
    if isinstance(node, list):
        for item in node:
            make_files_absolute(item, folder)
    elif isinstance(node, dict):
        for key, value in node.items():
            if str(key).endswith("_file") and isinstance(value, str):
                node[key] = str(folder / value)
            else:
                make_files_absolute(value, folder)


def write_yaml(path: Path, document: dict[str, object]) -> None:
    """Write a rendered config."""
    replace_file(path, dump(document, path))
