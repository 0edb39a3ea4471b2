"""docs/recipes.md: its programs run as printed on a running loop; systemd accepts the units."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from command.paths import LADDER, REPOSITORY
from command.stack.binaries import need
from demo import processes
from tests.support.loop import Loop
from tests.support.waiting import until

PAGE = (REPOSITORY / "docs" / "recipes.md").read_text()
UNITS = sorted((REPOSITORY / "deploy" / "systemd").glob("*.service"))
SCRAPER = """
from client import allowed, record
print(allowed("notes", "naivo"))
record("naivo", "notes", outcome="fallback", model="deepseek-chat")
"""


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    with Loop(tmp_path_factory.mktemp("loop")) as running:
        provider = processes.provider(running.bundle)
        provider.start()
        running.children.append(provider)
        provider.wait_ready()
        yield running


@pytest.fixture
def host(loop: Loop, tmp_path: Path) -> dict[str, str]:
    """A scraper's folder, with the client beside it, and its environment."""
    for name in ("client.py", "client_delivery.py"):
        shutil.copy(REPOSITORY / "sdk" / name, tmp_path)
    (tmp_path / "scraper.py").write_text(SCRAPER)
    bare = {key: text for key, text in os.environ.items() if not key.startswith("LLM_BUDGET")}
    return {
        **bare,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LLM_BUDGET_SPOOL": str(tmp_path / "calls"),
        "LLM_BUDGET_EXPORTER": loop.bundle.url("exporter"),
        "LLM_BUDGET_CONFIG_URL": loop.bundle.url("receiver") + "/config",
        "LLM_BUDGET_INGEST_TOKEN_FILE": str(loop.bundle.token_file("ingest")),
        "OPENAI_BASE_URL": processes.provider_url(loop.children[0]),
        "OPENAI_API_KEY": "simulated",
    }


def run(host: dict[str, str], *argv: str) -> str:
    done = subprocess.run(
        argv, cwd=Path(host["LLM_BUDGET_SPOOL"]).parent, env=host, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def booked(loop: Loop) -> int:
    return int(loop.status()["requests"])


def test_the_cron_job_reads_the_config_and_delivers_once(loop: Loop, host: dict[str, str]) -> None:
    (job,) = blocks("bash")
    for expected in (booked(loop) + 1, booked(loop) + 2):
        assert run(host, "sh", "-ec", job) == "True\n"
        assert booked(loop) == expected


def test_the_asyncio_scraper_reports_each_call(loop: Loop, host: dict[str, str]) -> None:
    before = booked(loop)
    run(host, sys.executable, "-c", blocks("python")[0])
    deliver = [word for word in blocks("bash")[0].splitlines() if "client_delivery" in word]
    run(host, "sh", "-ec", *deliver)
    assert booked(loop) == before + 3
    assert {"weight", "notes", "tags"} <= loop.status()["by_field"].keys()


def test_the_config_class_keeps_its_key_and_follows_the_level(
    loop: Loop, host: dict[str, str], tmp_path: Path
) -> None:
    loop.degrade("emergency")
    loop.wait_level("emergency")
    program = blocks("python")[1]
    seen = run(host, sys.executable, "-c", f"{program}\nassert effective(config).api_key == 'sk-…'")
    assert "'enabled': False" in seen
    baseline = tmp_path / "llm_config.yml"
    assert "sk-" not in baseline.read_text()
    argv = ["-m", "alertmanager.receiver", "--check", "--config", str(LADDER), "--baseline"]
    checked = subprocess.run([sys.executable, *argv, str(baseline)], cwd=REPOSITORY)
    assert checked.returncode == 0


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_accepts_the_unit_and_the_service_its_flags(unit: Path, tmp_path: Path) -> None:
    """The program's path is this machine's; what is not installed cannot be verified."""
    text = unit.read_text()
    for program in ("/opt/llm-budget/.venv/bin/python", "/usr/bin/python3"):
        text = text.replace(program, sys.executable)
    (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        [need("systemd-analyze"), "verify", str(tmp_path / unit.name)],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    command = text.partition("ExecStart=")[2].partition("\nExecReload")[0].partition("\nRestart")[0]
    argv = command.replace("\\\n", " ").split()
    named = {word.partition("=")[0] for word in argv if word.startswith("--")}
    script = [str(REPOSITORY / "sdk" / argv[1])] if argv[1].endswith(".py") else argv[1:3]
    helped = subprocess.run(
        [argv[0], *script, "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert named <= set(re.findall(r"--[a-z-]+", helped.stdout))


def test_other_ports_are_found_by_the_data_folder(loop: Loop) -> None:
    argv = [sys.executable, "-m", "command.main", "status", "--data", str(loop.bundle.folder)]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True)
    assert "Degradation: " in done.stdout
    url = loop.bundle.url("receiver") + "/config"
    until(lambda: requests.get(url, timeout=5).ok, what="the config at that port")
