"""The simulated provider and scraper as processes beside a bundle."""

import sys

from command.stack.bundle import Bundle
from command.stack.processes import Child, free_port


def provider(bundle: Bundle) -> Child:
    """The provider, on a free port."""
    address = f"127.0.0.1:{free_port()}"
    return _child(bundle, "provider", f"http://{address}/health", f"--listen={address}")


def provider_url(provider: Child) -> str:
    """Its base URL."""
    return provider.ready_url.removesuffix("/health")


def scraper(bundle: Bundle, provider: Child, speed: int) -> Child:
    """The scraper, which buys there, obeys the bundle's receiver and tells the bundle's exporter.

    speed: seconds of the trace in a real second.
    """
    config_url = f"--config-url={bundle.url('receiver')}/config"
    peers = (f"--provider={provider_url(provider)}", f"--exporter={bundle.url('exporter')}")
    return _child(bundle, "scraper", "", *peers, config_url, f"--speed={speed}")


def _child(bundle: Bundle, name: str, ready_url: str, *flags: str) -> Child:
    argv, log = (
        [sys.executable, "-m", f"demo.{name}", *flags],
        bundle.folder / "logs" / f"{name}.log",
    )
    return Child(name, argv, log, ready_url, bundle.environment)
