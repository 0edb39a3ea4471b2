"""The bundle's ports on the command line: flags, and whether `up` can have them."""

import argparse
from dataclasses import asdict

from command.flags import flag
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


def _port(text: str) -> int:
    """A TCP port from a flag."""
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 1 to 65535")
    return int(text)


FLAGS = tuple(
    flag(f"--{service}-port", type=_port, default=port, metavar="PORT")
    for service, port in asdict(Ports()).items()
)


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
    try:
        answer = fetch(f"http://127.0.0.1:{port}{path}", timeout=2.0, max_bytes=1 << 20)
    except FetchError:
        return False
    text = answer.body.decode(errors="replace")
    return any(word in text for word in words)
