"""llm-budget check: all files together, each mistake in one sentence that names it."""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from command.check import port_state
from command.main import main
from command.paths import ALERTMANAGER, REPOSITORY
from command.replay.prometheus import ReplayPrometheus
from command.stack.bundle import Bundle
from command.stack.configs import Ports
from common.errors import UserError
from tests.support.ladders import BASELINE_FILE, LADDER_FILE
from tests.support.paths import ROOT

FILES = {
    "config": REPOSITORY / "budget.yml",
    "ladder": LADDER_FILE,
    "baseline": BASELINE_FILE,
    "contacts": REPOSITORY / "contacts.yml",
    "alertmanager": ALERTMANAGER / "alertmanager.yml",
}


def check(
    capsys: pytest.CaptureFixture[str], *flags: str, ports: Ports | None = None
) -> tuple[int, dict[str, Any]]:
    """ports: by default free ones, whatever the machine runs on the shipped ones."""
    numbers = asdict(ports or Ports.free()).items()
    chosen = [word for name, port in numbers for word in (f"--{name}-port", str(port))]
    status = main(["check", "--json", *chosen, *flags])
    return status, {item["part"]: item for item in json.loads(capsys.readouterr().out)}


def test_what_ships_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = check(capsys)
    assert status == 0, found
    asks = found.pop("degradation")
    assert asks["status"] == "warning"
    assert "write `confidence_threshold: ask_below`" in asks["detail"]
    for part in ("links", "critical alerts", "warning alerts", "info alerts"):
        assert found.pop(part)["status"] == "warning"  # nobody has said yet who is told
    assert {item["status"] for item in found.values()} == {"ok"}
    assert found["thresholds"]["detail"].startswith("half 50%, warning 75%")


def test_a_narrow_terminal_folds_the_file_that_people_should_fill_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    data = tmp_path / "somewhere-deep" / "in-the-folders-of-a-long-path"
    main(["check", "--data", str(data)])
    said = "".join(capsys.readouterr().out.split())
    assert f"{data}/secrets/pagerduty_routing_keyismissingorempty" in said


@pytest.mark.parametrize("reading", ["accept_above", "ask_below"])
def test_nobody_is_asked_again_what_a_threshold_means(
    reading: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = tmp_path / "degradation.yml"
    text = LADDER_FILE.read_text()
    said.write_text(
        text.replace("# confidence_threshold: accept_above", f"confidence_threshold: {reading}")
    )
    found = check(capsys, "--ladder", str(said))[1]
    assert found["degradation"] == {"part": "degradation", "status": "ok", "detail": "valid"}


@pytest.mark.parametrize(
    ("flag", "change", "part", "words"),
    [
        ("config", ("daily_limit_usd", "daily_limit_eur"), "budget", "daily_limit_eur"),
        ("config", ("reserve_usd: 20", "reserve_usd: 200"), "budget", "exceed daily_limit_usd"),
        ("config", ("fields: {}", "fields: {a: 60, b: 41}"), "budget", "the fields' caps exceed"),
        ("config", ("fields: {}", "fields: {notes: 1, nots: 2}"), "budget", "field_configs.nots"),
        ("config", ("timezone: UTC", "timezone: Mars/Base"), "budget", "Mars/Base"),
        ("ladder", ("multiply:", "divide:"), "degradation", "divide"),
        ("ladder", ("{to: 0.1, keep: higher}", "0.1"), "degradation", "write {to: 0.1, keep:"),
        ("ladder", ("enable_caching", "enabled"), "degradation", "set.enabled switches it on, but"),
        ("baseline", ("max_queue_size", "max_queue"), "degradation", "changes max_queue_size"),
        ("baseline", ("model: deepseek-chat", "api_key: sk-1"), "degradation", "api_key"),
        ("contacts", ("llm-budget@example.com]", "nobody]"), "contacts", "nobody"),
        ("alertmanager", ("receiver: page", "receiver: pgae"), "alertmanager", "pgae"),
    ],
)
def test_a_mistake_is_named_and_the_other_parts_are_still_checked(
    flag: str, change: tuple[str, str], part: str, words: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    broken = tmp_path / FILES[flag].name
    text = FILES[flag].read_text()
    assert change[0] in text
    broken.write_text(text.replace(*change))
    status, found = check(capsys, f"--{flag}", str(broken))
    assert status == 1
    assert found[part]["status"] == "error"
    assert words in found[part]["detail"]
    assert found["thresholds"]["status"] == "ok"


@pytest.mark.parametrize(
    ("caps", "tuning"),
    [("roasters: {naivo: 5}", "roaster_stop"), ("fields: {notes: 5}", "field_stop")],
)
def test_a_cap_that_a_ladder_of_before_cannot_keep_is_named(
    caps: str, tuning: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ladder = str(ROOT / "tests" / "data" / "released" / "degradation.yml")
    (tmp_path / "budget.yml").write_text(f"budget: {{{caps}}}")
    capped = ("--config", str(tmp_path / "budget.yml"))
    said = check(capsys, *capped, "--ladder", ladder)[1]["budget"]
    assert (said["status"], f"no automatic tuning {tuning}" in said["detail"]) == ("error", True)


def test_a_strangers_port_is_an_error_that_names_it_and_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with listener("127.0.0.1") as stranger:
        ports = replace(Ports.free(), exporter=stranger.getsockname()[1])
        status, found = check(capsys, ports=ports)
    assert status == 1
    assert found["port of exporter"]["status"] == "error"
    assert f"(pid {os.getpid()})" in found["port of exporter"]["detail"]
    assert "llm-budget up --exporter-port" in found["port of exporter"]["detail"]
    assert found["port of receiver"] == {
        "part": "port of receiver", "status": "ok", "detail": f"{ports.receiver} is free",
    }  # fmt: skip


def listener(host: str, *, both: bool = False) -> socket.socket:
    """A socket that listens on a free port and answers nobody; both: to IPv6 and IPv4."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, 0), family=family, dualstack_ipv6=both)


@pytest.mark.parametrize(
    ("listen", "taken"),
    [
        (lambda: listener("127.0.0.1"), True),
        (lambda: listener("0.0.0.0"), True),
        (lambda: listener("127.0.0.2"), False),
        (lambda: listener("::", both=True), True),
        (lambda: listener("::"), False),
    ],
    ids=["the same address", "every address", "another address", "both families", "IPv6 alone"],
)
def test_free_is_what_a_service_could_listen_on(
    listen: Callable[[], socket.socket], taken: bool
) -> None:
    try:
        stranger = listen()
    except OSError as error:
        pytest.skip(f"this machine has no such address: {error}")
    with stranger:
        port = stranger.getsockname()[1]
        if taken:
            with pytest.raises(UserError, match=rf"held by .*\(pid {os.getpid()}\)"):
                port_state("exporter", port)
        else:
            assert port_state("exporter", port) == f"{port} is free"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_port_of_another_users_process_is_not_free_and_its_user_is_named() -> None:
    with listener("127.0.0.1") as roots:
        port = roots.getsockname()[1]
        words = as_nobody(lambda: port_state("exporter", port), without=roots)
    assert f"127.0.0.1:{port}" in words
    assert "held by a process of the user root" in words


def as_nobody(action: Callable[[], str], without: socket.socket) -> str:
    """What action says in a process of another user's, which has not inherited the socket."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        without.close()
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            words = action()
        except BaseException as error:
            words = str(error)
        os.write(writer, words.encode())
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        words = pipe.read()
    os.waitpid(child, 0)
    return words


def test_the_bundles_own_services_may_hold_their_ports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Bundle(tmp_path, ports=Ports.free())
    bundle.start()
    try:
        status, found = check(capsys, ports=bundle.ports)
    finally:
        bundle.stop()
    assert status == 0, found
    for child in bundle.children:
        detail = found[f"port of {child.name}"]["detail"]
        assert f"(pid {child.pid}), which answers as this bundle's {child.name}" in detail


def test_a_test_without_an_alertmanager_is_an_error_in_words(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "cannot reach the alertmanager" in check(capsys, "--send-test")[1]["test"]["detail"]
    for body in (b"[]", b"{}", b'{"config": {"original": "receivers: 1"}}'):
        with served(body) as port:
            ports = replace(Ports.free(), alertmanager=port)
            status, found = check(capsys, "--send-test", ports=ports)
        assert status == 1
        assert found["test"]["status"] == "error"


def test_the_ports_are_those_of_what_runs_in_the_data_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = asdict(Ports.free())
    lines = [f"{name}: http://127.0.0.1:{port}\n" for name, port in ports.items()]
    (tmp_path / "services.yml").write_text("".join(lines))

    def found() -> dict[str, str]:
        main(["check", "--json", "--send-test", "--data", str(tmp_path)])
        return {one["part"]: one["detail"] for one in json.loads(capsys.readouterr().out)}

    said = found()
    assert {name: said[f"port of {name}"] for name in ports} == {
        name: f"{port} is free" for name, port in ports.items()
    }
    assert f"at http://127.0.0.1:{ports['alertmanager']}/" in said["test"]
    monkeypatch.setenv("LLM_BUDGET_ALERTMANAGER", "http://127.0.0.1:1")  # one of somebody else
    assert "at http://127.0.0.1:1/" in found()["test"]


def test_another_prometheus_is_a_stranger(tmp_path: Path) -> None:
    with contextlib.closing(ReplayPrometheus(tmp_path, 1)) as server:
        server.start()
        with pytest.raises(UserError, match="held by prometheus"):
            port_state("prometheus", int(server.url.rpartition(":")[2]))


@pytest.mark.parametrize(
    ("problems", "status", "detail"),
    [
        ({}, "ok", "http://p ok, every 5 s, records 0.4 s behind"),
        ({"hold": "--hold 10 is below", "ruler": "too late"}, "error", "--hold 10 is below; too"),
    ],
)
def test_a_receiver_that_runs_is_asked_for_its_problems_and_its_rulers_lag(
    problems: dict[str, str], status: str, detail: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = {"http://p": "ok, every 5 s, records 0.4 s behind"}
    state = {"override": None, "problems": problems, "sources": sources}
    with served(json.dumps(state).encode()) as port:
        found = check(capsys, ports=replace(Ports.free(), receiver=port))[1]
    assert found["receiver"]["status"] == status
    assert found["receiver"]["detail"].startswith(detail)
    assert "records 0.4 s behind" in found["receiver"]["detail"]


def test_a_stranger_on_the_receivers_port_has_no_problems_of_ours(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for body in (b"[]", b"{}", b'{"problems": 1, "sources": {}}', b"<html>"):
        with served(body) as port:
            assert "receiver" not in check(capsys, ports=replace(Ports.free(), receiver=port))[1]


@contextlib.contextmanager
def served(body: bytes) -> Iterator[int]:
    """The port of a server that answers every GET with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()
