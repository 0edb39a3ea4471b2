"""Polls the services and tells what happened."""

import time
from decimal import Decimal
from typing import Any

from command.stack.bundle import Bundle
from common import signals
from common.fetch import fetch
from demo.view import Picture, View, changes

POLL_SECONDS = 0.5
PLAIN_LINE_EVERY = 10.0
MORE_SECONDS = 20.0  # so long after its end the watch still waits for the restore


class Watcher:
    """What was seen so far, and what is new since."""

    def __init__(self, bundle: Bundle, view: View) -> None:
        self.bundle = bundle
        self.view = view
        self.started = time.monotonic()
        self.levels = ["none"]
        self.config: dict[str, Any] | None = None
        self.alerts: list[str] = []
        self.days: dict[str, Decimal] = {}

    def watch(self, until: float) -> None:
        """Poll until that Unix time and the restore."""
        self.started = time.monotonic()
        next_line = 0.0
        while time.time() < until + (MORE_SECONDS if self.levels[-1] != "none" else 0):
            picture = self.picture()
            self.view.show(picture)
            if picture.seconds >= next_line:
                self.view.tick(picture)
                next_line = picture.seconds + PLAIN_LINE_EVERY
            signals.sleep(POLL_SECONDS)

    def picture(self) -> Picture:
        """What is true now, and what is new since the last picture."""
        status = self.get("exporter", "/api/v1/status")
        level = self.get("receiver", "/state")["level"]
        held = self.get("alertmanager", "/api/v2/alerts")
        firing = sorted({alert["labels"]["alertname"] for alert in held} - {"Watchdog"})
        spend = Decimal(status["spend_usd"])
        day = status["day"]["date"]
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
        news += [f"    {line}" for line in changes(before, config)]
        self.days[day], self.alerts = spend, firing
        return Picture(
            seconds=time.monotonic() - self.started,
            day=day,
            spend_usd=spend,
            limit_usd=Decimal(status["limit_usd"]),
            level=level,
            by_roaster=status["by_roaster"],
            alerts=firing,
            news=news,
        )

    def get(self, service: str, path: str) -> Any:
        """A service's JSON. Raises UserError."""
        return fetch(self.bundle.url(service) + path, timeout=5).decode(Any)

    def summary(self, limit_usd: Decimal, most: str) -> bool:
        """The verdict; whether the level went up to the most and came back on a later day."""
        (first_day, first_spend), *later = self.days.items()
        closed = self.levels[-1] == "none" and most in self.levels and bool(later)
        self.view.say("")
        self.view.say(f"levels: {' -> '.join(self.levels)}")
        off = f"{first_spend / limit_usd - 1:+.2%}"
        self.view.say(f"day {first_day}: ${first_spend} of ${limit_usd} ({off})")
        for day, spend in later:
            self.view.say(f"day {day}: ${spend} so far, the scraper's own config again")
        self.view.say("the loop closed" if closed else "the loop did NOT close")
        return closed
