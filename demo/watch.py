"""Polls the services and tells what happened: line by line, on a terminal above a bar of now."""

import time
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress

from command.stack.bundle import Bundle
from common import signals
from common.fetch import fetch

POLL_SECONDS = 0.5
PLAIN_LINE_EVERY = 10.0
MORE_SECONDS = 20.0  # so long after its end the watch still waits for the restore


class Watcher:
    """What was seen so far, and what is new since."""

    def __init__(self, bundle: Bundle, console: Console) -> None:
        self.bundle, self.console = bundle, console
        self.started = time.monotonic()
        self.levels = ["none"]
        self.config: dict[str, Any] | None = None
        self.alerts: list[str] = []
        self.days: dict[str, Decimal] = {}
        self.now = ""  # one line
        self.utilization = 0.0

    def watch(self, until: float) -> None:
        """Poll until that Unix time and the restore."""
        self.started = next_line = time.monotonic()
        live = self.console.is_terminal and not self.console.is_dumb_terminal
        columns = (BarColumn(), "{task.description}")
        bar = Progress(*columns, console=self.console, transient=True, disable=not live)
        task = bar.add_task("", total=1.0)
        with bar:
            while time.time() < until + (MORE_SECONDS if self.levels[-1] != "none" else 0):
                for line in self.look():
                    self.say(line if line.startswith(" ") else f"{self.now}  {line}")
                bar.update(task, completed=self.utilization, description=self.now)
                if not live and time.monotonic() >= next_line:
                    self.say(self.now)
                    next_line = time.monotonic() + PLAIN_LINE_EVERY
                signals.sleep(POLL_SECONDS)

    def look(self) -> list[str]:
        status = self.get("exporter", "/api/v1/status")
        level = self.get("receiver", "/state")["level"]
        held = self.get("alertmanager", "/api/v2/alerts")
        firing = sorted({alert["labels"]["alertname"] for alert in held} - {"Watchdog"})
        day, spend = status["day"]["date"], Decimal(status["spend_usd"])
        news = [f"budget day {day} begins"] if self.days and day not in self.days else []
        news += [f"ALERT {name}" for name in firing if name not in self.alerts]
        news += [f"resolved {name}" for name in self.alerts if name not in firing]
        config = self.get("receiver", "/config")
        before, self.config = self.config or config, config
        if level != self.levels[-1]:
            news.append(f"LEVEL {self.levels[-1]} -> {level}")
            self.levels.append(level)
        elif config != before:  # a tuning, for one roaster
            news.append("CONFIG")
        self.days[day], self.alerts = spend, firing
        self.utilization = float(spend / Decimal(status["limit_usd"]))
        seconds = time.monotonic() - self.started
        self.now = f"{seconds:5.1f} s  {self.utilization:6.1%}  ${spend:.4f}  level {level}"
        return news + [f"    {line}" for line in changes(before, config)]

    def get(self, service: str, path: str) -> Any:
        """A service's JSON. Raises UserError."""
        return fetch(self.bundle.url(service) + path, timeout=5).decode(Any)

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def summary(self, limit_usd: Decimal, most: str) -> bool:
        """The verdict; whether the level went up to the most and came back on a later day."""
        (first_day, first_spend), *later = self.days.items()
        closed = self.levels[-1] == "none" and most in self.levels and bool(later)
        self.say(f"\nlevels: {' -> '.join(self.levels)}")
        off = f"{first_spend / limit_usd - 1:+.2%}"
        self.say(f"day {first_day}: ${first_spend} of ${limit_usd} ({off})")
        for day, spend in later:
            self.say(f"day {day}: ${spend} so far, the scraper's own config again")
        self.say("the loop closed" if closed else "the loop did NOT close")
        return closed


def changes(before: dict[str, Any], after: dict[str, Any], path: str = "") -> list[str]:
    """What differs between two configs, as "key: old -> new" lines."""
    lines = []
    for key in before | after:
        name = f"{path}{key}"
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += changes(old, new, f"{name}.")
        elif old != new:
            # A whole section, such as a roaster's override, is shown by its size.
            was, now = (f"{len(it)} keys" if isinstance(it, dict) else it for it in (old, new))
            lines.append(f"{name}: {was} -> {now}")
    return lines
