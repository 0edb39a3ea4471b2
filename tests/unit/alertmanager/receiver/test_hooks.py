"""Running hooks and verify steps: every way to fail, and never in the next change's way."""

import http.server
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from alertmanager.receiver.hooks import Hooks, run_program
from alertmanager.receiver.ladder.ladder import Action
from tests.support.waiting import until

CHANGE = {"level": "control", "from": "none"}
GO_ON = threading.Event()


def program(script: str, timeout: float = 10, stop: threading.Event = GO_ON) -> str | None:
    return run_program([sys.executable, "-c", script], timeout, {}, stop.wait)


def gone(pid_file: Path) -> bool:
    """Whether the process whose id is in the file has ended (a zombie has)."""
    status = Path(f"/proc/{pid_file.read_text()}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


def test_a_program_that_fails_is_named_with_its_last_words() -> None:
    problem = program("import sys; print('no such unit'); sys.exit(3)")
    assert problem == f"{sys.executable} ended with status 3: no such unit"
    missing = run_program(["/nowhere/x"], 1, {}, GO_ON.wait)
    assert missing == "/nowhere/x cannot be run: No such file or directory"


def test_a_timeout_kills_the_program_and_what_it_started(tmp_path: Path) -> None:
    child = tmp_path / "child"
    script = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(child)!r}, 'w').write(str(p.pid))\ntime.sleep(600)"
    )
    assert "did not end within its timeout of 2 s" in str(program(script, timeout=2))
    until(lambda: gone(child), what="the end of the program's child")


def test_what_a_program_leaves_running_does_not_hold_up_the_hook(tmp_path: Path) -> None:
    child = tmp_path / "child"
    script = (
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(child)!r}, 'w').write(str(p.pid))"
    )
    assert program(script, timeout=60) is None
    assert not gone(child)
    os.kill(int(child.read_text()), 9)


@pytest.mark.parametrize("stopped", [False, True])
def test_all_that_a_program_leaves_running_can_be_made_to_end_too(
    tmp_path: Path, stopped: bool
) -> None:
    child = tmp_path / "child"
    script = f"sleep 600 & echo -n $! > {child}.new; mv {child}.new {child}; {'wait' * stopped}"

    def pause(seconds: float) -> None:
        threading.Event().wait(seconds)
        if stopped and child.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) if stopped else nullcontext():
        assert run_program(["sh", "-c", script], 60, {}, pause, all_end=True) is None
    until(lambda: gone(child), what="the end of what the program started")


def test_a_program_that_floods_its_output_fills_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "did not end" in str(program("while True: print('x' * 100_000)", timeout=1))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


class Endpoint:
    """An HTTP server whose answers the test decides: a status, or a function of the handler."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.answers: list[int | Callable[[Any], None]] = []
        endpoint = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                endpoint.got.append((self.command, body))
                answer = endpoint.answers.pop(0) if endpoint.answers else 204
                if callable(answer):
                    answer(self)
                else:
                    self.send_response(answer)
                    self.send_header("Location", "http://127.0.0.1:1/")
                    self.end_headers()

            def do_GET(self) -> None:
                self.do_POST()

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    built = Endpoint()
    yield built
    built.server.shutdown()
    built.server.server_close()


class Outcomes:
    """Hooks whose outcomes are kept."""

    def __init__(self) -> None:
        self.actions: dict[str, Action | None] = {}
        self.results: list[tuple[str, str | None]] = []
        self.hooks = Hooks(
            lambda step: self.actions[step],
            lambda step, why: self.results.append((step, why)),
        )

    def submit(self, step: Any, action: Action, change: dict[str, Any] = CHANGE) -> None:
        self.actions[step] = action
        self.hooks.submit([step], change)

    def run(self, step: str, action: Action) -> str | None:
        count = len(self.results)
        self.submit(step, action)
        until(lambda: len(self.results) > count, what="the outcome")
        return self.results[-1][1]


@pytest.fixture
def outcomes() -> Iterator[Outcomes]:
    built = Outcomes()
    yield built
    built.hooks.close()


def test_a_program_learns_the_level_and_no_token(
    outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_BUDGET_ADMIN_TOKEN", "secret-secret-secret")
    script = (
        "import os; e = os.environ; assert e['LLM_BUDGET_LEVEL'] == 'control' and e['PATH']; "
        "assert not [n for n in e if 'TOKEN' in n]"
    )
    assert outcomes.run("hook", Action(argv=[sys.executable, "-c", script])) is None


def test_a_hook_posts_the_change_and_verify_gets(outcomes: Outcomes, endpoint: Endpoint) -> None:
    assert outcomes.run("hook", Action(url=endpoint.url)) is None
    assert outcomes.run("verify", Action(url=endpoint.url)) is None
    assert [method for method, _ in endpoint.got] == ["POST", "GET"]
    assert json.loads(endpoint.got[0][1]) == CHANGE


def test_a_call_is_tried_again_and_then_its_status_is_told(
    outcomes: Outcomes, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alertmanager.receiver.hooks.RETRY_SECONDS", 0.01)
    endpoint.answers = [500, 503, 204]
    assert outcomes.run("hook", Action(url=endpoint.url)) is None
    endpoint.answers = [500, 503, 302]  # a redirect is no success, and is not followed
    assert outcomes.run("hook", Action(url=endpoint.url)) == f"{endpoint.url} answered 302"
    refused = outcomes.run("hook", Action(url="http://127.0.0.1:1/"))
    assert refused == "http://127.0.0.1:1/ cannot be reached (connection refused)"


def test_a_peer_that_dribbles_for_ever_does_not_block_the_next_change(
    outcomes: Outcomes, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alertmanager.receiver.hooks.HTTP_ATTEMPTS", 1)
    monkeypatch.setattr("alertmanager.receiver.hooks.RETRY_SECONDS", 0.1)
    cut = threading.Event()

    def dribble(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        try:
            while True:
                handler.wfile.write(b"x")
                threading.Event().wait(0.05)
        except OSError:
            cut.set()

    endpoint.answers = [dribble]
    slow = Action(url=endpoint.url, timeout_seconds=0.5)
    assert "no answer in time" in str(outcomes.run("hook", slow))
    assert outcomes.run("verify", Action(argv=["true"])) is None
    assert outcomes.run("hook", slow) is None
    assert cut.wait(10), "the call must end, not go on in a thread of its own"


def test_of_many_changes_that_wait_only_the_last_is_told(
    outcomes: Outcomes, tmp_path: Path
) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    script = f'while [ ! -e "{gate}" ]; do sleep 0.02; done; echo "$LLM_BUDGET_LEVEL" >> "{log}"'
    for number in range(50):
        hook = Action(argv=["sh", "-c", script])
        outcomes.submit("hook", hook, {"level": str(number)})
    gate.touch()
    until(lambda: log.exists() and "49" in log.read_text(), what="the last change")
    assert len(log.read_text().split()) <= 2


def test_whatever_an_action_raises_the_thread_lives_on(outcomes: Outcomes) -> None:
    assert "cannot be run" in str(outcomes.run("hook", Action(argv=["a\0b"])))
    assert outcomes.run("hook", Action(url="http://[::1/")) is not None
    assert outcomes.run("hook", Action(argv=["true"])) is None


def test_closing_kills_a_hook_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alertmanager.receiver.hooks.CLOSE_SECONDS", 0.2)
    stuck = Outcomes()
    stuck.submit("hook", Action(argv=["sleep", "600"], timeout_seconds=600))
    stuck.hooks.close()
    until(lambda: stuck.results, what="the hook's end")
    assert "did not end" in str(stuck.results[0][1])


def test_what_failed_runs_again_after_a_while_until_it_works(
    outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alertmanager.receiver.hooks.AGAIN_SECONDS", 0.5)
    started = time.monotonic()
    assert outcomes.run("hook", Action(argv=["false"])) is not None
    until(lambda: len(outcomes.results) == 2, what="the second try")
    assert time.monotonic() - started >= 0.5  # not at once
    outcomes.actions["hook"] = Action(argv=["true"])  # degradation.yml was mended
    until(lambda: outcomes.results[-1] == ("hook", None), what="the mended hook")
    count = len(outcomes.results)
    assert outcomes.run("verify", Action(argv=["true"])) is None
    assert len(outcomes.results) == count + 1


def test_a_hook_that_is_gone_fails_no_more(
    outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alertmanager.receiver.hooks.AGAIN_SECONDS", 0.1)
    assert outcomes.run("hook", Action(argv=["false"]))
    outcomes.actions["hook"] = None
    until(lambda: outcomes.results[-1] == ("hook", None), what="the end of the failure")


def test_a_newer_change_is_told_at_once_and_the_one_that_failed_no_more(
    outcomes: Outcomes, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    hook = Action(argv=["sh", "-c", f'echo "$LLM_BUDGET_LEVEL" >> "{log}"; false'])
    outcomes.submit("hook", hook, {"level": "older"})
    until(lambda: outcomes.results, what="the failure")
    outcomes.submit("hook", hook, {"level": "newer"})
    until(lambda: len(outcomes.results) == 2, what="the newer change")
    assert log.read_text().split() == ["older", "newer"]
