"""docker-compose.yml: pinned, on loopback, and mounting only what `make up` prepares.

Whether docker-compose itself accepts it: test_versions.py.
"""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from command.main import main
from command.stack.binaries import need
from tests.support.paths import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as `make up` prepares it."""
    data = tmp_path_factory.mktemp("data")
    assert main(["up", "--prepare-only", "--data", str(data)]) == 0
    return data


def test_the_five_services_and_the_demo_are_there() -> None:
    demo = {name for name, service in SERVICES.items() if service.get("profiles") == ["demo"]}
    assert demo == {"provider", "scraper"}
    assert set(SERVICES) - demo == {"exporter", "receiver", "prometheus", "alertmanager", "grafana"}


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_users_are_not_root_and_ports_are_on_loopback(name: str) -> None:
    service = SERVICES[name]
    tag = service["image"].rpartition(":")[2]
    assert tag == "local" or any(character.isdigit() for character in tag)
    assert not service["user"].startswith("0")
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    if "ports" in service:
        assert service["healthcheck"]["test"]


def test_every_mount_is_a_named_volume_a_shipped_file_or_a_prepared_one(prepared: Path) -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./data/"):
                assert (prepared / source.removeprefix("./data/")).exists(), source
            elif source.startswith("./"):
                assert (ROOT / source).exists(), source
            else:
                assert source in COMPOSE["volumes"]


def test_the_prepared_configs_are_valid_and_preparing_twice_keeps_the_tokens(
    prepared: Path, tmp_path: Path
) -> None:
    compose = prepared / "compose"
    assert compose.stat().st_mode & 0o777 == 0o700
    token = (compose / "secrets" / "ingest_token").read_text()
    assert (prepared / "secrets" / "ingest_token").read_text() == token
    assert (prepared / "secrets" / "ingest_token").stat().st_mode & 0o777 == 0o600
    assert main(["up", "--prepare-only", "--data", str(prepared)]) == 0
    assert (compose / "secrets" / "ingest_token").read_text() == token
    subprocess.run(
        [need("amtool"), "check-config", str(compose / "alertmanager.yml")],
        check=True,
        capture_output=True,
    )
    inside = tmp_path / "prometheus.yml"
    text = (compose / "prometheus.yml").read_text()
    inside.write_text(text.replace("/etc/prometheus/rules", str(ROOT / "rules")))
    subprocess.run(
        [need("promtool"), "check", "config", str(inside)], check=True, capture_output=True
    )


def test_secrets_of_people_come_from_the_data_folder(tmp_path: Path) -> None:
    mounted = tmp_path / "compose" / "secrets" / "slack_webhook_url"
    assert main(["up", "--prepare-only", "--data", str(tmp_path)]) == 0
    assert mounted.read_text() == ""
    (tmp_path / "secrets" / "slack_webhook_url").write_text("https://hooks.example\n")
    assert main(["up", "--prepare-only", "--data", str(tmp_path)]) == 0
    assert mounted.read_text() == "https://hooks.example\n"


def test_the_dockerfile_installs_with_make_install_and_drops_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "RUN make install" in lines
    assert "USER 1000:1000" in lines
    for line in lines:
        if line.startswith("COPY"):
            assert all((ROOT / source).exists() for source in line.split()[1:-1]), line
