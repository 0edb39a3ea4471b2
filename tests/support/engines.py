"""Bundles on other engines: a late ruler, agents that write into one store, vmalert.

Each counts two ledgers. The receiver is told of the first exporter only, so that the second one's
absence shows in the rules' evidence and nowhere else.
"""

import os
import signal
import sys
from typing import Any

from command.stack import configs
from command.stack.binaries import need
from command.stack.bundle import Bundle
from command.stack.processes import Child, free_port
from common.names import JOB_EXPORTER
from tests.support.rule_files import rule_files
from tests.support.versions import NEWEST, UnavailableError, release

OFFSET_SECONDS = 60  # of the late ruler


class TwoLedgers(Bundle):
    """A bundle whose Prometheus scrapes a second exporter, too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.second_address = f"127.0.0.1:{free_port()}"
        self.second = self._child(
            "second",
            "/health",
            *(sys.executable, "-m", "exporter"),
            f"--config={self.budget}",
            f"--listen={self.second_address}",
            f"--ledger={self.folder / 'second' / 'ledger.sqlite'}",
        )

    @property
    def children(self) -> tuple[Child, ...]:
        return (self.second, *super().children)

    def lose_second(self) -> None:
        """Nobody hears of the second ledger any more."""
        self.second.kill()

    def find_second(self) -> None:
        """It is there again."""
        self.second.start()
        self.second.wait_ready()

    def address(self, service: str) -> str:
        return self.second_address if service == "second" else super().address(service)

    def prometheus_config(self) -> dict[str, Any]:
        config = super().prometheus_config()
        for job in config["scrape_configs"]:
            if job["job_name"] == JOB_EXPORTER:
                job["static_configs"][0]["targets"].append(self.second_address)
        return config


class Unlisted(TwoLedgers):
    """The second exporter can be taken out of the scrape config."""

    def lose_second(self) -> None:
        config = self.prometheus_config()
        for job in config["scrape_configs"]:
            job["static_configs"] = [_without({"targets": [self.second_address]}, job)]
        self._load(config)

    def find_second(self) -> None:
        self._load(self.prometheus_config())

    def _load(self, config: dict[str, Any]) -> None:
        configs.write(self.folder / "prometheus.yml", config)
        os.kill(self.prometheus.pid, signal.SIGHUP)


class LateRuler(TwoLedgers):
    """Prometheus evaluates its rules as of a minute ago (from 2.53 on)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.prometheus.argv[0] = _newest("prometheus")

    def prometheus_config(self) -> dict[str, Any]:
        config = super().prometheus_config()
        config["global"]["rule_query_offset"] = f"{OFFSET_SECONDS}s"
        return config


class Agents(TwoLedgers):
    """Agents scrape and write into one Prometheus, which scrapes nothing and does not deduplicate.

    Two of them are a pair: both scrape all but the second exporter and differ in the label
    replica. The third has the second exporter to itself.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.prometheus.argv.append("--web.enable-remote-write-receiver")
        self.agents = {name: self._agent(name) for name in ("a", "b", "lone")}

    @property
    def children(self) -> tuple[Child, ...]:
        return (*super().children, *self.agents.values())

    def prepare(self) -> None:
        """The agents scrape what the Prometheus would have scraped."""
        super().prepare()
        config = self.prometheus_config()
        jobs = config.pop("scrape_configs")
        configs.write(self.folder / "prometheus.yml", config)
        for name in self.agents:
            configs.write(self.folder / f"agent-{name}.yml", self.agent_config(name, jobs))

    def lose_second(self) -> None:
        """Its agent dies: no sample, no `up`, and nothing that marks its series as stale."""
        self.agents["lone"].kill()

    def find_second(self) -> None:
        self.agents["lone"].start()
        self.agents["lone"].wait_ready()

    def agent_config(self, name: str, jobs: list[dict[str, Any]]) -> dict[str, Any]:
        """jobs: the Prometheus' scrape configs; each agent takes its own targets of them."""
        lone = {"targets": [self.second_address]}
        own = [
            {**job, "static_configs": [lone if name == "lone" else _without(lone, job)]}
            for job in jobs
            if name != "lone" or job["job_name"] == JOB_EXPORTER
        ]
        interval = self.interval
        return {
            "global": {"scrape_interval": interval, "external_labels": {"replica": name}},
            "scrape_configs": own,
            "remote_write": [
                {
                    "url": f"{self.url('prometheus')}/api/v1/write",
                    # The default of 5 s is one interval as shipped.
                    "queue_config": {"batch_send_deadline": interval},
                }
            ],
        }

    def _agent(self, name: str) -> Child:
        port = free_port()
        argv = [
            need("prometheus"),
            "--enable-feature=agent",
            f"--config.file={self.folder / f'agent-{name}.yml'}",
            f"--storage.agent.path={self.folder / f'agent-{name}'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        log = self.folder / "logs" / f"agent-{name}.log"
        return Child(f"agent {name}", argv, log, f"http://127.0.0.1:{port}/-/ready")


class Victoria(TwoLedgers):
    """VictoriaMetrics scrapes and stores, vmalert rules; both by their default flags."""

    store_flags: tuple[str, ...] = ()
    ruler_flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ruler_address = f"127.0.0.1:{free_port()}"
        self.prometheus = self._store()
        self.ruler = self._ruler()

    @property
    def children(self) -> tuple[Child, ...]:
        return (*super().children, self.ruler)

    def _store(self) -> Child:
        """In Prometheus' place: the receiver asks it for the rules, too, which it passes on."""
        return self._child(
            "prometheus",
            "/health",
            _newest("victoria-metrics"),
            f"-promscrape.config={self.folder / 'prometheus.yml'}",
            "-promscrape.config.strictParse=false",  # rule_files and alerting are not for it
            f"-storageDataPath={self.folder / 'prometheus'}",
            f"-httpListenAddr={self.address('prometheus')}",
            f"-vmalert.proxyURL=http://{self.ruler_address}",
            *self.store_flags,
        )

    def _ruler(self) -> Child:
        store = self.url("prometheus")
        argv = [
            _newest("vmalert"),
            *(f"-rule={path}" for path in rule_files()),
            *(f"-{peer}.url={store}" for peer in ("datasource", "remoteWrite", "remoteRead")),
            f"-notifier.url={self.url('alertmanager')}",
            f"-evaluationInterval={self.interval}",
            f"-httpListenAddr={self.ruler_address}",
            *self.ruler_flags,
        ]
        log = self.folder / "logs" / "vmalert.log"
        return Child("vmalert", argv, log, f"http://{self.ruler_address}/health")


class PromptVictoria(Victoria):
    """The same with flags that keep it from being late; docs/scaling.md names them."""

    store_flags = ("-search.latencyOffset=0s",)
    ruler_flags = ("-rule.evalDelay=0s", "-remoteWrite.flushInterval=100ms")


def _without(others: dict[str, list[str]], job: dict[str, Any]) -> dict[str, list[str]]:
    """The targets of a job that are not among the others."""
    targets = job["static_configs"][0]["targets"]
    return {"targets": [target for target in targets if target not in others["targets"]]}


def _newest(name: str) -> str:
    """A program that make test-versions fetches. Raises UnavailableError."""
    found = release(NEWEST).bin / name
    if not found.exists():
        raise UnavailableError(f"no {found}: make test-versions fetches it, or says why not")
    return str(found)
