"""A loopback server that keeps what is posted to it, in place of Slack, PagerDuty and the like."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from command.stack.bundle import Bundle
from command.stack.configs import Ports


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
            with suppress(OSError):  # an Alertmanager that is stopped waits for no answer
                self.send_response(400 if self.path in kept.refused else 202)
                self.end_headers()
                self.wfile.write(b"ok")

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        kept.url = f"http://127.0.0.1:{server.server_port}"
        yield kept
        server.shutdown()


@contextmanager
def alertmanager(folder: Path, elsewhere: Posts) -> Iterator[Bundle]:
    """The shipped Alertmanager, at once; its PagerDuty, Slack and webhooks are paths of elsewhere.

    Nobody is the mail server, and a receiver "new" has no route of the test.
    """
    bundle = Bundle(folder, ports=Ports.free())
    bundle.prepare()
    path = folder / "alertmanager.yml"
    text = path.read_text().replace("group_wait: 10s", "group_wait: 0s")
    document = yaml.safe_load(text.replace("group_interval: 1m", "group_interval: 1s"))
    document["route"].update(group_wait="0s", group_interval="1s")
    by_name = {one["name"]: one for one in document["receivers"]}
    by_name["page"]["pagerduty_configs"][0]["url"] = f"{elsewhere.url}/page"
    for name in ("degradation", "watchdog"):
        by_name[name]["webhook_configs"][0]["url"] = f"{elsewhere.url}/{name}"
    document["global"]["smtp_smarthost"] = "127.0.0.1:1"
    document["receivers"] += [{"name": "new", "webhook_configs": [{"url": elsewhere.url}]}]
    document["route"]["routes"].append({"receiver": "new", "matchers": ["a=b"]})
    path.write_text(yaml.safe_dump(document))
    (folder / "secrets" / "slack_webhook_url").write_text(f"{elsewhere.url}/chat")
    (folder / "secrets" / "pagerduty_routing_key").write_text("key")
    bundle.alertmanager.start()
    try:
        bundle.alertmanager.wait_ready()
        yield bundle
    finally:
        bundle.alertmanager.stop()
