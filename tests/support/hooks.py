"""A loopback server that keeps what is posted to it, in place of Slack, PagerDuty and the like."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Posts(list[tuple[str, Any]]):
    """Path and JSON body of each POST; a path in refused is answered 400."""

    url = ""
    refused: frozenset[str] = frozenset()


@contextmanager
def posts() -> Iterator[Posts]:
    """The server, until the end of the block."""
    kept = Posts()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.append((self.path, json.loads(body)))
            self.send_response(400 if self.path in kept.refused else 202)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        kept.url = f"http://127.0.0.1:{server.server_port}"
        yield kept
        server.shutdown()
