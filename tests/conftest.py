"""What holds for every test."""

# ruff: noqa: E402  the surroundings come first
from tests.support import surroundings

surroundings.settle()

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from command.stack.processes import Child, free_port
from tests.support.examples import FUZZING, examples
from tests.support.exporters import write_config

# A busy machine makes no test fail. Outside make fuzz the examples are the same each time.
settings.register_profile(
    "ours",
    max_examples=examples(100),
    derandomize=not FUZZING,
    print_blob=True,
    **({"database": None} if FUZZING else {}),  # so that the seed tells everything
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ours")


@pytest.fixture(autouse=True)
def known_surroundings() -> Iterator[None]:
    """What one test leaves behind is not there for the next."""
    yield
    surroundings.settle()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """start(*flags, config="", ledger=…, answers="/health") -> an exporter that answers there."""
    children: list[Child] = []

    def run(
        *flags: str, config: str = "", ledger: Path | None = None, answers: str = "/health"
    ) -> Child:
        port = free_port()
        argv = [sys.executable, "-m", "exporter", "--config", str(write_config(tmp_path, config))]
        argv += ["--listen", f"127.0.0.1:{port}", *flags]
        argv += ["--ledger", str(ledger or tmp_path / "ledger.sqlite")]
        child = Child("exporter", argv, tmp_path / "log", f"http://127.0.0.1:{port}{answers}")
        child.start()
        children.append(child)
        child.wait_ready()
        return child

    yield run
    for child in children:
        child.stop()
