"""The bundle's ports on the command line: flags, and whether `up` can have them."""

import argparse
from dataclasses import asdict

from command.stack.bundle import Ports
from common.errors import UserError
from common.fetch import FetchError, fetch
from common.http import bind
from common.names import JOB_EXPORTER
from common.ports import port_holder

# What each part answers when it is this bundle's: a path, and words of which one is in the answer.
IDENTITY = {
    "exporter": ("/health", ('"logs":', "the ledger is being read")),
    "receiver": ("/state", ('"override":',)),
    "prometheus": ("/api/v1/status/config", (f"job_name: {JOB_EXPORTER}",)),
    "alertmanager": ("/api/v2/status", ("name: degradation",)),
}
ANSWER_BYTES = 1 << 20
ANSWER_SECONDS = 2.0


def add_flags(command: argparse.ArgumentParser) -> None:
    """--exporter-port and so on."""
    for service, port in asdict(Ports()).items():
        command.add_argument(f"--{service}-port", type=_port, default=port, metavar="PORT")


def from_flags(arguments: argparse.Namespace) -> Ports:
    """What the flags say."""
    return Ports(**{name: getattr(arguments, f"{name}_port") for name in asdict(Ports())})


def state(service: str, port: int) -> str:
    """Free, or held by the bundle's own. Raises UserError when `up` could not have it."""
    try:
        bind("127.0.0.1", port).close()
    except UserError as error:
        if _is_ours(service, port):
            holder = port_holder(port) or "a process"
            return f"{port} is held by {holder}, which answers as this bundle's {service}"
        raise UserError(f"{error}: llm-budget up --{service}-port PORT") from error
    return f"{port} is free"


def _is_ours(service: str, port: int) -> bool:
    path, words = IDENTITY[service]
    url = f"http://127.0.0.1:{port}{path}"
    try:
        answer = fetch(url, timeout=ANSWER_SECONDS, max_bytes=ANSWER_BYTES)
    except FetchError:
        return False
    text = answer.body.decode(errors="replace")
    return any(word in text for word in words)


def _port(text: str) -> int:
    """A TCP port from a flag."""
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 1 to 65535")
    return int(text)
