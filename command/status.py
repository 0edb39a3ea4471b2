"""`llm-budget status`: the runbook's budget check, for people, scripts and monitoring plug-ins."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from itertools import chain
from typing import Any

import msgspec

from command.degrade import held, not_live
from command.effect import effect_of, sentence
from command.flags import RECEIVER, command, flag, json_flag, print_json, print_table
from command.remote import EXPORTER_URL, PROMETHEUS_URL, call, exporter_status
from command.thresholds import thresholds
from common.budget_status import BudgetStatus, by_amount, together
from common.errors import UserError

# The exit codes of monitoring plug-ins; INFO is no reason to wake anyone.
EXIT_CODES = {"OK": 0, "INFO": 0, "WARNING": 1, "CRITICAL": 2, "UNKNOWN": 3}


@command(
    "spend, utilization and remaining budget of today",
    flag(
        "--exporter",
        action="append",
        metavar="URL",
        help=f"repeat for several, which are summed; default: {EXPORTER_URL}",
    ),
    *(RECEIVER, flag("--prometheus", default=PROMETHEUS_URL, metavar="URL"), json_flag()),
)
def status(arguments: argparse.Namespace) -> int:
    """Today's budget. Exit status: 0 OK or INFO, 1 WARNING, 2 CRITICAL, 3 unknown."""
    show = print_json if arguments.json else _print
    try:
        reports = [exporter_status(url) for url in arguments.exporter or [EXPORTER_URL]]
        summary = summarize(reports, thresholds())
    except UserError as error:
        print(f"llm-budget status: {error}", file=sys.stderr)
        show({"status": "UNKNOWN", "error": str(error)})
        return EXIT_CODES["UNKNOWN"]
    show(summary | _degradation(arguments.receiver, arguments.prometheus))
    return EXIT_CODES[summary["status"]]


def summarize(reports: list[BudgetStatus], limits: dict[str, Decimal]) -> dict[str, Any]:
    """One summary of several exporters' status; money as exact decimal strings of USD."""
    budget = together(reports)
    return {
        "status": severity(budget.utilization, limits),
        "utilization": float(budget.utilization),
        "spend_usd": f"{budget.spend_usd:f}",
        "written_off_usd": f"{budget.written_off_usd:f}",
        "granted_usd": f"{budget.granted_usd:f}",
        "limit_usd": f"{budget.limit:f}",
        "remaining_usd": f"{budget.remaining:f}",
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


def _degradation(receiver: str, prometheus: str) -> dict[str, Any]:
    """What the receiver applies, and its effect; who is away is reported, and no reason to fail."""
    found: dict[str, Any] = {"degradation": None, "tunings": [], "effect": {}, "question": ""}
    try:
        state = call("receiver", receiver, "/state")
        state = state if isinstance(state, dict) else {}
        found |= {"degradation": state.get("level"), "ledgers": state.get("ledgers", {})}
        found |= {key: state[key] for key in ("question", "tunings") if key in state}
        found |= {"alerts_ask_for": state.get("alerts_ask_for"), "held": held(state)}
        if found["degradation"] not in (None, "none"):
            found["effect"].update(effect_of(found["degradation"], receiver, prometheus))
    except UserError as error:
        print(f"llm-budget status: {error}", file=sys.stderr)
    except (LookupError, TypeError, ValueError):
        print(f"llm-budget status: no Prometheus at {prometheus}", file=sys.stderr)
    return found


def _balance(amounts: dict[str, str], days_left: float | None, **_: object) -> str:
    named = " and ".join(f"{amount} {currency}" for currency, amount in amounts.items())
    return f"Provider's balance: {named}" + (f", {days_left} usual days" if days_left else "")


def _print(summary: dict[str, Any]) -> None:
    print(f"Budget Status: {summary['status']}")
    if "error" in summary:
        return
    usd = {key: Decimal(value) for key, value in summary.items() if key.endswith("_usd")}
    print(f"Utilization: {summary['utilization']:.1%}")
    print(f"Remaining Budget: ${usd['remaining_usd']:.2f}")
    print(f"Spend: ${usd['spend_usd']:.2f} of ${usd['limit_usd']:.2f}")
    for what in ("granted", "written_off"):
        if amount := usd[f"{what}_usd"]:
            print(f"  ${amount:.2f} {what.replace('_', ' ')} today")
    level = summary["degradation"] or "unknown (no receiver)"
    in_force = ", ".join([level, *summary["tunings"]])
    print(f"Degradation: {in_force}{sentence(summary['effect'])}")
    if summary["unpriced_tokens"]:
        print(f"Tokens without a price: {summary['unpriced_tokens']} (llm-budget reprice)")
    problems = (f"The config was not reloaded: {one}" for one in summary["config_problems"])
    asked = summary.get("alerts_ask_for") or level
    paid = _balance(**summary["balance"]) if summary["balance"] else ""
    why = [paid, asked != level and f"The alerts ask for: {asked}.", *summary.get("held", ())]
    lines = (*why, *not_live(summary), *problems, *summary["warnings"], summary["question"])
    for line in filter(None, lines):
        print(line)
    for by in ("roaster", "field"):
        if spend := summary[f"by_{by}"]:
            caps = {name: f" of {cap}" for name, cap in summary[f"{by}_caps"].items()}
            print_table(
                (by, "spend USD"),
                ((one, f"{Decimal(cost):.4f}{caps.get(one, '')}") for one, cost in spend.items()),
            )
