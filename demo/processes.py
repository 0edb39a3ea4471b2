"""The simulated provider and scraper as processes beside a bundle."""

import sys

from command.stack.bundle import Bundle
from command.stack.processes import Child, free_port


def provider(bundle: Bundle) -> Child:
    """The provider, on a free port."""
    address = f"127.0.0.1:{free_port()}"
    return _child(bundle, "provider", f"http://{address}/health", "--listen", address)


def provider_url(provider: Child) -> str:
    """Its base URL."""
    return provider.ready_url.removesuffix("/health")


def scraper(bundle: Bundle, provider: Child, speed: int) -> Child:
    """The scraper, which buys there, obeys the bundle's receiver and tells the bundle's exporter.

    speed: seconds of the trace in a real second.
    """
    flags = {
        "provider": provider_url(provider),
        "exporter": bundle.url("exporter"),
        "config-url": f"{bundle.url('receiver')}/config",
        "token-file": bundle.token_file("ingest"),
        "speed": speed,
    }
    given = [f"--{name}={value}" for name, value in flags.items()]
    return _child(bundle, "scraper", "", *given, "--repeat")


def _child(bundle: Bundle, name: str, ready_url: str, *flags: str) -> Child:
    argv = [sys.executable, "-m", f"demo.{name}", *flags]
    return Child(name, argv, bundle.folder / "logs" / f"{name}.log", ready_url)
