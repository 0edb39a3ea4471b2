"""docker-compose.yml: pinned, on loopback, and mounting only what `make up` prepares.

Whether docker-compose itself accepts it: test_versions.py.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from command.main import main
from command.stack.binaries import need
from tests.support.paths import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become other users")


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


def test_every_mount_is_a_named_volume_or_a_prepared_folder(prepared: Path) -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            if isinstance(volume, str):
                assert volume.split(":")[0] in COMPOSE["volumes"]
            else:
                source = volume["source"].removeprefix("${LLM_BUDGET_LOGS:-").removesuffix("}")
                assert source.startswith("./data/"), "what is mounted is prepared"
                assert (prepared / source.removeprefix("./data/")).is_dir(), "files go stale"
                assert volume["read_only"] is (source != "./data/spool"), "what was read is removed"
                assert volume["bind"] == {"create_host_path": False}, "or root would own it"


def test_the_prepared_configs_are_valid_and_preparing_twice_keeps_the_tokens(
    prepared: Path, tmp_path: Path
) -> None:
    compose = prepared / "compose"
    assert compose.stat().st_mode & 0o777 == 0o700
    token = (compose / "exporter" / "secrets" / "ingest_token").read_text()
    assert (prepared / "secrets" / "ingest_token").read_text() == token
    assert (prepared / "secrets" / "ingest_token").stat().st_mode & 0o777 == 0o600
    assert main(["up", "--prepare-only", "--data", str(prepared)]) == 0
    assert (compose / "exporter" / "secrets" / "ingest_token").read_text() == token
    subprocess.run(
        [need("amtool"), "check-config", str(compose / "alertmanager" / "alertmanager.yml")],
        check=True,
        capture_output=True,
    )
    inside = tmp_path / "prometheus.yml"
    text = (compose / "prometheus" / "prometheus.yml").read_text()
    inside.write_text(text.replace("/etc/prometheus/rules", str(ROOT / "rules")))
    subprocess.run(
        [need("promtool"), "check", "config", str(inside)], check=True, capture_output=True
    )


def test_secrets_of_people_come_from_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that alertmanager.yml names, of which people may add some."""
    shipped = (ROOT / "alertmanager" / "alertmanager.yml").read_text()
    smtp = "global:\n  smtp_auth_password_file: secrets/smtp_password\n"
    (tmp_path / "alertmanager.yml").write_text(shipped.replace("global:\n", smtp, 1))
    shutil.copytree(ROOT / "alertmanager" / "templates", tmp_path / "templates")
    monkeypatch.setattr("command.stack.configs.ALERTMANAGER", tmp_path)
    mounted = tmp_path / "compose" / "alertmanager" / "secrets"
    assert main(["up", "--prepare-only", "--data", str(tmp_path)]) == 0
    assert not (mounted / "slack_webhook_url").exists()
    said = capsys.readouterr().out
    assert f"{tmp_path}/secrets/slack_webhook_url is missing" in said
    assert "127.0.0.1:25 is the container itself" in said
    for name in ("slack_webhook_url", "smtp_password", "provider_key"):
        (tmp_path / "secrets" / name).write_text(name)
    assert main(["up", "--prepare-only", "--data", str(tmp_path)]) == 0
    filled = {one.name: one.read_text() for one in mounted.iterdir()}
    assert filled.pop("webhook_token")
    assert filled == {"slack_webhook_url": "slack_webhook_url", "smtp_password": "smtp_password"}
    (tmp_path / "secrets" / "smtp_password").unlink()
    assert main(["up", "--prepare-only", "--data", str(tmp_path)]) == 0
    assert not (mounted / "smtp_password").exists()


def test_in_containers_it_runs_without_amtool_on_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LLM_BUDGET_TOOLS", raising=False)
    assert main(["up", "--prepare-only", "--data", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "who is told cannot be said here: amtool is not installed; on Debian" in said


def test_a_dashboard_of_an_older_version_goes(prepared: Path) -> None:
    dashboards = prepared / "compose" / "grafana" / "dashboards"
    (dashboards / "overview.json").write_text("{}")
    assert main(["up", "--prepare-only", "--data", str(prepared)]) == 0
    ours = {one.name for one in (ROOT / "dashboards").glob("*.json")}
    assert {one.name for one in dashboards.iterdir()} == ours


def test_the_dockerfile_installs_with_make_install_and_drops_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert any(line.startswith("RUN make install && chmod -R a+rX /app") for line in lines)
    assert "USER 1000:1000" in lines
    for line in lines:
        if line.startswith("COPY"):
            assert all((ROOT / source).exists() for source in line.split()[1:-1]), line


def test_the_containers_users_read_what_a_careful_user_prepared(tmp_path: Path) -> None:
    """Under umask 077, as users 1000 and 65534, who see their own folders only."""
    data = tmp_path / "data"
    argv = [sys.executable, "-m", "command.main", "up", "--prepare-only", "--data", str(data)]
    subprocess.run(argv, cwd=ROOT, umask=0o077, check=True, capture_output=True)
    files = [path for path in (data / "compose").rglob("*") if path.is_file()]
    assert len(files) > 30
    modes = {path: path.stat().st_mode & 0o777 for path in (data / "compose").rglob("*")}
    assert all(mode == (0o755 if path.is_dir() else 0o644) for path, mode in modes.items())
    assert (data / "followed").stat().st_mode & 0o777 == 0o755
    assert (data / "secrets" / "admin_token").stat().st_mode & 0o777 == 0o600


def as_user(folder: Path, user: int, script: str, group: int | None = None) -> str:
    """A shell's words, in a folder as in a mount: what is above it is neither seen nor asked."""
    drop = ["setpriv", f"--reuid={user}", f"--regid={user}"]
    drop += ["--clear-groups" if group is None else f"--groups={group}"]
    done = subprocess.run([*drop, "sh", "-ec", script], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), script
    return done.stdout


@AS_ROOT
def test_a_clone_under_umask_077_is_read_by_the_containers_users(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git = ["git", "-c", f"safe.directory={ROOT}", "clone", "-q", str(ROOT), str(clone)]
    subprocess.run(git, umask=0o077, check=True)
    assert (clone / "budget.yml").stat().st_mode & 0o077 == 0
    argv = [sys.executable, "-m", "command.main", "up", "--prepare-only"]
    subprocess.run(argv, cwd=clone, umask=0o077, check=True, capture_output=True)
    for folder in (clone / "data" / "compose").iterdir():
        files = sum(path.is_file() for path in folder.rglob("*"))
        for user in (1000, 65534):
            read = as_user(folder, user, "find . -type f -exec md5sum {} +")
            assert len(read.splitlines()) == files > 0


@AS_ROOT
@pytest.mark.parametrize("group", [1000, 4711], ids=["of the image", "that somebody chose"])
def test_the_exporters_user_removes_a_spool_of_a_user_in_the_folders_group(
    tmp_path: Path, group: int
) -> None:
    spool = tmp_path / "spool"
    assert main(["up", "--prepare-only", "--data", str(tmp_path)]) == 0
    if group != 1000:
        os.chown(spool, 65534, group)
        spool.chmod(0o2770)
        assert main(["up", "--prepare-only", "--data", str(tmp_path)]) == 0
    assert (spool.stat().st_gid, spool.stat().st_mode & 0o7777) == (group, 0o2770)
    as_user(spool, 65534, "umask 027; echo spooled > calls", group)
    assert as_user(spool, 1000, "cat calls; : > calls.lock; rm calls", group) == "spooled\n"


@AS_ROOT
def test_a_spools_folder_of_somebody_else_stays_theirs(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    os.chown(spool, 65534, 4711)
    assert main(["up", "--prepare-only", "--data", str(tmp_path)]) == 0
    assert (spool.stat().st_uid, spool.stat().st_gid) == (65534, 4711)
    assert spool.stat().st_mode & 0o7777 == 0o2770


def test_up_says_who_is_told_and_becomes_docker_which_makes_the_containers_anew(
    tmp_path: Path,
) -> None:
    """Prometheus, Alertmanager and Grafana would go on with what they read before a git pull."""
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text('#!/bin/sh\necho "docker $* for $LLM_BUDGET_SPOOL_GROUP"\n')
    docker.chmod(0o755)
    data = tmp_path / "data"
    here = f"import command.up as up; up.DATA = up.Path({str(data)!r}); import command.main as main"
    argv = ["up", "--way", "compose", "--data", str(data)]
    done = subprocess.run(
        [sys.executable, "-c", f"{here}; main.main({argv!r})"],
        env={**os.environ, "PATH": f"{docker.parent}:{os.environ['PATH']}"},
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    *_, critical, warning, info, last = done.stdout.splitlines()
    for severity, said in (("critical", critical), ("warning", warning), ("info", info)):
        assert said.startswith(f"{severity} alerts:"), "in a pipe, too"
    group = (data / "spool").stat().st_gid
    assert last == f"docker compose up --build --force-recreate for {group}"
    assert (data / "way").read_text() == "compose\n"
    assert SERVICES["exporter"]["group_add"] == ["${LLM_BUDGET_SPOOL_GROUP:-1000}"]


def test_secrets_that_people_filled_in_before_the_folders_stay(tmp_path: Path) -> None:
    old = tmp_path / "compose" / "secrets"
    old.mkdir(parents=True)
    (old / "pagerduty_routing_key").write_text("a key\n")
    (old / "slack_webhook_url").write_text("")
    (old / "ingest_token").write_text("an old copy\n")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "ingest_token").write_text("the token\n")
    for _ in range(2):
        assert main(["up", "--prepare-only", "--data", str(tmp_path)]) == 0
        mounted = tmp_path / "compose" / "alertmanager" / "secrets"
        assert (mounted / "pagerduty_routing_key").read_text() == "a key\n"
        assert (tmp_path / "secrets" / "ingest_token").read_text() == "the token\n"
        assert not old.exists()
    kept = tmp_path / "secrets" / "pagerduty_routing_key"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_folders_that_the_engine_made_are_left_alone(tmp_path: Path) -> None:
    """Up to 0.1 `docker compose up` alone made them, root's own, where files should be."""
    files = [tmp_path / "compose" / name for name in ("secrets/ingest_token", "prometheus.yml")]
    for file in files:
        file.mkdir(parents=True, mode=0o700)
    assert main(["up", "--prepare-only", "--data", str(tmp_path)]) == 0
    assert files[1].stat().st_mode & 0o777 == 0o700, "only root could change it"


def test_a_service_sees_its_own_secrets_only(prepared: Path) -> None:
    found = {
        name: {one.name for one in (prepared / "compose" / name).glob("secrets/*")}
        for name in ("exporter", "receiver", "alertmanager", "grafana", "scraper", "prometheus")
    }
    assert found == {
        "exporter": {"ingest_token", "admin_token"},
        "receiver": {"webhook_token", "admin_token"},
        "alertmanager": {"webhook_token"},
        "grafana": {"grafana_admin_password"},
        "scraper": {"ingest_token"},
        "prometheus": set(),
    }
