"""docs/recipes.md: its blocks run as printed; systemd accepts the units, and what they start runs.

What a reader fills in (addresses, folders) is replaced, and must be there to be replaced.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from command.commands import parser
from command.flags import ports
from command.main import main
from command.paths import REPOSITORY
from command.stack.binaries import need
from command.stack.configs import Ports
from command.stack.processes import Child, free_port
from demo import processes
from tests.support.loop import Loop
from tests.support.spools import Reader
from tests.support.waiting import until

PAGE = (REPOSITORY / "docs" / "recipes.md").read_text()
UNITS = sorted((REPOSITORY / "deploy" / "systemd").glob("*.service"))
SCRAPER = """
from client import allowed, record
print(allowed("notes", "naivo"))
record("naivo", "notes", outcome="fallback", model="deepseek-chat")
"""
# The first of three calls to be answered fails; the others never are.
REFUSES_ONE = """
import http.server, os, threading
class Provider(http.server.BaseHTTPRequestHandler):
    asked = threading.Barrier(3)
    def do_POST(self):
        if self.asked.wait() == 0:
            self.send_response(500)
            self.end_headers()
        else:
            threading.Event().wait()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["OPENAI_BASE_URL"] = f"http://127.0.0.1:{server.server_port}"
"""
# What a test may not do here; each says that it was asked.
SHIM = """#!/bin/sh
echo "$(basename "$0") $*" >> "$SAID"
"""


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def filled_in(text: str, values: dict[str, str]) -> str:
    for printed, ours in values.items():
        assert printed in text, f"{printed} is not in the page"
        text = text.replace(printed, ours)
    return text


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
        "LLM_BUDGET_CONFIG_URL": loop.bundle.url("receiver") + "/config",
        "OPENAI_BASE_URL": processes.provider_url(loop.children[0]),
        "OPENAI_API_KEY": "simulated",
    }


def run(host: dict[str, str], program: str) -> "subprocess.CompletedProcess[str]":
    """A program in the scraper's folder."""
    return subprocess.run(
        [sys.executable, "-c", program], cwd=Path(host["LLM_BUDGET_SPOOL"]).parent,
        env=host, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def outcomes(host: dict[str, str]) -> list[str]:
    events = Reader(Path(host["LLM_BUDGET_SPOOL"])).read(retire=False).events.values()
    return sorted(event["outcome"] for event in events)


def booked(loop: Loop) -> int:
    return int(loop.status()["requests"])


# --- the cron job ---


class Cron:
    """The job's host: /opt/scraper with run.sh, and how cron runs the printed line."""

    def __init__(self, folder: Path, token: Path) -> None:
        self.folder = folder
        self.token = folder / "ingest_token"
        self.spool = folder / "spool" / "calls"
        self.home = folder / "home"
        self.home.mkdir()
        (line,) = re.findall(r"^    \*/2 \* \* \* \* scraper (.*)$", PAGE, re.MULTILINE)
        places = {"/var/spool/scraper": str(self.spool.parent), "/opt/scraper": str(folder)}
        self.line = filled_in(line, places)
        (block,) = re.findall(r"(?m)^    install -d .*\n.*/opt/scraper/ingest_token$", PAGE)
        places |= {" ingest_token": f" {token}", "-o scraper": f"-o {os.geteuid()}"}
        subprocess.run(["sh", "-ec", filled_in(block, places)], check=True)

    def run(self, exporter: str, receiver: str) -> "subprocess.CompletedProcess[str]":
        """In cron's environment, home and shell."""
        values = {
            "http://10.0.0.5:8001": receiver,
            "http://10.0.0.5:8000": exporter,
            "/var/spool/scraper/calls": str(self.spool),
            "/opt/scraper/ingest_token": str(self.token),
        }
        (self.folder / "run.sh").write_text(filled_in(blocks("bash")[0], values))
        bare = {"HOME": str(self.home), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LANG": "C"}
        return subprocess.run(
            ["/bin/sh", "-c", self.line],
            cwd=self.home, env=bare, capture_output=True, text=True, timeout=60,
        )  # fmt: skip


@pytest.fixture
def cron(loop: Loop, host: dict[str, str]) -> Cron:
    return Cron(Path(host["LLM_BUDGET_SPOOL"]).parent, loop.bundle.token_file("ingest"))


def test_the_cron_job_reads_the_config_and_delivers_once(loop: Loop, cron: Cron) -> None:
    urls = (loop.bundle.url("exporter"), loop.bundle.url("receiver"))
    for expected in (booked(loop) + 1, booked(loop) + 2):
        done = cron.run(*urls)
        assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
        assert booked(loop) == expected


def test_the_cron_job_keeps_what_it_cannot_deliver(loop: Loop, cron: Cron) -> None:
    """With nobody there, with another's token, and then for good."""
    before, urls = booked(loop), (loop.bundle.url("exporter"), loop.bundle.url("receiver"))
    nobody = f"http://127.0.0.1:{free_port()}"
    done = cron.run(nobody, nobody)
    assert (done.returncode, done.stdout) == (1, "False\n"), "an absent host costs answers"
    assert f"{nobody}/v1/usage gives no answer: Connection refused\n" in done.stderr
    right = cron.token.read_text()
    cron.token.chmod(0o600)
    cron.token.write_text("another token\n")
    done = cron.run(*urls)
    assert (done.returncode, done.stdout) == (1, "True\n")
    assert "401" in done.stderr
    waiting = Reader(cron.spool).read(retire=False).events
    assert (booked(loop), len(waiting)) == (before, 2)
    cron.token.write_text(right)
    assert cron.run(*urls).returncode == 0
    assert booked(loop) == before + 3


def test_a_cron_job_that_is_not_over_keeps_the_next_one_out(cron: Cron) -> None:
    (cron.folder / "scraper.py").write_text("raise SystemExit('a second run')")
    holder = ["flock", str(cron.spool.parent / "lock"), "sh", "-c", "echo held; read end"]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdin
        assert first.stdout
        assert first.stdout.readline() == b"held\n"
        done = cron.run("http://127.0.0.1:9", "http://127.0.0.1:9")
        assert (done.returncode, done.stderr) == (1, "")
        first.stdin.close()


# --- asyncio ---


def test_the_asyncio_scraper_reports_each_call(host: dict[str, str]) -> None:
    done = run(host, blocks("python")[0])
    assert done.returncode == 0, done.stderr
    assert outcomes(host) == ["success"] * 3


def test_the_asyncio_scraper_does_not_wait_for_a_receiver_that_hangs(host: dict[str, str]) -> None:
    """asyncio's debug mode says what kept its loop; the client's first question takes two s."""
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        host["LLM_BUDGET_CONFIG_URL"] = f"http://127.0.0.1:{hanging.getsockname()[1]}/config"
        done = run({**host, "PYTHONASYNCIODEBUG": "1"}, blocks("python")[0])
    assert done.returncode == 0, done.stderr
    kept = [float(one) for one in re.findall(r"took ([\d.]+) seconds", done.stderr)]
    assert max(kept, default=0) < 1.5
    assert outcomes(host) == ["fallback"] * 3, "what was never read is no"


def test_the_asyncio_scraper_records_what_it_cancels(host: dict[str, str]) -> None:
    """One call fails and ends the program while two wait for their answers."""
    once = {"openai.AsyncOpenAI()": "openai.AsyncOpenAI(max_retries=0, timeout=60)"}
    done = run(host, REFUSES_ONE + filled_in(blocks("python")[0], once))
    assert "InternalServerError" in done.stderr
    assert outcomes(host) == ["error"] * 3


# --- systemd ---


def command_of(unit: str) -> list[str]:
    return shlex.split(unit.replace("\\\n", " ").partition("\nExecStart=")[2].partition("\n")[0])


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """By the printed block, by a root whose umask is 077; its folders are moved here."""
    (block,) = re.findall(r"^(    umask 022.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    moved = {
        "/opt/llm-budget": str(tmp_path / "opt"),
        "/etc/llm-budget": str(tmp_path / "etc"),
        "/etc/systemd/system": str(tmp_path / "units"),
        "https://example.com/llm-budget": str(REPOSITORY),
    }
    (tmp_path / "units").mkdir()
    (tmp_path / "bin").mkdir()
    for name in ("useradd", "make", "chown", "systemctl"):
        (tmp_path / "bin" / name).write_text(SHIM)
        (tmp_path / "bin" / name).chmod(0o755)
    with (tmp_path / "bin" / "make").open("a") as make:
        make.write(f'ln -s "{Path(sys.executable).parents[1]}" "$2/.venv"\n')
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SAID": str(tmp_path / "said"),
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
    }  # fmt: skip
    done = subprocess.run(
        ["sh", "-ec", filled_in(block, moved)],
        cwd=tmp_path, env=environment, umask=0o077, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {**moved, "/var/lib/llm-budget": str(tmp_path / "state")}


def service(unit: Path, ready: str, moved: dict[str, str]) -> Child:
    """What an installed unit starts: its command, folder and environment, with our Python."""
    text = unit.read_text().replace("/opt/llm-budget/.venv/bin/python", sys.executable)
    for printed, ours in moved.items():
        text = text.replace(printed, ours)
    environment = dict(re.findall(r"^Environment=(\w+)=(.*)$", text, re.MULTILINE))
    (folder,) = re.findall(r"^WorkingDirectory=(.*)$", text, re.MULTILINE)
    log = unit.with_suffix(".log")
    return Child(unit.stem, command_of(text), log, ready, environment, Path(folder))


def test_what_is_installed_for_systemd_is_readable_but_for_the_tokens(
    installed: dict[str, str], tmp_path: Path
) -> None:
    etc = tmp_path / "etc"
    modes = {path: path.stat().st_mode & 0o777 for path in etc.rglob("*")}
    secret = {etc / "secrets" / f"{name}_token" for name in ("ingest", "admin", "webhook")}
    assert {modes.pop(path) for path in secret} == {0o600}
    assert modes.pop(etc / "secrets") == 0o711
    assert all(mode == (0o755 if path.is_dir() else 0o644) for path, mode in modes.items())
    assert {etc / name for name in ("budget.yml", "degradation.yml", "llm_config.yml")} <= set(
        modes
    )
    assert (tmp_path / "opt").stat().st_mode & 0o777 == 0o755, "the services' user enters"
    said = (tmp_path / "said").read_text()
    assert f"chown llm-budget {' '.join(sorted(map(str, secret)))}\n" in said
    assert "systemctl enable --now llm-budget-exporter llm-budget-receiver" in said


def test_what_the_installed_units_start_runs(installed: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    urls = {f"127.0.0.1:{port}": f"127.0.0.1:{free_port()}" for port in (8000, 8001, 9090, 9093)}
    units, moved = tmp_path / "units", {**installed, **urls}
    exporter = f"http://{urls['127.0.0.1:8000']}"
    config = f"http://{urls['127.0.0.1:8001']}/config"
    children = [
        service(units / "llm-budget-exporter.service", f"{exporter}/health", moved),
        service(units / "llm-budget-receiver.service", config, moved),
    ]
    call = {"roaster": "naivo", "field": "tags", "outcome": "cached"}
    token = (tmp_path / "etc" / "secrets" / "ingest_token").read_text().strip()
    try:
        for child in children:
            child.start()
        for child in children:
            child.wait_ready()
        assert requests.post(f"{exporter}/v1/usage", json=call, timeout=10).status_code == 401
        said = {"Authorization": f"Bearer {token}"}
        answer = requests.post(f"{exporter}/v1/usage", json=call, headers=said, timeout=10)
        assert answer.json()["accepted"] == 1
    finally:
        for child in children:
            child.stop()


def test_the_exporters_unit_may_clear_the_folder_of_spools_that_the_page_names() -> None:
    """systemd keeps everything else read-only, and what was read is removed."""
    unit = (REPOSITORY / "deploy" / "systemd" / "llm-budget-exporter.service").read_text()
    assert "\nProtectSystem=strict\n" in unit
    assert "\nReadWritePaths=-/var/spool/llm-budget\n" in unit
    assert "`/var/spool/llm-budget`" in PAGE


def test_the_deliverys_block_makes_the_folder_that_its_unit_may_write_to() -> None:
    """systemd does not start a unit without it."""
    unit = (REPOSITORY / "deploy" / "systemd" / "llm-budget-delivery.service").read_text()
    (spool,) = re.findall(r"^ReadWritePaths=(.*)$", unit, re.MULTILINE)
    last = PAGE.rpartition("systemctl enable --now llm-budget-delivery")[0].rpartition("\n\n")[2]
    assert f"install -d -o scraper -m 0700 {spool}\n" in last


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
    argv = command_of(text)
    named = {word.partition("=")[0] for word in argv if word.startswith("--")}
    script = [str(REPOSITORY / "sdk" / argv[1])] if argv[1].endswith(".py") else argv[1:3]
    helped = subprocess.run(
        [argv[0], *script, "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert named <= set(re.findall(r"--[a-z-]+", helped.stdout))


# --- the config class, and the ports that are taken ---


def checked(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints, its table's lines joined; its status is of people and ports, too."""
    main(argv)
    return " ".join(capsys.readouterr().out.split())


def test_the_config_class_keeps_its_key_and_follows_the_level(
    loop: Loop, host: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop.degrade("emergency")
    loop.wait_level("emergency")
    program = blocks("python")[1]
    ours = "effective(config)"
    done = run(host, f"{program}\nassert {ours}.api_key == 'sk-…' not in repr({ours})")
    assert done.returncode == 0, done.stderr
    assert "'enabled': False" in done.stdout
    baseline = tmp_path / "llm_config.yml"
    text = baseline.read_text()
    assert "sk-" not in text
    (check,) = re.findall(r"`llm-budget (check --baseline llm_config.yml)`", PAGE)
    argv = shlex.split(check.replace("llm_config.yml", str(baseline)))
    assert "degradation error" not in checked(argv, capsys)
    baseline.write_text(filled_in(text, {"max_queue_size: 1000\n": ""}))
    assert "max_queue_size" in checked(argv, capsys), "what the class does not have is named"
    baseline.write_text(f"{text}api_key: sk-1\n")
    assert "api_key holds a secret" in checked(argv, capsys)


def test_at_the_highest_level_the_asyncio_scraper_asks_nobody(
    loop: Loop, host: dict[str, str]
) -> None:
    loop.degrade("fallback")
    loop.wait_level("fallback")
    done = run({**host, "OPENAI_BASE_URL": "http://127.0.0.1:9"}, blocks("python")[0])
    assert done.returncode == 0, done.stderr
    assert outcomes(host) == ["fallback"] * 3


def test_the_printed_flags_are_taken_and_the_printed_ports_those_of_the_addresses() -> None:
    lines = re.findall(r'make up ARGS="(.*?)"', PAGE)
    parsed = [parser().parse_args(["up", *shlex.split(line)]) for line in lines]
    asked = ports(parsed[-1])
    assert asked == replace(Ports(), exporter=8100, receiver=8101)
    for variable, port in (("EXPORTER", asked.exporter), ("CONFIG_URL", asked.receiver)):
        assert f"LLM_BUDGET_{variable}=http://127.0.0.1:{port}" in PAGE


def test_other_ports_are_found_by_the_data_folder(loop: Loop) -> None:
    argv = [sys.executable, "-m", "command.main", "status", "--data", str(loop.bundle.folder)]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True)
    assert "Degradation: " in done.stdout
    url = loop.bundle.url("receiver") + "/config"
    until(lambda: requests.get(url, timeout=5).ok, what="the config at that port")
