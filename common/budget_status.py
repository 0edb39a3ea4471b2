"""Today's budget: the document that an exporter serves at /api/v1/status, and its arithmetic.

rules/budget.yml computes the same from metrics; tests/rules/test_budget_status.py compares them.
"""

from collections.abc import Sequence
from decimal import Decimal
from itertools import chain
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import asdict

from common.errors import UserError
from common.money import picodollars, usd

_TINY = Decimal("1e-30")  # USD, far below the ledger's unit; as in rules/budget.yml
SHOWN_UTILIZATION = Decimal(1000)  # 100,000 %: what is spent of a limit of nothing has no share
MonthDays = Annotated[int, Meta(ge=1, le=31)]
LogState = Literal["ok", "missing", "problem"]


class _Amounts(Struct, frozen=True, kw_only=True):
    """Money in exact USD. Raises ValueError for what the ledger's unit cannot hold."""

    def __post_init__(self) -> None:
        values = asdict(self).values()
        tables = [value.values() for value in values if isinstance(value, dict)]
        try:
            for amount in chain(values, *tables):
                if isinstance(amount, Decimal):
                    picodollars(amount)
        except UserError as error:  # msgspec makes a ValidationError of a ValueError
            raise ValueError(str(error)) from error

    def lowest(self) -> Decimal:
        """The smallest of the amounts."""
        values = asdict(self).values()
        tables = [value.values() for value in values if isinstance(value, dict)]
        return min(value for value in chain(values, *tables) if isinstance(value, Decimal))


class MonthFigures(_Amounts, frozen=True, kw_only=True):
    """The month's budget of one ledger, or of several, as of the start of a budget day."""

    month: str  # such as 2026-11
    limit_usd: Decimal  # of budget.yml, for a whole month
    days: MonthDays
    seen_days: MonthDays  # for so many of them the limit counts: from the ledger's first day on
    spent_usd: Decimal  # in the month before the budget day, the opening balance included
    opening_usd: Decimal | None = None  # what a person put in as spent elsewhere
    carried_usd: dict[str, Decimal] = {}  # by ledger that is gone: what was handed over of it
    days_left: MonthDays  # budget days to the month's end, today included
    parts: MonthDays  # into so many parts what is left is divided: days_left, or 1

    def document(self, today: Decimal) -> dict[str, Any]:
        """As JSON has it, with spend_usd, all of the month's. today: the day's spend in USD."""
        return {**plain(self), "spend_usd": f"{self.before + today:f}"}

    def sentence(self, today: Decimal) -> str:
        """For people. today: the day's spend in USD."""
        part = f"; it counts from day {self.days - self.seen_days + 1} on"
        return (
            f"Month {self.month}: ${self.before + today:.2f} of ${self.counted:.2f}"
            f"{part if self.seen_days < self.days else ''}; days left, with today: {self.days_left}"
        )

    @property
    def before(self) -> Decimal:
        """Spent before the budget day, by ledgers that are gone as well."""
        return self.spent_usd + sum(self.carried_usd.values())

    @property
    def counted(self) -> Decimal:
        """The limit, of the part of the month that counts, for people."""
        return self.limit_usd * self.seen_days / self.days

    @property
    def left(self) -> Decimal:
        """What the month leaves for today, at least 0, to the nearest nano-dollar."""
        whole = picodollars(self.limit_usd) * self.seen_days - picodollars(self.before) * self.days
        size = 1000 * self.days * self.parts  # of a nano-dollar
        return Decimal(usd(1000 * ((max(0, whole) + size // 2) // size)))


class BudgetFigures(_Amounts, frozen=True, kw_only=True):
    """The day's money of one ledger, or of several under one budget, in exact USD."""

    spend_usd: Decimal
    written_off_usd: Decimal
    granted_usd: Decimal
    limit_usd: Decimal  # of budget.yml; grants come on top
    month: MonthFigures | None = None

    @property
    def limit(self) -> Decimal:
        """The day's limit: no more than the month leaves, grants included."""
        limit = min(self.limit_usd, self.month.left) if self.month else self.limit_usd
        return limit + self.granted_usd

    @property
    def net_spend(self) -> Decimal:
        """What counts against the limit."""
        return self.spend_usd - self.written_off_usd

    @property
    def remaining(self) -> Decimal:
        return self.limit - self.net_spend

    @property
    def utilization(self) -> Decimal:
        """The net spend as a share of the limit; of a limit of nothing, nothing is all of it."""
        return (self.net_spend + _TINY) / max(self.limit, _TINY)

    @property
    def exhausted(self) -> bool:
        return self.net_spend >= self.limit


def together(figures: Sequence[BudgetFigures]) -> BudgetFigures:
    """Several ledgers under one budget: amounts add up, the limits are the smallest of theirs."""
    months = [one.month for one in figures if one.month]
    live = {getattr(one, "ledger", "") for one in figures}
    return BudgetFigures(
        spend_usd=Decimal(sum(one.spend_usd for one in figures)),
        written_off_usd=Decimal(sum(one.written_off_usd for one in figures)),
        granted_usd=Decimal(sum(one.granted_usd for one in figures)),
        limit_usd=min(one.limit_usd for one in figures),
        month=_months(months, live) if months else None,
    )


def _months(given: Sequence[MonthFigures], live: set[str]) -> MonthFigures:
    """Of the earliest month that a ledger is in. live: ledgers that count for themselves."""
    months = [one for one in given if one.month == min(each.month for each in given)]
    largest = max(months, key=lambda one: one.seen_days)
    told = [item for one in months for item in one.carried_usd.items() if item[0] not in live]
    carried = {name: max(usd for one, usd in told if one == name) for name, _ in told}
    return msgspec.structs.replace(
        largest,
        limit_usd=min(one.limit_usd for one in months),
        spent_usd=Decimal(sum(one.spent_usd for one in months)),
        carried_usd=carried,
        days_left=max(one.days_left for one in months),
        parts=max(one.parts for one in months),
    )


class StatusDay(Struct, frozen=True):
    """The budget day with its bounds in Unix seconds, and the calendar that it follows."""

    date: str
    start: int
    end: int
    timezone: str
    day_starts_at: str


class ReloadStatus(Struct, frozen=True):
    """When budget.yml was loaded, and why a later reload kept that config."""

    loaded: str
    problem: str | None


class LogStatus(Struct, frozen=True):
    """A followed log; problem and last_refusal are sentences, or empty."""

    path: str
    state: LogState
    problem: str = ""
    last_refusal: str = ""
    lag_bytes: int = 0


class BudgetStatus(BudgetFigures, frozen=True, kw_only=True):
    """The whole document."""

    ledger: str
    writable: bool
    now: float
    day: StatusDay
    reserve_usd: Decimal
    requests: int
    by_roaster: dict[str, Decimal]  # today's spend, the dearest first
    by_field: dict[str, Decimal]
    unpriced_tokens: int
    config: ReloadStatus
    logs: list[LogStatus]
    epoch: int = 0  # the number of the ledger's newest grant, reset or revoke
    roaster_limits_usd: dict[str, Decimal] = {}  # today's caps of roasters, grants included
    field_limits_usd: dict[str, Decimal] = {}
    balance: dict[str, Any] | None = None  # the provider's; docs/api.json has its keys
    warnings: list[str] = []  # caps of what the ledger has not seen, in sentences

    def document(self) -> dict[str, Any]:
        """As JSON has it: amounts as decimal strings, and for those who read it what they come to.

        limit_today_usd: with the month's and the grants. utilization: at most SHOWN_UTILIZATION.
        """
        shown = float(min(self.utilization, SHOWN_UTILIZATION))
        said = self.month.sentence(self.spend_usd) if self.month else ""
        month = self.month and self.month.document(self.spend_usd)
        more = {"limit_today_usd": f"{self.limit:f}", "month": month, "month_text": said}
        return {**plain(self), **more, "utilization": shown}


def plain(value: Any) -> Any:
    """As JSON has it, with decimals as text without an exponent."""
    value = msgspec.to_builtins(value, builtin_types=(Decimal,))
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def by_amount(amounts: dict[str, Decimal]) -> dict[str, Decimal]:
    """The largest first; equal ones by name."""
    return dict(sorted(amounts.items(), key=lambda item: (-item[1], item[0])))
