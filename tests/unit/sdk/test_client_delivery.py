"""Delivery of a spool to an exporter on another host: a real exporter, and a network between."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from command.stack.processes import Child, free_port
from sdk import client_delivery as module
from sdk.client import SLOT, Client
from sdk.client_delivery import DeliveryError, deliver, main
from tests.support.exporters import INGEST, write_config
from tests.support.planted import PLANTS, untouched, victim
from tests.support.spools import answer
from tests.support.waiting import until

PROMPT, COMPLETION = 812, 143


class Exporter:
    """A real exporter as a process."""

    def __init__(self, folder: Path, config: str = "") -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        argv = [sys.executable, "-m", "exporter", "--config", str(write_config(folder, config))]
        argv += ["--listen", f"127.0.0.1:{port}", "--ledger", str(folder / "ledger.sqlite")]
        token = {"LLM_BUDGET_INGEST_TOKEN": INGEST}
        self.child = Child("exporter", argv, folder / "log", f"{self.url}/health", token)
        self.child.start()
        self.child.wait_ready()
        self.before = 0

    def calls(self) -> int:
        """Calls booked since the test began."""
        status = requests.get(f"{self.url}/api/v1/status", timeout=10).json()
        return int(status["requests"]) - self.before


class Network:
    """Forwards to an exporter; each item of faults spoils one request."""

    def __init__(self, exporter: str) -> None:
        self.faults: list[str] = []
        self.requests = 0
        self.hosts: list[Any] = []
        network, address = self, exporter.removeprefix("http://")

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                network.requests += 1
                network.forward(self, address)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def forward(self, request: BaseHTTPRequestHandler, address: str) -> None:
        fault = self.faults.pop(0) if self.faults else ""
        body = request.rfile.read(int(request.headers["Content-Length"]))
        if fault == "drop the request":
            return
        if fault.isdigit():
            request.send_response(int(fault))
            request.send_header("Location", "http://127.0.0.1:9/")
            request.end_headers()
            return
        connection = HTTPConnection(address, timeout=10)
        headers = {key: value for key, value in request.headers.items() if key != "Host"}
        connection.request("POST", request.path, body, headers)
        answered = connection.getresponse()
        content = answered.read()
        connection.close()
        if fault == "drop the answer":
            return
        request.send_response(answered.status)
        request.end_headers()
        request.wfile.write(b"<html>welcome</html>" if fault == "portal" else content)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(scope="module")
def shared_exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    exporter = Exporter(tmp_path_factory.mktemp("exporter"))
    yield exporter
    exporter.child.stop()


@pytest.fixture
def exporter(shared_exporter: Exporter) -> Exporter:
    shared_exporter.before += shared_exporter.calls()
    return shared_exporter


@pytest.fixture
def network(exporter: Exporter) -> Iterator[Network]:
    network = Network(exporter.url)
    yield network
    network.close()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", (0.001, 0.01))


def fill(spool: Path, calls: int, **options: Any) -> None:
    client = Client(spool, **options)
    for number in range(calls):
        assert client.record(f"roaster-{number % 3}", "notes", answer())
    client.close()


def token() -> str:
    return INGEST


def test_a_spool_is_delivered_once_and_goes_on_where_it_ended(
    spool: Path, exporter: Exporter
) -> None:
    fill(spool, 2500)
    assert deliver(spool, exporter.url, token=token, once=True) == 2500
    fill(spool, 10)
    assert deliver(spool, exporter.url, token=token, once=True) == 10
    assert deliver(spool, exporter.url, token=token, once=True) == 0
    assert exporter.calls() == 2510


def test_nothing_is_lost_or_doubled_on_a_bad_network(
    spool: Path, exporter: Exporter, network: Network
) -> None:
    faults = ["503", "drop the request", "drop the answer", "portal", "429", "401", "302", "413"]
    network.faults = faults * 3
    fill(spool, 1500)
    stop = threading.Event()
    thread = threading.Thread(
        target=lambda: deliver(spool, network.url, token=token, stop=stop, once=False)
    )
    thread.start()
    try:
        until(lambda: exporter.calls() == 1500)
        until(lambda: not network.faults)
    finally:
        stop.set()
        thread.join()
    assert deliver(spool, exporter.url, token=token, once=True) >= 0
    assert exporter.calls() == 1500


@pytest.mark.parametrize("fault", ["drop the answer", "portal", "302", "503"])
def test_once_says_why_it_could_not(
    spool: Path, exporter: Exporter, network: Network, fault: str
) -> None:
    fill(spool, 3)
    network.faults = [fault]
    with pytest.raises(DeliveryError, match=f"^{network.url}/v1/usage "):
        deliver(spool, network.url, token=token, once=True)
    assert deliver(spool, network.url, token=token, once=True) == 3
    assert exporter.calls() == 3


def test_a_batch_that_is_too_large_for_the_exporter_is_halved(tmp_path: Path, spool: Path) -> None:
    exporter = Exporter(tmp_path, "limits: {batch_events: 100}\n")
    try:
        fill(spool, 950)
        stop = threading.Event()
        thread = threading.Thread(target=deliver, args=(spool, exporter.url), kwargs={
            "token": token, "stop": stop})  # fmt: skip
        thread.start()
        until(lambda: exporter.calls() == 950)
        stop.set()
        thread.join()
    finally:
        exporter.child.stop()


def test_a_large_spool_is_retired_and_folds_are_delivered(
    spool: Path, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETIRE_BYTES", 1000)
    fill(spool, 100)
    deliver(spool, exporter.url, token=token, once=True)
    assert not spool.exists()
    fill(spool, 40, max_bytes=5000)
    assert Path(f"{spool}.fold").exists()
    Path(f"{spool}.fold").rename(f"{spool}.fold.{7:016x}")  # left by a delivery that was killed
    fill(spool, 10, max_bytes=0)
    sums = sum(map(os.path.getsize, (f"{spool}.fold", f"{spool}.fold.{7:016x}"))) // SLOT
    lines = spool.read_text().count('"chatcmpl')
    assert deliver(spool, exporter.url, token=token, once=True) == lines + sums
    left = {path.name for path in spool.parent.glob("spool*")}
    assert left == {"spool.lock", "spool.delivered"}


def test_a_hole_that_a_power_cut_left_in_a_fold_costs_no_sum(
    spool: Path, exporter: Exporter
) -> None:
    fill(spool, 1)
    fill(spool, 10, max_bytes=0)
    fold = Path(f"{spool}.fold")
    fold.write_bytes(b"\0" * SLOT + fold.read_bytes() + b"\0" * SLOT)
    deliver(spool, exporter.url, token=token, once=True)
    assert exporter.calls() == 11


def test_a_spool_that_grows_meanwhile_is_not_retired(
    spool: Path, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETIRE_BYTES", 0)
    fill(spool, 5)
    remember = module._Delivery._remember

    def remember_and_write(self: Any, header: bytes, offset: int) -> None:
        remember(self, header, offset)
        if len(grown) < 3:
            grown.append(1)
            fill(spool, 1)

    grown: list[int] = []
    monkeypatch.setattr(module._Delivery, "_remember", remember_and_write)
    assert deliver(spool, exporter.url, token=token, once=True) == 8
    assert exporter.calls() == 8
    assert not spool.exists()


def test_two_deliveries_of_one_spool_are_refused(spool: Path) -> None:
    with (
        contextlib.closing(module._Delivery(str(spool), "http://127.0.0.1:9", token)),
        pytest.raises(DeliveryError, match="another delivery"),
    ):
        deliver(spool, "http://127.0.0.1:9", token=token, once=True)
    assert deliver(spool, "http://127.0.0.1:9", token=token, once=True) == 0


def test_a_damaged_mark_means_from_the_start_which_the_ids_make_harmless(
    spool: Path, exporter: Exporter
) -> None:
    fill(spool, 4)
    deliver(spool, exporter.url, token=token, once=True)
    for content in ("", "{", "[]", '{"header": 1}', '{"header": "x", "offset": 3}'):
        Path(f"{spool}.delivered").write_text(content)
        assert deliver(spool, exporter.url, token=token, once=True) == 4
    assert exporter.calls() == 4


def header_of(spool: Path) -> int:
    return spool.read_bytes().index(b"\n") + 1


@pytest.mark.parametrize("left", [0, 5, 20, 60])  # bytes of the header
def test_a_spool_whose_header_is_zeroed_is_delivered_and_retired(
    spool: Path, exporter: Exporter, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    fill(spool, 4)
    deliver(spool, exporter.url, token=token, once=True)
    with open(spool, "r+b") as file:
        file.seek(left)
        file.write(bytes(header_of(spool) - left))
    fill(spool, 3)
    deliver(spool, exporter.url, token=token, once=True)
    assert exporter.calls() == 7
    monkeypatch.setattr(module, "RETIRE_BYTES", 1000)
    deliver(spool, exporter.url, token=token, once=True)
    assert not spool.exists()


@pytest.mark.parametrize("cut", [-1, -400, -900])
@pytest.mark.parametrize("zeroed", [0, 300, 3 * module.BATCH_BYTES])
def test_a_spool_that_lost_its_end_is_delivered_from_its_start(
    spool: Path, exporter: Exporter, cut: int, zeroed: int
) -> None:
    fill(spool, 8)
    deliver(spool, exporter.url, token=token, once=True)
    spool.write_bytes(spool.read_bytes()[:cut] + bytes(zeroed))
    fill(spool, 12)
    deliver(spool, exporter.url, token=token, once=True)
    assert exporter.calls() == 20


def test_the_mark_of_an_older_image_delivers_again_what_came_after_it(
    spool: Path, exporter: Exporter
) -> None:
    mark = Path(f"{spool}.delivered")
    fill(spool, 4)
    deliver(spool, exporter.url, token=token, once=True)
    older = mark.read_bytes()
    fill(spool, 4)
    deliver(spool, exporter.url, token=token, once=True)
    for content in (older, older[:9], bytes(len(older)), b'{"offset": 1e400, "before": ""}'):
        mark.write_bytes(content)
        deliver(spool, exporter.url, token=token, once=True)
    assert exporter.calls() == 8


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("suffix", ["", ".lock", ".delivered", ".delivered.new", ".fold"])
def test_what_others_plant_beside_a_spool_is_left_alone(
    tmp_path: Path, exporter: Exporter, plant: str, suffix: str
) -> None:
    file = victim(tmp_path)
    (tmp_path / "shared").mkdir()
    spool = tmp_path / "shared" / "spool"
    if suffix:
        fill(spool, 3)
    fill(spool, 2, max_bytes=0)  # a sum for each of two
    taken = Path(f"{spool}.fold").rename(f"{spool}.fold.{'a' * 16}")
    if not suffix:
        spool.unlink()
    PLANTS[plant](Path(f"{spool}{suffix}"), file)
    try:
        deliver(spool, exporter.url, token=token, once=True)
    except DeliveryError as error:
        assert suffix in ("", ".lock") or plant == "folder"
        assert str(spool) in str(error)  # noqa: PT017
    else:
        assert exporter.calls() == 5
        assert not taken.exists()
    assert untouched(file)


def test_a_planted_fold_is_not_sent_and_not_removed(tmp_path: Path, exporter: Exporter) -> None:
    file = victim(tmp_path)
    spool = tmp_path / "spool"
    for digit, plant in enumerate(PLANTS.values()):
        plant(Path(f"{spool}.fold.{digit:016x}"), file)
        file.parent.joinpath("file-fifo").unlink(missing_ok=True)
    fill(spool, 2)
    assert deliver(spool, exporter.url, token=token, once=True) == 2
    assert untouched(file)
    assert len(list(tmp_path.glob("spool.fold.*"))) == len(PLANTS)


def test_a_file_that_is_no_spool_is_refused_and_left_alone(spool: Path) -> None:
    spool.write_text('{"event": "a log of somebody else"}\n')
    with pytest.raises(DeliveryError, match="is not a spool"):
        deliver(spool, "http://127.0.0.1:9", token=token, once=True)
    assert spool.exists()


def test_blank_lines_are_passed_over(spool: Path, exporter: Exporter) -> None:
    fill(spool, 1)
    with open(spool, "a") as file:
        file.write("\n" * (2 * module.BATCH_BYTES))
    fill(spool, 1)
    assert deliver(spool, exporter.url, token=token, once=True) == 2


def test_a_torn_last_line_waits_for_its_end(spool: Path, exporter: Exporter) -> None:
    fill(spool, 2)
    with open(spool, "a") as file:
        file.write('\n{"id": "torn')
    assert deliver(spool, exporter.url, token=token, once=True) == 2
    fill(spool, 1)
    assert deliver(spool, exporter.url, token=token, once=True) == 2  # the piece, refused, and one
    assert exporter.calls() == 3


@pytest.fixture
def command(spool: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    running: list[subprocess.Popen[bytes]] = []

    def start(url: str, *flags: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, module.__file__, "--spool", str(spool)]
        argv += ["--exporter", url, *flags]
        environment = {**os.environ, "LLM_BUDGET_INGEST_TOKEN": INGEST}
        running.append(subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


def test_kill_9_of_the_delivery_at_any_moment_loses_and_doubles_nothing(
    spool: Path,
    exporter: Exporter,
    command: Callable[..., subprocess.Popen[bytes]],
) -> None:
    writer = threading.Thread(target=fill, args=(spool, 8_000))
    writer.start()
    for _ in range(4):
        before = exporter.calls()
        delivery = command(exporter.url)
        until(lambda before=before: exporter.calls() > before, every=0.002)  # type: ignore[misc]
        delivery.kill()
        delivery.wait()
    writer.join()
    assert command(exporter.url, "--once").wait(60) == 0
    assert exporter.calls() == 8_000


def test_the_command_ends_at_sigterm_and_says_whether_once_succeeded(
    spool: Path,
    exporter: Exporter,
    command: Callable[..., subprocess.Popen[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    fill(spool, 3)
    delivery = command(exporter.url)
    until(lambda: exporter.calls() == 3)
    delivery.terminate()
    assert delivery.wait(20) == 0
    fill(spool, 1)
    assert command(f"http://127.0.0.1:{free_port()}", "--once").wait(20) == 1
    file = tmp_path / "token"
    file.write_text(f"{INGEST}\n")
    flags = ["--spool", str(spool), "--exporter", exporter.url, "--token-file", str(file)]
    assert main([*flags, "--once"]) == 0
    fill(spool, 1)
    assert main(["--spool", str(spool), "--exporter", "ftp://x", "--once"]) == 1
    assert exporter.calls() == 4
