"""A /metrics page on loopback that stays as it is, and what an exporter tells of ten past days."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from common import names

DAY = 86_400
# By how many days ago: the total, and what was spent by this time.
TEN = {1: (40, 10), 2: (44, 12), 3: (36, 8), 4: (90, 20), 5: (41, 9), 6: (15, 4), 7: (22, 6),
       14: (21, 5), 21: (25, 7), 28: (23, 6)}  # fmt: skip


def history(ledger: str, start: int) -> dict[str, float]:
    """The series of the past days, as told on the day that starts then."""
    figures: dict[str, float] = {}
    for ago, (total, by_now) in TEN.items():
        past = f'{names.LEDGER}="{ledger}",{names.DAY}="{start}",{names.DAYS_AGO}="{ago}"'
        figures[f"{names.HISTORY_DAY_START}{{{past}}}"] = start - DAY * ago
        figures[f'{names.HISTORY_SPEND}{{{past},{names.BY}="end"}}'] = total
        for hours in range(0, 25, 2):
            spent = min(total, by_now + (total - by_now) * hours / 18)
            figures[f'{names.HISTORY_SPEND}{{{past},{names.BY}="{hours}"}}'] = spent
    return figures


@contextmanager
def served(figures: dict[str, float]) -> Iterator[str]:
    """HOST:PORT of a page with these figures."""
    body = "".join(f"{series} {value}\n" for series, value in figures.items()).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
