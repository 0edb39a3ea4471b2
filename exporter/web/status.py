"""Today's budget as /api/v1/status serves it, and in one line for the log."""

from collections import Counter
from decimal import Decimal
from typing import Any

from common.budget_status import BudgetStatus, StatusDay, by_amount
from common.errors import UserError
from common.money import picodollars, usd
from exporter.composition import Exporter
from exporter.ledger.balances import MILLIONTHS, USD
from exporter.ledger.books import Series
from exporter.ledger.month import month_of
from exporter.metrics.history import past_days


def budget_status(exporter: Exporter) -> BudgetStatus:
    """The exporter's budget day, its figures from one moment of the books."""
    now, ledger, budget = exporter.clock.now(), exporter.ledger, exporter.config.budget
    today, books = ledger.today(), ledger.books
    with books.lock:
        spend, adjusted = books.spend_of(today.date), books.adjusted_on(today.date)
        requests = sum(total.requests for total in books.totals.values())
        epoch, unpriced = books.epoch, sum(books.pending_tokens.values())
        month = month_of(budget, books, ledger.calendars, today)
    own = adjusted.by_roaster
    caps = {one: cap + _usd(own.get(one, 0)) for one, cap in budget.roasters.items()}
    calendar = ledger.calendars.current(now)
    starts = calendar.day_starts_at.isoformat("minutes")
    return BudgetStatus(
        ledger=books.ledger_id,
        writable=books.writable,
        epoch=epoch,
        now=now,
        day=StatusDay(today.date.isoformat(), today.start, today.end, calendar.timezone, starts),
        spend_usd=_usd(sum(spend.values())),
        written_off_usd=_usd(adjusted.written_off),
        granted_usd=_usd(adjusted.granted),
        limit_usd=_usd(picodollars(budget.daily_limit_usd)),
        month=month,
        reserve_usd=_usd(picodollars(budget.reserve_usd)),
        roaster_limits_usd=by_amount(caps),
        requests=requests,
        by_roaster=_by("roaster", spend),
        by_field=_by("field", spend),
        field_limits_usd=budget.fields,
        warnings=exporter.warnings(),
        unpriced_tokens=unpriced,
        balance=_balance(exporter, now),
        config=exporter.reload_status,
        logs=exporter.logs.report(),
    )


def spend_line(exporter: Exporter) -> str:
    """Today's cost in USD, written off or not, utilization (1 is the limit) and tokens: logfmt."""
    status, today = budget_status(exporter), exporter.ledger.today().date
    return (
        f"cost_usd={status.spend_usd:f} budget_utilization={status.utilization:.4f} "
        f"tokens={exporter.ledger.books.tokens_of(today)} unpriced_tokens={status.unpriced_tokens}"
    )


def _balance(exporter: Exporter, now: float) -> dict[str, Any] | None:
    """As it was last polled, in Unix seconds; None: unknown. The usual day: the past days' mean."""
    ledger, provider = exporter.ledger, exporter.config.provider
    with ledger.books.lock:
        known = ledger.books.balances.values()
        past = past_days(ledger.books, ledger.calendars, ledger.calendars.at(now), now)
        costs = [spend["end"] for _, _, spend in past]
    if not known or not provider:
        return None
    polled, usual = max(one.until for one in known), sum(costs) // len(costs) if costs else None
    held = [one for one in known if one.until == polled and (one.total or one.currency == USD)]
    try:
        total = sum(one.in_usd(provider.usd_per_unit).total for one in held)
    except UserError:
        total = None
    return {
        "amounts": {one.currency: Decimal(one.total) / MILLIONTHS for one in held},
        "polled": polled,
        "usd": None if total is None else _usd(total),
        "usual_day_usd": None if usual is None else _usd(usual),
        "days_left": round(max(total, 0) / usual, 1) if total is not None and usual else None,
    }


def _by(label: str, spend: dict[Series, int]) -> dict[str, Decimal]:
    sums: Counter[str] = Counter()
    for series, cost in spend.items():
        sums[getattr(series, label)] += cost
    return by_amount({value: _usd(cost) for value, cost in sums.items()})


def _usd(amount: int) -> Decimal:
    """Pico-dollars in USD, without trailing zeros."""
    return Decimal(usd(amount))
