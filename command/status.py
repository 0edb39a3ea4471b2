"""`llm-budget status`: the runbook's budget check, for people, scripts and monitoring plug-ins."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import chain
from math import isfinite
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from rich.text import Text

from command.degrade import held, not_live, overridden
from command.effect import effect_of, sentence
from command.flags import (
    PROMETHEUS,
    RECEIVER,
    command,
    flag,
    json_flag,
    print_json,
    print_lines,
    print_table,
    service,
)
from command.remote import call, exporter_status
from command.thresholds import thresholds
from common import names
from common.budget_status import (
    SHOWN_UTILIZATION,
    BudgetStatus,
    StatusDay,
    by_amount,
    together,
)
from common.errors import UserError
from common.money import shown

TOP = 10  # roasters and fields that are shown without --all
COLOURS = {"OK": "green", "INFO": "cyan", "WARNING": "yellow", "CRITICAL": "bold red"}
FORECAST = {
    names.FORECAST: "usd", names.FORECAST_LOW: "low_usd", names.FORECAST_HIGH: "high_usd",
    names.RULES_DAY: "day",
}  # fmt: skip
# The exit codes of monitoring plug-ins; INFO is no reason to wake anyone.
EXIT_CODES = {"OK": 0, "INFO": 0, "WARNING": 1, "CRITICAL": 2, "UNKNOWN": 3}


@command(
    "spend, utilization and remaining budget of today",
    service("exporter", action="append", help="repeat for several, which are summed"),
    *(RECEIVER, PROMETHEUS, json_flag()),
    flag("--all", action="store_true", help=f"all roasters and fields, not the {TOP} dearest"),
)
def status(arguments: argparse.Namespace) -> int:
    """Today's budget. Exit status: 0 OK or INFO, 1 WARNING, 2 CRITICAL, 3 unknown."""
    show = print_json if arguments.json else partial(_print, everything=arguments.all)
    urls = arguments.exporter
    try:
        reports = [exporter_status(url) for url in ([urls] if isinstance(urls, str) else urls)]
        summary = summarize(reports, thresholds())
    except UserError as error:
        print(f"llm-budget status: {error}", file=sys.stderr)
        show({"status": "UNKNOWN", "error": str(error)})
        return EXIT_CODES["UNKNOWN"]
    away: list[str] = []  # who is, in sentences; no reason to fail
    summary["forecast"] = _forecast(arguments.prometheus, reports[0].day, away)
    summary |= _degradation(arguments.receiver, arguments.prometheus, away)
    for said in dict.fromkeys(away):
        print(f"llm-budget status: {said}", file=sys.stderr)
    show(summary)
    return EXIT_CODES[summary["status"]]


def summarize(reports: list[BudgetStatus], limits: dict[str, Decimal]) -> dict[str, Any]:
    """One summary of several exporters' status; money as exact decimal strings of USD."""
    budget = together(reports)
    return {
        "status": severity(budget.utilization, limits),
        "utilization": float(min(budget.utilization, SHOWN_UTILIZATION)),
        "spend_usd": f"{budget.spend_usd:f}",
        "written_off_usd": f"{budget.written_off_usd:f}",
        "granted_usd": f"{budget.granted_usd:f}",
        "limit_usd": f"{budget.limit:f}",
        "net_spend_usd": f"{budget.net_spend:f}",
        "remaining_usd": f"{budget.remaining:f}",
        "month": budget.month and budget.month.document(budget.spend_usd),
        "month_text": budget.month.sentence(budget.spend_usd) if budget.month else "",
        "day": msgspec.to_builtins(reports[0].day),
        "by_roaster": _merge(report.by_roaster for report in reports),
        "by_field": _merge(report.by_field for report in reports),
        "roaster_caps": _highest(report.roaster_limits_usd for report in reports),
        "field_caps": _highest(report.field_limits_usd for report in reports),
        "balance": next((one.balance for one in reports if one.balance), None),
        "unpriced_tokens": sum(report.unpriced_tokens for report in reports),
        "warnings": sorted(set.intersection(*(set(report.warnings) for report in reports))),
        "config_problems": [report.config.problem for report in reports if report.config.problem],
    }


def severity(utilization: Decimal, limits: dict[str, Decimal]) -> str:
    """The runbook's word for a utilization: above a threshold counts, at the limit counts too."""
    if utilization > limits["critical"] or utilization >= limits["exhausted"]:
        return "CRITICAL"
    if utilization > limits["warning"]:
        return "WARNING"
    return "INFO" if utilization > limits["half"] else "OK"


def _merge(spends: Iterable[dict[str, Decimal]]) -> dict[str, str]:
    merged: dict[str, Decimal] = defaultdict(Decimal)
    for name, amount in chain.from_iterable(spend.items() for spend in spends):
        merged[name] += amount
    return {name: f"{amount:f}" for name, amount in by_amount(merged).items()}


def _highest(caps: Iterable[dict[str, Decimal]]) -> dict[str, str]:
    """The exporters have the same caps, but a grant for a roaster is in one ledger only."""
    highest: dict[str, Decimal] = {}
    for name, amount in chain.from_iterable(one.items() for one in caps):
        highest[name] = max(amount, highest.get(name, amount))
    return {name: f"{amount:f}" for name, amount in highest.items()}


def _degradation(receiver: str, prometheus: str, away: list[str]) -> dict[str, Any]:
    """What the receiver applies, and its effect."""
    found: dict[str, Any] = {"degradation": None, "tunings": [], "effect": {}, "question": ""}
    try:
        state = call("receiver", receiver, "/state")
        state = state if isinstance(state, dict) else {}
        found |= {"degradation": state.get("level"), "ledgers": state.get("ledgers", {})}
        found |= {key: state[key] for key in ("question", "tunings") if key in state}
        found |= {"alerts_ask_for": state.get("alerts_ask_for"), "held": held(state)}
        found["overridden"] = overridden(state)
        if found["degradation"] not in (None, "none"):
            found["effect"].update(effect_of(found["degradation"], receiver, prometheus))
    except UserError as error:
        away.append(str(error))
    except (LookupError, TypeError, ValueError):
        away.append(f"no Prometheus at {prometheus}")
    return found


def _forecast(prometheus: str, day: StatusDay, away: list[str]) -> dict[str, float]:
    """What the day is expected to cost, and when the money runs out; {}: nothing is told."""
    query = f'{{__name__=~"{"|".join((*FORECAST, names.EXHAUSTION))}"}}'
    found: dict[str, float] = {}
    try:
        answer = call("Prometheus server", prometheus, "/api/v1/query", params={"query": query})
        for sample in answer["data"]["result"]:
            metric = sample["metric"]
            key = FORECAST.get(metric["__name__"]) or f"{metric['case']}_exhaustion"
            found[key] = float(sample["value"][1])
    except UserError as error:
        away.append(str(error))
        return {}
    except (LookupError, TypeError, ValueError):
        away.append(f"no Prometheus at {prometheus}")
        return {}
    known = found.pop("day", None) == day.start and all(map(isfinite, found.values()))
    return found if known else {}


def _foretold(forecast: dict[str, float], zone: str) -> str:
    """For people; times in the budget's zone."""
    if "usd" not in forecast:
        return "Forecast: unknown"
    band = [forecast[key] for key in ("low_usd", "high_usd") if key in forecast]
    said = " to ".join(_money(one) for one in band)
    text = f"Forecast: {_money(forecast['usd'])} by the day's end" + f" ({said})" * bool(said)
    if at := forecast.get("expected_exhaustion"):
        text += f"; runs out at {datetime.fromtimestamp(at, ZoneInfo(zone)):%H:%M %Z}"
    return text


def _money(amount: float | str | Decimal) -> str:
    return shown(round(Decimal(amount), 6))


def _balance(amounts: dict[str, str], days_left: float | None, **_: object) -> str:
    named = " and ".join(f"{amount} {currency}" for currency, amount in amounts.items())
    return f"Provider's balance: {named}" + (
        "" if days_left is None else f", {days_left} usual days"
    )


def _print(summary: dict[str, Any], *, everything: bool) -> None:
    word = summary["status"]
    print_lines(Text.assemble("Budget Status: ", (word, COLOURS.get(word, "magenta"))))
    if "error" not in summary:
        print_lines(*_lines(summary))
        for by in ("roaster", "field"):
            _print_spend(by, summary, len(summary[f"by_{by}"]) if everything else TOP)


def _lines(summary: dict[str, Any]) -> Iterator[str | Text]:
    usd = {key: _money(value) for key, value in summary.items() if key.endswith("_usd")}
    off = summary["written_off_usd"] != "0"
    net = f" gross, {usd['written_off_usd']} written off: {usd['net_spend_usd']} net" * off
    yield f"Utilization: {summary['utilization']:.1%}"
    yield f"Remaining Budget: {usd['remaining_usd']}"
    yield f"Spend: {usd['spend_usd']}{net} of {usd['limit_usd']}"
    if summary["granted_usd"] != "0":
        yield f"  {usd['granted_usd']} of the limit was granted today"
    yield _foretold(summary["forecast"], summary["day"]["timezone"])
    if summary["month_text"]:
        yield summary["month_text"]
    level = summary["degradation"] or "unknown (no receiver)"
    calm = level == "none" and not summary["tunings"]
    tunings, more = summary["tunings"][:TOP], len(summary["tunings"]) - TOP
    in_force = ", ".join([level, *tunings, *[f"and {more} more tunings"] * (more > 0)])
    yield Text.assemble(
        "Degradation: ", (in_force, "green" if calm else "yellow"), sentence(summary["effect"])
    )
    asked = summary.get("alerts_ask_for") or level
    if asked != level:
        yield f"The alerts ask for: {asked}."
    for key in ("overridden", "held"):
        yield from summary.get(key, ())
    yield from not_live(summary)
    if summary["balance"]:
        yield _balance(**summary["balance"])
    if summary["unpriced_tokens"]:
        yield f"Tokens without a price: {summary['unpriced_tokens']} (llm-budget reprice)"
    yield from (f"The config was not reloaded: {one}" for one in summary["config_problems"])
    yield from filter(None, [*summary["warnings"], summary["question"]])


def _print_spend(by: str, summary: dict[str, Any], most: int) -> None:
    """The dearest, and the sum of the others."""
    caps = {name: f" of {cap}" for name, cap in summary[f"{by}_caps"].items()}
    rows = [(one, Decimal(cost)) for one, cost in summary[f"by_{by}"].items()]
    if not rows:
        return
    shown_rows = ((one, f"{cost:.4f}{caps.get(one, '')}") for one, cost in rows[:most])
    print_table((by, "spend USD"), shown_rows)
    if rest := rows[most:]:
        total = _money(sum(cost for _, cost in rest))
        print_lines(f"and {len(rest)} more, {total} in all (--all)")
