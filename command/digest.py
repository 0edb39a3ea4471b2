"""The daily mail of `llm-budget report --digest`: what a part that is down knows is unknown."""

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import time
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from command.degrade import held
from command.remote import call, exporter_status
from common.clock import SystemClock, iso8601
from common.errors import UserError
from exporter.budget.calendars import BudgetDay, read_calendars
from exporter.budget.day import BudgetCalendar
from exporter.ledger.backup import reading
from exporter.ledger.report import day_named

SECONDS = 4.0  # for the exporter's status, and for the others, who are asked at once
NOON = 12 * 3600  # seconds of the day after which the forecast is judged


def _visible(found: object) -> str:
    """Neither a command to a terminal nor a line of its own."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in str(found))


TEMPLATES = Environment(  # noqa: S701  plain text
    loader=FileSystemLoader(Path(__file__).parent / "templates"), undefined=StrictUndefined,
    trim_blocks=True, finalize=_visible,
)  # fmt: skip


def digest(arguments: argparse.Namespace, ask: Callable[..., Any]) -> Iterator[str]:
    """Plain text on the day --to, else on yesterday. Raises UserError: it is no day."""
    now = SystemClock().now()
    day, note = _day(arguments, now)
    times = {"start": day.start, "noon": day.start + NOON, "late": day.end - 60, "end": day.end}
    known = {name: f"{min(at, now):.0f}" for name, at in times.items()}
    query = TEMPLATES.get_template("digest.promql.j2").render(known)
    told: dict[str, Any] = {name: iso8601(at) for name, at in times.items()}
    yield "LLM cost of {0}, {start} to {end}\n".format(day.date, **told)
    with ThreadPoolExecutor() as pool:
        get = partial(pool.submit, partial(call, timeout=SECONDS))
        state = get("receiver", arguments.receiver, "/state")
        params = {"limit": "1000"}
        changes = get("receiver", arguments.receiver, "/api/v1/history", params=params)
        params, url = {"query": query}, arguments.prometheus
        figures = get("Prometheus server", url, "/api/v1/query", params=params)
        days = (f"{day.date}", f"{day.date}")
        books = pool.submit(ask, arguments, *days, "roaster,field", timeout=SECONDS)

        def figure(name: str) -> float:
            found = figures.result()["data"]["result"]
            values = [float(one["value"][1]) for one in found if one["metric"]["figure"] == name]
            if not values or not isfinite(values[0]):
                raise UserError("Prometheus had no number of that time")
            return values[0]

        template = TEMPLATES.get_template("digest.txt.j2")
        told |= {"books": books, "changes": changes, "state": state, "held": held}
        told |= {"over": now >= day.end, "figure": figure}
        told["spent"] = lambda: float(books.result()["total"]["cost_usd"])
        context = template.new_context(told)
        for name, part in template.blocks.items():
            yield _told(name.replace("_", " ").capitalize(), part(context))
    yield note


def _told(name: str, part: Iterator[str]) -> str:
    try:
        return "".join(part)
    except UserError as error:
        return f"{name}: unknown ({_visible(error)})\n"
    except (TemplateError, LookupError, TypeError, ValueError, AttributeError):
        return f"{name}: unknown (the answer is not of this program, or version)\n"


def _day(arguments: argparse.Namespace, now: float) -> tuple[BudgetDay, str]:
    """The budget day; that of UTC, and a sentence, when nobody tells the calendar."""
    calendar, note = BudgetCalendar(), ""
    try:
        if arguments.ledger:
            with reading(arguments.ledger) as db:
                calendar = read_calendars(db).current(now)
        else:
            told = exporter_status(arguments.exporter, timeout=SECONDS).day
            calendar = BudgetCalendar(told.timezone, time.fromisoformat(told.day_starts_at))
    except UserError as error:
        note = f"The budget's own day is unknown ({_visible(error)}): this is UTC's.\n"
    day = day_named(arguments.until or "1d", calendar.day_of(now))
    return BudgetDay(day, calendar.start(day), calendar.end(day)), note
