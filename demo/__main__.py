"""The whole loop on a small budget, live: `make demo`.

Real prometheus and alertmanager, exporter and receiver; a simulated scraper that replays a real
trace and obeys the effective config; a provider that speaks DeepSeek's API. All on loopback, in a
temporary folder; nothing stays.
"""

from common import signals

if __name__ == "__main__":
    signals.end_at_once()  # while the imports below take their time

import argparse
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from rich.console import Console

from alertmanager.receiver.ladder.ladder import parse_ladder
from command.paths import BUDGET, LADDER
from command.stack.binaries import ensure
from command.stack.bundle import Bundle
from command.stack.configs import Ports
from common.errors import UserError
from common.startup import settle
from common.yamlfile import dump, read_document
from demo import processes
from demo.watch import Watcher

LIMIT_USD = Decimal("0.40")
SPEED = 20  # trace seconds a real second: a per-minute limit is visible in three
SECONDS_BEFORE_NEW_DAY = 75  # at least; the budget day can start on whole minutes only
SECONDS_OF_NEW_DAY = 10


def main() -> int:
    """Run the demo; 0 when the loop closed: degraded to the end, then restored on the new day."""
    settle()
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--plain", action="store_true", help="lines only, no bar")
    arguments = parser.parse_args()
    console = Console(force_terminal=False if arguments.plain else None)
    try:
        with signals.noted(), tempfile.TemporaryDirectory(prefix="llm-budget-demo-") as folder:
            ensure()
            return run(Path(folder), console)
    except UserError as error:
        print(f"make demo: {error}", file=sys.stderr)
        return 2
    except signals.Interrupted as interrupted:
        console.print("stopped; nothing is left running")
        return interrupted.status


def run(folder: Path, console: Console) -> int:
    """Start everything, watch until the new day has restored the config."""
    soonest = datetime.now(UTC) + timedelta(seconds=SECONDS_BEFORE_NEW_DAY)
    turn = soonest.replace(second=0, microsecond=0) + timedelta(minutes=1)
    budget = folder / "budget.yml"
    document = read_document(BUDGET)
    document["budget"].update(
        daily_limit_usd=LIMIT_USD, reserve_usd=LIMIT_USD / 5, day_starts_at=f"{turn:%H:%M}"
    )
    budget.write_bytes(dump(document, budget))
    ports, hold = Ports.free(), ("--hold", "5")
    bundle = Bundle(folder, budget, ports=ports, interval="1s", receiver_flags=hold)
    console.print(
        f"A budget of ${LIMIT_USD}; the next budget day starts at {turn:%H:%M} UTC. "
        "Starting Prometheus, Alertmanager, exporter, receiver, provider and scraper …",
        highlight=False,
    )
    levels = parse_ladder(LADDER.read_bytes(), LADDER).names
    watcher = Watcher(bundle, console)
    provider = processes.provider(bundle)
    scraper = processes.scraper(bundle, provider, SPEED)
    try:
        provider.start()
        bundle.start()
        provider.wait_ready()
        scraper.start()
        watcher.watch(until=turn.timestamp() + SECONDS_OF_NEW_DAY)
    finally:
        scraper.stop()
        bundle.stop()
        provider.stop()
    return int(not watcher.summary(LIMIT_USD, most=levels[-1]))


if __name__ == "__main__":
    sys.exit(signals.run(main))
