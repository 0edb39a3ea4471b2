"""Today's budget as /api/v1/status serves it."""

from collections import Counter
from decimal import Decimal

from common.budget_status import BudgetStatus, StatusDay, by_amount
from common.money import picodollars, usd
from exporter.composition import Exporter
from exporter.ledger.books import Series
from exporter.ledger.month import month_of


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
        config=exporter.reload_status,
        logs=exporter.logs.report(),
    )


def _by(label: str, spend: dict[Series, int]) -> dict[str, Decimal]:
    sums: Counter[str] = Counter()
    for series, cost in spend.items():
        sums[getattr(series, label)] += cost
    return by_amount({value: _usd(cost) for value, cost in sums.items()})


def _usd(amount: int) -> Decimal:
    """Pico-dollars in USD, without trailing zeros."""
    return Decimal(usd(amount))
