"""The whole bundle in one folder: exporter, receiver, Prometheus, Alertmanager, wired together."""

import errno
import os
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from command.paths import ADDRESSES, BASELINE, BUDGET, CONTACTS, LADDER, LEDGER
from command.stack import configs
from command.stack.binaries import need
from command.stack.configs import LOOPBACK, Ports
from command.stack.processes import Child
from common.errors import UserError
from common.http import bind
from common.names import JOB_EXPORTER
from exporter.config import load_config

METRICS_FILE = "LLM_BUDGET_METRICS_TOKEN_FILE"


@dataclass(eq=False)
class Bundle:
    """The four processes; children are attributes, so that a test can kill any of them."""

    folder: Path
    budget: Path = BUDGET
    baseline: Path = BASELINE
    contacts: Path = CONTACTS
    ports: Ports = field(default_factory=Ports)
    ladder: Path = LADDER
    effective: Path | None = (
        None  # default: effective.yml in the folder, or .json as the baseline is
    )
    listen: str = LOOPBACK  # of exporter and receiver
    interval: str | None = None  # scrape and evaluation interval; None = as shipped
    receiver_flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        told = LOOPBACK if self.listen == "0.0.0.0" else self.listen  # noqa: S104
        hosts = {"exporter": told, "receiver": told}
        self.addresses = {
            name: f"{hosts.get(name, LOOPBACK)}:{port}" for name, port in asdict(self.ports).items()
        }
        self.environment = {
            f"LLM_BUDGET_{name.upper()}_TOKEN_FILE": str(self.token_file(name))
            for name in configs.TOKENS
        }
        if self.effective is None:
            self.effective = self.folder / f"effective{self.baseline.suffix}"
        self.exporter = self._child(
            "exporter",
            "/health",
            *(sys.executable, "-m", "exporter"),
            f"--config={self.budget}",
            f"--listen={self.listen}:{self.ports.exporter}",
            f"--ledger={self.folder / LEDGER}",
            *(f"--{peer}={self.url(peer)}" for peer in ("receiver", "prometheus")),
            *(f"--link={peer.title()}={self.url(peer)}" for peer in ("prometheus", "alertmanager")),
        )
        self.receiver = self._child(
            "receiver",
            "/state",  # /config is the scraper's; /health may wait for evidence, which comes later
            *(sys.executable, "-m", "alertmanager.receiver"),
            f"--config={self.ladder}",
            f"--baseline={self.baseline}",
            f"--effective={self.effective}",
            f"--state={self.folder / 'receiver-state.json'}",
            f"--listen={self.listen}:{self.ports.receiver}",
            *(f"--{peer}={self.url(peer)}" for peer in ("alertmanager", "prometheus", "exporter")),
            *self.receiver_flags,
        )
        self.prometheus = self._child(
            "prometheus",
            "/-/ready",
            need("prometheus"),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'prometheus'}",
            f"--web.listen-address={self.address('prometheus')}",
            "--storage.tsdb.retention.time=15d",  # trends look seven days back
            "--rules.alert.resend-delay=5s",  # the default minute is a minute of lost protection
        )
        self.alertmanager = self._child(
            "alertmanager",
            "/-/ready",
            need("alertmanager"),
            f"--config.file={self.folder / 'alertmanager.yml'}",
            f"--storage.path={self.folder / 'alertmanager'}",
            f"--web.listen-address={self.address('alertmanager')}",
            "--cluster.listen-address=",  # single: no gossip, no settling delay
            folder=self.folder,  # secrets/ and templates/ are relative to it
        )

    @property
    def children(self) -> tuple[Child, ...]:
        """In starting order: what protects is up before what triggers."""
        return (self.exporter, self.receiver, self.alertmanager, self.prometheus)

    def address(self, service: str) -> str:
        """HOST:PORT of exporter, receiver, prometheus or alertmanager."""
        return self.addresses[service]

    def url(self, service: str) -> str:
        return f"http://{self.address(service)}"

    def start(self) -> None:
        """Write the configs, start all four and wait until each is ready. Raises UserError."""
        with ExitStack() as ports:  # a child of another bundle would look ready; so would a twin
            for name, address in self.addresses.items():
                host, _, port = address.rpartition(":")
                try:
                    ports.enter_context(bind(host, int(port)))
                except UserError as error:
                    code = getattr(error.__cause__, "errno", None)
                    by_port = code in (errno.EADDRINUSE, errno.EACCES)
                    flag = f"--{name}-port" if by_port else "--listen"
                    raise UserError(f"{error} with {flag}") from error
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
        for child in reversed(self.children):
            child.stop()

    def prepare(self) -> None:
        """Folders, token files (0600) and the rendered configs."""
        for name in ("ledger", "prometheus", "alertmanager", "logs"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for name in configs.TOKENS:
            configs.ensure_secret(self.token_file(name))
        self._share_metrics_token()
        configs.write(self.folder / "prometheus.yml", self.prometheus_config())
        configs.write(self.folder / ADDRESSES, {name: self.url(name) for name in self.addresses})
        configs.write_alertmanager(self.folder, self.addresses, self.contacts)

    def token_file(self, name: str) -> Path:
        """Where the ingest, admin or webhook token lies."""
        return self.folder / "secrets" / f"{name}_token"

    def token(self, name: str) -> str:
        return self.token_file(name).read_text().strip()

    def prometheus_config(self) -> dict[str, Any]:
        """rules/prometheus.yml with this bundle's ports and interval, and the metrics token."""
        config = configs.prometheus_config(self.addresses, interval=self.interval)
        if file := self.environment.get(METRICS_FILE):
            (job,) = (one for one in config["scrape_configs"] if one["job_name"] == JOB_EXPORTER)
            job["authorization"] = {"credentials_file": file}
        return config

    def _share_metrics_token(self) -> None:
        """Who asks the exporter has the token that it asks for. Raises UserError."""
        named = load_config(self.budget).access.metrics_token_file
        if file := named or os.environ.get(METRICS_FILE):
            self.environment[METRICS_FILE] = str(Path(file).resolve())

    def _child(self, name: str, ready: str, *argv: str, folder: Path | None = None) -> Child:
        log = self.folder / "logs" / f"{name}.log"
        return Child(name, list(argv), log, self.url(name) + ready, self.environment, folder)
