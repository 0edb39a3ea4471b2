"""The same files on the Prometheus versions that people run, and on docker-compose itself."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from command.paths import ALERTMANAGER, REPOSITORY
from command.stack.binaries import TOOLS_VARIABLE
from tests.support import notifications
from tests.support.dashboard_data import ask_everything
from tests.support.loop import LIMIT, Loop
from tests.support.rule_files import RULES
from tests.support.rule_files import test_files as promtool_files
from tests.support.versions import NEWEST, SUITES, WITH_COMPOSE, Release, fetched, release


@pytest.fixture(params=SUITES)
def tools(request: pytest.FixtureRequest) -> Release:
    return fetched(request.param)


def run(tools: Release, name: str, *arguments: str) -> None:
    done = subprocess.run([tools.bin / name, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_version_is_the_one_it_is_called(tools: Release) -> None:
    done = subprocess.run([tools.bin / "promtool", "--version"], capture_output=True, text=True)
    asked = next(version for version, suite in SUITES.items() if suite == tools.suite)
    words = done.stdout + done.stderr
    # Unstable moves on; older than asked would prove nothing.
    assert f"version {asked}." in words or asked == NEWEST, words


def test_promtool_proves_every_rule(tools: Release) -> None:
    run(tools, "promtool", "test", "rules", *map(str, promtool_files()))


def test_promtool_accepts_the_config(tools: Release) -> None:
    run(tools, "promtool", "check", "config", str(RULES / "prometheus.yml"))


def test_amtool_accepts_the_config(tools: Release) -> None:
    run(tools, "amtool", "check-config", str(ALERTMANAGER / "alertmanager.yml"))


@pytest.mark.parametrize("receiver", notifications.PEOPLE)
def test_every_alertmanager_writes_the_same_messages(tools: Release, receiver: str) -> None:
    written = (notifications.GOLDEN / f"{receiver}.txt").read_text()
    assert notifications.golden(receiver, str(tools.bin / "amtool")) == written


def test_docker_compose_accepts_the_shipped_file() -> None:
    file = str(REPOSITORY / "docker-compose.yml")
    run(fetched(WITH_COMPOSE), "docker-compose", "-f", file, "--profile", "demo", "config", "-q")


@pytest.fixture
def newest_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    monkeypatch.setenv(TOOLS_VARIABLE, str(fetched(NEWEST).bin))
    with Loop(tmp_path) as loop:
        yield loop


def test_the_newest_pair_runs_the_whole_loop(newest_loop: Loop) -> None:
    """Usage in, level and config out, every rule healthy."""
    loop = newest_loop
    assert str(release(NEWEST).bin) in loop.bundle.prometheus.argv[0]
    assert str(release(NEWEST).bin) in loop.bundle.alertmanager.argv[0]
    loop.spend_to(LIMIT * 80 // 100)
    loop.wait_level("control")
    loop.spend_to(LIMIT)
    loop.wait_level("fallback")
    assert loop.effective()["enabled"] is False
    assert not loop.unwell()


def test_the_newest_prometheus_answers_every_panel_and_variable_of_the_dashboards(
    newest_loop: Loop,
) -> None:
    newest_loop.spend_to(LIMIT * 80 // 100)
    newest_loop.wait_level("control")
    ask_everything(newest_loop, timeout=120)
