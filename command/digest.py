"""The daily mail of `llm-budget report --digest`: what a part that is down knows is unknown."""

import argparse
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time
from typing import Any

from command.degrade import held
from command.remote import call, exporter_status
from common.clock import SystemClock, iso8601
from common.errors import UserError
from exporter.budget.calendars import BudgetDay, read_calendars
from exporter.budget.day import BudgetCalendar
from exporter.ledger.backup import ledger_at
from exporter.ledger.report import day_named

LINES = 5  # of the dearest, and 10 of the levels
NOON = 12 * 3600  # seconds of the day after which the forecast is judged
FORECAST = ("budget:llm_forecast_usd:low", "budget:llm_forecast_usd:high")
LIMIT, REJECTED = "budget:llm_limit_usd:today", "sum(increase(llm_ingest_rejected_total[1d]))"
Ask = Callable[[argparse.Namespace, str, str, str], dict[str, Any]]


def digest(arguments: argparse.Namespace, ask: Ask) -> Iterator[str]:
    """Lines of plain text on the day --to, else on yesterday. Raises UserError: it is no day."""
    day, note = _day(arguments)
    yield f"LLM cost of {day.date}, {iso8601(day.start)} to {iso8601(day.end)}"
    spent: list[float] = []

    def spend() -> Iterator[str]:
        found = ask(arguments, f"{day.date}", f"{day.date}", "roaster,field")
        total = found["total"]
        spent.append(float(total["cost_usd"]))
        yield f"Spend: ${total['cost_usd']}, {total['calls']} calls"
        for row in found["rows"][:LINES]:
            yield f"  ${row['cost_usd']}  {row['roaster']} {row['field']}"
        yield from found["notes"]

    def forecast() -> Iterator[str]:
        at = day.start + NOON
        low, high = (_query(arguments, name, at) for name in FORECAST)
        band = f"${low:.2f} to ${high:.2f} at {iso8601(at)}"
        over = spent and SystemClock().now() >= day.end
        judged = ("hit" if low <= spent[0] <= high else "miss") if over else "not known yet"
        yield f"Forecast: {judged} ({band})"

    def money() -> Iterator[str]:
        limit = _query(arguments, LIMIT, day.end - 60)
        share = f", {spent[0] / limit:.1%} of it spent" if spent and limit > 0 else ""
        yield f"Limit: ${limit:.2f}{share}"

    def rejects() -> Iterator[str]:
        yield f"Rejected events: {_query(arguments, REJECTED, day.end):.0f}"

    parts: dict[str, Callable[[], Iterator[str]]] = {
        "Spend": spend,
        "Limit": money,
        "Forecast": forecast,
        "Levels": lambda: _levels(arguments, day),
        "Held now": lambda: _holds(arguments),
        "Rejected events": rejects,
    }
    for name, part in parts.items():
        yield from _told(name, part)
    yield from note


def _told(name: str, part: Callable[[], Iterator[str]]) -> list[str]:
    try:
        return list(part())
    except UserError as error:
        return [f"{name}: unknown ({error})"]
    except (LookupError, TypeError, ValueError, AttributeError):
        return [f"{name}: unknown (the answer is not of this program, or version)"]


def _day(arguments: argparse.Namespace) -> tuple[BudgetDay, list[str]]:
    """The budget day; that of UTC, and a sentence, when nobody tells the calendar."""
    now, asked = SystemClock().now(), arguments.until or "1d"
    note: list[str] = []
    try:
        if arguments.ledger:
            with ledger_at(arguments.ledger) as db:
                calendars = read_calendars(db)
            return calendars.on(day_named(asked, calendars.at(now).date)), []
        today = exporter_status(arguments.exporter).day
        calendar = BudgetCalendar(today.timezone, time.fromisoformat(today.day_starts_at))
        day = day_named(asked, date.fromisoformat(today.date))
    except UserError as error:
        note = [f"The budget's own day is unknown ({error}): this is UTC's."]
        calendar = BudgetCalendar("UTC", time())
        day = day_named(asked, datetime.fromtimestamp(now, UTC).date())
    return BudgetDay(day, calendar.start(day), calendar.end(day)), note


def _query(arguments: argparse.Namespace, query: str, at: float) -> float:
    """What Prometheus knew then. Raises UserError, also when it knew nothing."""
    asked = {"query": query, "time": f"{min(at, SystemClock().now()):.0f}"}
    answer = call("Prometheus server", arguments.prometheus, "/api/v1/query", params=asked)
    if not (found := answer["data"]["result"]):
        raise UserError(f"Prometheus had no {query}")
    return float(found[0]["value"][1])


def _levels(arguments: argparse.Namespace, day: BudgetDay) -> Iterator[str]:
    asked = {"limit": "1000"}
    changes = call("receiver", arguments.receiver, "/api/v1/history", params=asked)["changes"]
    at = [datetime.fromisoformat(change["time"]).timestamp() for change in changes]
    moves = [
        one
        for one, when in zip(changes, at, strict=True)
        if one["from"] != one["level"] and day.start <= when < day.end
    ]
    yield f"Levels: {len(moves)} changes" if moves else "Levels: no change"
    for one in moves[-2 * LINES :]:
        yield f"  {one['time'][:19]}Z {one['from']} -> {one['level']}: {one['why']}"


def _holds(arguments: argparse.Namespace) -> Iterator[str]:
    state = call("receiver", arguments.receiver, "/state")
    yield f"Held now: {' '.join(held(state)) or 'nothing'} Level now: {state['level']}."
