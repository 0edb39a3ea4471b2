"""/api/v1/status: the budget day in exact decimal strings of USD."""

from typing import Any

from common.clock import Clock
from common.money import picodollars, usd
from exporter.config import Config
from exporter.ledger.books import Adjustments
from exporter.ledger.ledger import Ledger


def status(config: Config, ledger: Ledger, clock: Clock) -> dict[str, Any]:
    """Today's spend before write-offs, the limit before grants, and both by name."""
    today = ledger.today()
    calendar = ledger.calendars.current(clock.now())
    books = ledger.books
    with books.lock:
        spend = books.spend_of(today.date)
        adjusted = books.adjustments.get(today.date, Adjustments())
        requests = sum(total.requests for total in books.totals.values())
        unpriced = sum(books.pending_tokens.values())
    total = sum(spend.values())
    limit = picodollars(config.budget.daily_limit_usd)
    return {
        "ledger": books.ledger_id,
        "writable": books.writable,
        "now": clock.now(),
        "day": {
            "date": today.date.isoformat(),
            "start": today.start,
            "end": today.end,
            "timezone": calendar.timezone,
            "day_starts_at": calendar.day_starts_at.isoformat("minutes"),
        },
        "spend_usd": usd(total),
        "written_off_usd": usd(adjusted.written_off),
        "granted_usd": usd(adjusted.granted),
        "limit_usd": usd(limit),
        "reserve_usd": usd(picodollars(config.budget.reserve_usd)),
        "utilization": (total - adjusted.written_off) / (limit + adjusted.granted),
        "requests": requests,
        "by_roaster": _by(spend, 0),
        "by_field": _by(spend, 1),
        "unpriced_tokens": unpriced,
    }


def _by(spend: dict[tuple[str, str, str], int], position: int) -> dict[str, str]:
    """Today's spend by one label, the dearest first."""
    sums: dict[str, int] = {}
    for series, cost in spend.items():
        sums[series[position]] = sums.get(series[position], 0) + cost
    ordered = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return {name: usd(cost) for name, cost in ordered}
