"""The daily mail of `llm-budget report --digest`: what a part that is down knows is unknown."""

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import time
from math import isfinite
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from command.degrade import held
from command.remote import call, exporter_status
from common import names
from common.clock import SystemClock, iso8601
from common.errors import UserError
from exporter.budget.calendars import BudgetDay, read_calendars
from exporter.budget.day import BudgetCalendar
from exporter.ledger.backup import ledger_at
from exporter.ledger.report import day_named

SECONDS = 4.0  # for the exporter's status, and for the others, who are asked at once
NOON = 12 * 3600  # seconds of the day after which the forecast is judged
TEMPLATES = Environment(  # noqa: S701  plain text
    loader=FileSystemLoader(Path(__file__).parent / "templates"), undefined=StrictUndefined,
    trim_blocks=True, finalize=lambda found: "".join(
        sign if sign.isprintable() else "\ufffd" for sign in str(found)),
)  # fmt: skip


def digest(arguments: argparse.Namespace, ask: Callable[..., Any]) -> Iterator[str]:
    """Plain text on the day --to, else on yesterday. Raises UserError: it is no day."""
    now = SystemClock().now()
    day, note = _day(arguments, now)
    noon, start, end = map(iso8601, (day.start + NOON, day.start, day.end))
    yield f"LLM cost of {day.date}, {start} to {end}\n"
    with ThreadPoolExecutor() as pool:

        def later(who: Callable[..., Any], *asked: Any, **more: Any) -> "Future[Any]":
            return pool.submit(who, *asked, **more, timeout=SECONDS)

        query = later(call, "Prometheus server", arguments.prometheus, "/api/v1/query",
                      params={"query": _query(day, now)})  # fmt: skip
        books = later(ask, arguments, f"{day.date}", f"{day.date}", "roaster,field")
        changes = later(call, "receiver", arguments.receiver, "/api/v1/history",
                        params={"limit": "1000"})  # fmt: skip
        state = later(call, "receiver", arguments.receiver, "/state")

        def figure(name: str) -> float:
            found = query.result()["data"]["result"]
            known = [one["value"][1] for one in found if one["metric"].get("figure") == name]
            if not known or not isfinite(value := float(known[0])):
                raise UserError("Prometheus had no number")
            return value

        template = TEMPLATES.get_template("digest.txt.j2")
        context = template.new_context({
            "start": start, "end": end, "noon": noon, "over": now >= day.end, "books": books,
            "spent": lambda: float(books.result()["total"]["cost_usd"]), "changes": changes,
            "state": state, "held": held, "figure": figure,
        })  # fmt: skip
        for name, part in template.blocks.items():
            yield _told(name.replace("_", " ").capitalize(), part(context))
    yield note


def _told(name: str, part: Iterator[str]) -> str:
    try:
        return "".join(part)
    except UserError as error:
        return f"{name}: unknown ({error})\n"
    except (TemplateError, LookupError, TypeError, ValueError, AttributeError):
        return f"{name}: unknown (the answer is not of this program, or version)\n"


def _day(arguments: argparse.Namespace, now: float) -> tuple[BudgetDay, str]:
    """The budget day; that of UTC, and a sentence, when nobody tells the calendar."""
    calendar, note = BudgetCalendar(), ""
    try:
        if arguments.ledger:
            with ledger_at(arguments.ledger) as db:
                calendar = read_calendars(db).current(now)
        else:
            told = exporter_status(arguments.exporter, timeout=SECONDS).day
            calendar = BudgetCalendar(told.timezone, time.fromisoformat(told.day_starts_at))
    except UserError as error:
        note = f"The budget's own day is unknown ({error}): this is UTC's.\n"
    day = day_named(arguments.until or "1d", calendar.day_of(now))
    return BudgetDay(day, calendar.start(day), calendar.end(day)), note


def _query(day: BudgetDay, now: float) -> str:
    """What Prometheus knew then, in one question."""
    noon, late, end = (f"{min(at, now):.0f}" for at in (day.start + NOON, day.end - 60, day.end))
    figures = {
        "low": f"{names.FORECAST_LOW} @ {noon}", "high": f"{names.FORECAST_HIGH} @ {noon}",
        "limit": f"budget:llm_limit_usd:today @ {late}",
        "rejected": f"sum(increase(llm_ingest_rejected_total[1d] @ {end}))",
    }  # fmt: skip
    each = (
        f'label_replace({query}, "figure", "{name}", "", "")' for name, query in figures.items()
    )
    return " or ".join(each)
