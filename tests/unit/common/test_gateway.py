"""Headers out of files and a private CA: what is sent and trusted, and what is refused."""

import argparse
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.errors import UserError
from common.fetch import FetchError, fetch
from common.gateway import Gateway, add_flags
from tests.support.odd_files import ODD
from tests.support.paths import ROOT

# Made for these tests, good for a hundred years: a CA, and a server at 127.0.0.1 with its key.
TLS = ROOT / "tests" / "data" / "private_ca"


def gateway(*flags: str) -> Gateway:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return Gateway.from_flags(parser.parse_args(flags))


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server with a certificate of the private CA: its URL, and the headers that came."""
    came: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            came.append(dict(self.headers))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None: ...

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem")
    peer = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    peer.socket = context.wrap_socket(peer.socket, server_side=True)
    threading.Thread(target=peer.serve_forever, args=(0.01,), daemon=True).start()
    yield f"https://127.0.0.1:{peer.server_port}/", came
    peer.shutdown()
    peer.server_close()


def test_a_private_ca_is_trusted_where_it_is_named_and_nowhere_else(
    server: tuple[str, list[dict[str, str]]], tmp_path: Path
) -> None:
    url, came = server
    password = tmp_path / "basic"
    password.write_text("Basic YW5uOnNlY3JldA==\n")
    options = gateway("--ca-file", str(TLS / "ca.pem"), "--header", f"Authorization={password}")
    assert fetch(url, **options.options()).status == 200
    assert came[0]["Authorization"] == "Basic YW5uOnNlY3JldA=="
    fetch(url, token="0123456789abcdef", **options.options())
    assert came[1]["Authorization"] == "Bearer 0123456789abcdef"  # an exporter's own goes first
    with pytest.raises(FetchError, match=r"cannot be reached \(its certificate is not trusted\)"):
        fetch(url, **gateway().options())
    assert len(came) == 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--header", "X-Scope-OrgID"], "--header 'X-Scope-OrgID' is not NAME=FILE"),
        (["--header", "=x"], "is not NAME=FILE"),
        (["--header", "X-Scope-OrgID="], "is not NAME=FILE"),
        (["--header", "X A=x"], "is not NAME=FILE"),
        (["--header", "X:=x"], "is not NAME=FILE"),
        (["--header", "X\r\nY=x"], "is not NAME=FILE"),
        (["--header", "a=nowhere"], "cannot read nowhere of --header a: No such file"),
        (["--header", "a=two"], "two of --header a must hold one line of printable ASCII"),
        (["--header", "a=empty"], "empty of --header a must hold one line"),
        (["--header", "a=latin"], "latin of --header a must hold one line"),
        (["--header", "a=long"], "cannot read long of --header a: it is larger than 16 KiB"),
        (["--ca-file", "nowhere"], "cannot read the CA file nowhere: No such file"),
        (["--ca-file", "good"], "the CA file good holds no certificate of a CA"),
        (["--ca-file", "empty"], "the CA file empty holds no certificate of a CA"),
        (["--ca-file", "latin"], "the CA file latin holds no certificate of a CA"),
        (["--ca-file", str(TLS / "server.pem")], "holds no certificate of a CA"),
    ],
)
def test_what_cannot_be_sent_or_trusted_is_one_sentence_without_the_secret(
    flags: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"good": b"secret", "two": b"secret\r\nX-Other: secret", "empty": b" \n",
             "latin": b"secret\xe9", "long": b"secret" * 4000}  # fmt: skip
    for name, content in files.items():
        Path(name).write_bytes(content)
    with pytest.raises(UserError) as refused:
        gateway(*flags)
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("flag", ["--header=a=x", "--ca-file=x"])
def test_a_file_that_hangs_or_never_ends_is_refused(
    flag: str, odd: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    odd(Path("x").absolute())
    with pytest.raises(UserError, match="cannot read"):
        gateway(flag)
