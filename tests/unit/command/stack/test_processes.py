"""Local processes: started, ready, ended by their own pid, and never left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from command.stack.processes import Child, free_port
from common.errors import UserError
from tests.support.waiting import until


def web_server(folder: Path, port: int) -> Child:
    argv = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    argv += ["--directory", str(folder)]
    return Child("web", argv, folder / "web.log", f"http://127.0.0.1:{port}/")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_child_gets_ready_and_ends_on_stop(tmp_path: Path) -> None:
    child = web_server(tmp_path, free_port())
    child.start()
    child.wait_ready()
    assert child.running
    assert child.stop() == -signal.SIGTERM
    assert not child.ready()
    assert child.stop() == -signal.SIGTERM  # twice is harmless


def test_its_process_id_lies_beside_its_log_while_it_runs(tmp_path: Path) -> None:
    child = Child("sleeper", ["sleep", "600"], tmp_path / "sleeper.log", "")
    child.start()
    assert (tmp_path / "sleeper.pid").read_text() == f"{child.pid}\n"
    child.stop()
    assert not (tmp_path / "sleeper.pid").exists()


def test_a_disk_that_takes_no_process_id_keeps_nothing_from_starting_and_stopping(
    tmp_path: Path,
) -> None:
    (tmp_path / "sleeper.pid").mkdir()
    child = Child("sleeper", ["sleep", "600"], tmp_path / "sleeper.log", "")
    child.start()
    assert child.running
    assert child.stop() == -signal.SIGTERM


def test_a_child_that_ends_at_once_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    child = Child(
        "liar",
        [sys.executable, "-c", "print('no config')"],
        tmp_path / "log",
        "http://127.0.0.1:1/",
    )
    child.start()
    with pytest.raises(UserError, match=r"liar ended at once; its log ends: no config"):
        child.wait_ready()


def test_an_earlier_runs_output_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("listening, long ago\n")
    liar = Child("liar", [sys.executable, "-c", "print('no config')"], tmp_path / "log", "")
    liar.start()
    with pytest.raises(UserError, match=r"its log ends: no config$"):
        liar.wait_ready()


def test_a_proxy_of_the_environment_does_not_hide_a_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    child = web_server(tmp_path, free_port())
    child.start()
    try:
        child.wait_ready(10)
    finally:
        child.stop()


def test_a_paused_child_still_stops(tmp_path: Path) -> None:
    child = web_server(tmp_path, free_port())
    child.start()
    child.wait_ready()
    os.kill(child.pid, signal.SIGSTOP)
    assert child.stop() == -signal.SIGTERM


def test_kill_minus_9_of_the_parent_leaves_no_child(tmp_path: Path) -> None:
    code = (
        "import sys, signal\n"
        "from pathlib import Path\n"
        "from command.stack.processes import Child\n"
        "c = Child('sleeper', ['sleep', '600'], Path(sys.argv[1]), '')\n"
        "c.start()\nprint(c.pid, flush=True)\nsignal.pause()\n"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "log")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        parent.kill()
    until(lambda: not is_alive(pid), what=f"end of the orphan {pid}")
