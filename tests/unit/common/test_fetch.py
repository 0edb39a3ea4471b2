"""One HTTP call: what a peer may do, and that the caller and its connection always end in time."""

import gzip
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec import Struct

from common.fetch import FetchError, fetch, without_password

Handler = http.server.BaseHTTPRequestHandler
Say = Callable[[Handler], None]


class Peer:
    """A server on loopback whose answer is a function; it keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Say = lambda handler: reply(handler, b"{}")
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        peer = self

        class Handling(Handler):
            def do_GET(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                peer.asked.append((self.command, self.path, dict(self.headers), body))
                peer.answer(self)

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handling)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.address}/x"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def peer() -> Iterator[Peer]:
    built = Peer()
    yield built
    built.server.shutdown()
    built.server.server_close()


def reply(handler: Handler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def dribble(start: bytes, cut: threading.Event) -> Say:
    """A byte now and then, until nobody listens any more."""

    def say(handler: Handler) -> None:
        handler.wfile.write(start)
        try:
            while True:
                handler.wfile.write(b" ")
                threading.Event().wait(0.05)
        except OSError:
            cut.set()

    return say


HEADERS = b"HTTP/1.0 200 OK\r\n\r\n"


@pytest.mark.parametrize("start", [b"", b"HTTP/1.0 200 OK\r\nX:", HEADERS + b"["],
                         ids=["before it answers", "in the headers", "in the body"])  # fmt: skip
def test_a_peer_that_dribbles_ends_in_time_and_its_connection_is_cut(
    start: bytes, peer: Peer
) -> None:
    cut = threading.Event()
    peer.answer = dribble(start, cut)
    began = time.monotonic()
    with pytest.raises(FetchError, match=r"cannot be reached \(no answer in time\)"):
        fetch(peer.url, timeout=0.5)
    assert time.monotonic() - began < 5
    assert cut.wait(10)


def test_a_peer_that_says_nothing_ends_in_time(peer: Peer) -> None:
    over = threading.Event()
    peer.answer = lambda _: over.wait(20) and None
    with pytest.raises(FetchError, match="no answer in time"):
        fetch(peer.url, timeout=0.3)
    over.set()


def test_a_name_server_that_hangs_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        over.wait(20)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with pytest.raises(FetchError, match="no answer in time"):
        fetch("http://exporter.example/", timeout=0.3)
    over.set()


def test_an_endless_body_ends_at_the_bound(peer: Peer) -> None:
    def flood(handler: Handler) -> None:
        handler.wfile.write(HEADERS)
        try:
            while True:
                handler.wfile.write(b"x" * 4096)
        except OSError:
            return

    peer.answer = flood
    with pytest.raises(FetchError, match="gives a wrong answer: more than 64 KiB"):
        fetch(peer.url, max_bytes=64 << 10)


def test_a_packed_body_is_bounded_by_its_unpacked_size(peer: Peer) -> None:
    packed = gzip.compress(bytes(1 << 20))
    peer.answer = lambda handler: reply(handler, packed, Content_Encoding="gzip")
    assert fetch(peer.url).body == bytes(1 << 20)
    with pytest.raises(FetchError, match="more than 64 KiB"):
        fetch(peer.url, max_bytes=64 << 10)


def test_without_a_bound_for_it_the_body_is_not_read(peer: Peer) -> None:
    peer.answer = dribble(HEADERS, threading.Event())
    answer = fetch(peer.url, max_bytes=0)
    assert (answer.status, answer.body) == (200, b"")


def test_a_refused_connection_and_a_nonsense_url_are_one_sentence() -> None:
    with pytest.raises(FetchError) as refused:
        fetch("http://ann:secret@127.0.0.1:1/x")
    assert str(refused.value) == "http://127.0.0.1:1/x cannot be reached (connection refused)"
    for url in ("http://[::1/", "nonsense", "http://a..b/", "http://" + "x" * 80 + ".example/"):
        with pytest.raises(FetchError, match="cannot be reached"):
            fetch(url)


def test_a_redirect_is_an_answer_and_the_token_goes_nowhere_else(peer: Peer) -> None:
    peer.answer = lambda handler: reply(handler, b"", 302, Location=f"http://{peer.address}/y")
    assert fetch(peer.url, token="0123456789abcdef").status == 302
    assert [path for _, path, _, _ in peer.asked] == ["/x"]


def test_content_is_posted_as_json_with_parameters_and_the_bearer_token(peer: Peer) -> None:
    fetch(peer.url, content={"a": 1}, params={"q": "1 or 2"}, token="0123456789abcdef")
    ((method, path, headers, body),) = peer.asked
    assert (method, path, body) == ("POST", "/x?q=1+or+2", b'{"a": 1}')
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Bearer 0123456789abcdef"


def test_a_password_in_the_url_goes_before_a_token_and_is_never_shown(peer: Peer) -> None:
    fetch(f"http://ann:secret@{peer.address}/@x", token="0123456789abcdef")
    fetch(f"http://{peer.address}/@x", token="0123456789abcdef")
    first, second = (headers["Authorization"] for _, _, headers, _ in peer.asked)
    assert (first, second) == ("Basic YW5uOnNlY3JldA==", "Bearer 0123456789abcdef")
    assert without_password("http://ann:secret@host:9090/prom") == "http://host:9090/prom"
    assert without_password("http://a:b@c@host/x@y") == "http://host/x@y"


def test_the_proxies_of_the_environment_are_for_peers_elsewhere(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://{peer.address}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    fetch(peer.url)
    fetch("http://provider.example/balance", use_environment=True)
    assert [path for _, path, _, _ in peer.asked] == ["/x", "http://provider.example/balance"]


class Figures(Struct):
    spend: int
    name: str = ""


def test_an_answer_is_decoded_as_its_kind(peer: Peer) -> None:
    peer.answer = lambda handler: reply(handler, b'{"spend": 3, "other": null}', 201)
    assert fetch(peer.url).decode(Figures).spend == 3


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"spend": 3}', 404, "status 404"),
        (b'{"spend": 3}', 302, "status 302"),
        (b'{"spend": "3"}', 200, "Expected `int`, got `str` - at `$.spend`"),
        (b"<html>", 200, "JSON is malformed"),
        (b'{"spend": 3, "name": "\xff"}', 200, "utf-8"),
        (b"[" * 100_000, 200, ""),
    ],
)
def test_what_is_no_such_answer_is_one_sentence(
    body: bytes, status: int, words: str, peer: Peer
) -> None:
    peer.answer = lambda handler: reply(handler, body, status)
    with pytest.raises(FetchError) as wrong:
        fetch(peer.url).decode(Figures)
    assert str(wrong.value).startswith(f"{peer.url} gives a wrong answer: ")
    assert words in str(wrong.value)
    assert "\n" not in str(wrong.value)
