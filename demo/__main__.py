"""The whole loop on a small budget, live: `make demo`.

Real prometheus and alertmanager, exporter and receiver; a simulated scraper that replays a real
trace and obeys the effective config; a provider that speaks DeepSeek's API. All on loopback, in a
temporary folder; nothing stays.
"""

from common import signals

if __name__ == "__main__":
    signals.end_at_once()  # while the imports below take their time

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console

from command.paths import BUDGET
from command.stack.binaries import ensure
from command.stack.bundle import Bundle, BundleSettings, Ports
from command.stack.processes import Child, free_port
from command.thresholds import thresholds
from common.errors import UserError
from common.fetch import fetch
from common.startup import settle
from common.yamlfile import dump, read_document
from demo.view import Picture, View, changes

LIMIT_USD = Decimal("0.40")
SPEED = 20  # trace seconds a real second: a per-minute limit is visible in three
SECONDS_BEFORE_NEW_DAY = 75  # at least; the budget day can start on whole minutes only
SECONDS_OF_NEW_DAY = 10
POLL_SECONDS = 0.5
PLAIN_LINE_EVERY = 10.0


def main() -> int:
    """Run the demo; 0 when the loop closed: degraded to fallback, then restored on the new day."""
    settle()
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--plain", action="store_true", help="lines instead of a live picture")
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
    turn = next_whole_minute(time.time(), SECONDS_BEFORE_NEW_DAY)
    settings = BundleSettings(
        folder=folder,
        budget=write_budget(folder / "budget.yml", turn),
        ports=Ports.free(),
        interval="1s",
        receiver_flags=("--hold", "5"),
    )
    console.print(
        f"A budget of ${LIMIT_USD}; the next budget day starts at {turn:%H:%M} UTC. "
        "Starting Prometheus, Alertmanager, exporter, receiver, provider and scraper …",
        highlight=False,
    )
    bundle = Bundle(settings)
    view = View(console, thresholds())
    watcher = Watcher(bundle, view)
    with running(bundle), view:
        watcher.watch(until=turn.timestamp() + SECONDS_OF_NEW_DAY)
    return watcher.summary()


def next_whole_minute(now: float, at_least: float) -> datetime:
    """The first whole minute that is at_least seconds away."""
    soonest = datetime.fromtimestamp(now + at_least, UTC)
    return soonest.replace(second=0, microsecond=0) + timedelta(minutes=1)


def write_budget(path: Path, turn: datetime) -> Path:
    """The shipped budget.yml with the demo's limit and start of day."""
    document = read_document(BUDGET)
    document["budget"].update(
        daily_limit_usd=LIMIT_USD,
        reserve_usd=LIMIT_USD / 5,
        day_starts_at=f"{turn:%H:%M}",
    )
    path.write_bytes(dump(document, path))
    return path


@contextlib.contextmanager
def running(bundle: Bundle) -> Iterator[None]:
    """The bundle, the provider and the scraper, ended in every case."""
    bundle.prepare()
    provider = child(bundle, "provider", free_port(), [])
    scraper_arguments = [
        "--exporter", bundle.url("exporter"),
        "--config-url", f"{bundle.url('receiver')}/config",
        "--token-file", str(bundle.token_file("ingest")),
        "--speed", str(SPEED),
        "--repeat",
    ]  # fmt: skip
    try:
        provider.start()
        bundle.start()
        provider.wait_ready()
        provider_url = provider.ready_url.removesuffix("/health")
        scraper = child(bundle, "scraper", None, ["--provider", provider_url, *scraper_arguments])
        scraper.start()
        try:
            yield
        finally:
            scraper.stop()
    finally:
        bundle.stop()
        provider.stop()


def child(bundle: Bundle, name: str, port: int | None, arguments: list[str]) -> Child:
    """A process of demo, listening on port where it serves."""
    argv = [sys.executable, "-m", f"demo.{name}", *arguments]
    if port is not None:
        argv += ["--listen", f"127.0.0.1:{port}"]
    log = bundle.folder / "logs" / f"{name}.log"
    return Child(name, argv, log, f"http://127.0.0.1:{port}/health")


class Watcher:
    """Polls the services and tells what happened."""

    def __init__(self, bundle: Bundle, view: View) -> None:
        self.bundle = bundle
        self.view = view
        self.started = 0.0
        self.level = "none"
        self.levels_seen = ["none"]
        self.config: dict[str, Any] | None = None
        self.alerts: list[str] = []
        self.days: dict[str, Decimal] = {}
        self.spends: list[tuple[float, Decimal]] = []

    def watch(self, until: float) -> None:
        """Poll until that Unix time and the restore."""
        self.started = time.monotonic()
        next_line = 0.0
        while time.time() < until or (self.level != "none" and time.time() < until + 20):
            picture = self.picture()
            self.view.show(picture)
            if picture.seconds >= next_line:
                self.view.tick(picture)
                next_line = picture.seconds + PLAIN_LINE_EVERY
            signals.sleep(POLL_SECONDS)

    def picture(self) -> Picture:
        """What is true now, and what is new since the last picture."""
        status = self.get("exporter", "/api/v1/status")
        state = self.get("receiver", "/state")
        firing = self.firing()
        spend = Decimal(status["spend_usd"])
        day = status["day"]["date"]
        news = [f"budget day {day} begins"] if self.days and day not in self.days else []
        self.days[day] = spend
        seconds = time.monotonic() - self.started
        news += self.alert_news(firing) + self.level_news(state["level"])
        return Picture(
            seconds=seconds,
            day=day,
            spend_usd=spend,
            limit_usd=Decimal(status["limit_usd"]),
            level=self.level,
            usd_per_second=self.rate(seconds, spend),
            by_roaster=status["by_roaster"],
            alerts=firing,
            news=news,
        )

    def get(self, service: str, path: str) -> Any:
        return fetch(self.bundle.url(service) + path, timeout=5).decode(dict[str, Any])

    def firing(self) -> list[str]:
        """Names of the alerts that Alertmanager holds, but for the dead man's switch."""
        alerts = self.get("alertmanager", "/api/v2/alerts")
        return sorted({alert["labels"]["alertname"] for alert in alerts} - {"Watchdog"})

    def alert_news(self, firing: list[str]) -> list[str]:
        news = [f"ALERT {name}" for name in firing if name not in self.alerts]
        news += [f"resolved {name}" for name in self.alerts if name not in firing]
        self.alerts = firing
        return news

    def level_news(self, level: str) -> list[str]:
        config = self.get("receiver", "/config")
        before, self.config = self.config or config, config
        news = []
        if level != self.level:
            news.append(f"LEVEL {self.level} -> {level}")
            self.level = level
            self.levels_seen.append(level)
        elif config != before:  # a tuning, for one roaster
            news.append("CONFIG")
        return news + [f"    {line}" for line in changes(before, config)]

    def rate(self, seconds: float, spend: Decimal) -> float:
        """USD per second over the last ten seconds; 0 after the day turned."""
        if self.spends and spend < self.spends[-1][1]:
            self.spends.clear()
        self.spends = [(at, was) for at, was in self.spends if at > seconds - 10] + [
            (seconds, spend)
        ]
        (start, first), (end, last) = self.spends[0], self.spends[-1]
        return float(last - first) / (end - start) if end > start else 0.0

    def summary(self) -> int:
        """The last words; 0 when everything came back, else 1."""
        first_day, *later = self.days.items()
        overshoot = first_day[1] / LIMIT_USD - 1
        restored = self.level == "none" and "fallback" in self.levels_seen and bool(later)
        self.view.say("")
        self.view.say(f"levels: {' -> '.join(self.levels_seen)}")
        self.view.say(f"day {first_day[0]}: ${first_day[1]} of ${LIMIT_USD} ({overshoot:+.2%})")
        for day, spend in later:
            self.view.say(f"day {day}: ${spend} so far, the scraper's own config again")
        self.view.say("the loop closed" if restored else "the loop did NOT close")
        return 0 if restored else 1


if __name__ == "__main__":
    sys.exit(signals.run(main))
