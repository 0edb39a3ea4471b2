"""Today's budget: the document that an exporter serves at /api/v1/status, and its arithmetic.

rules/budget.yml computes the same from metrics; tests/rules/test_budget_status.py compares them.
"""

from collections.abc import Sequence
from decimal import Decimal
from itertools import chain
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from common.errors import UserError
from common.money import picodollars

LogState = Literal["ok", "missing", "problem"]


class BudgetFigures(Struct, frozen=True, kw_only=True):
    """The day's money of one ledger, or of several under one budget, in exact USD."""

    spend_usd: Decimal
    written_off_usd: Decimal
    granted_usd: Decimal
    limit_usd: Decimal  # of budget.yml; grants come on top

    def __post_init__(self) -> None:
        values = asdict(self).values()
        tables = [value.values() for value in values if isinstance(value, dict)]
        try:
            for amount in chain(values, *tables):
                if isinstance(amount, Decimal):
                    picodollars(amount)
        except UserError as error:  # msgspec makes a ValidationError of a ValueError
            raise ValueError(str(error)) from error

    @property
    def limit(self) -> Decimal:
        """The day's limit, grants included."""
        return self.limit_usd + self.granted_usd

    @property
    def net_spend(self) -> Decimal:
        """What counts against the limit."""
        return self.spend_usd - self.written_off_usd

    @property
    def remaining(self) -> Decimal:
        return self.limit - self.net_spend

    @property
    def utilization(self) -> Decimal:
        """The net spend as a share of the limit."""
        return self.net_spend / self.limit if self.limit > 0 else Decimal("Infinity")

    @property
    def exhausted(self) -> bool:
        return self.net_spend >= self.limit


def together(figures: Sequence[BudgetFigures]) -> BudgetFigures:
    """Several ledgers under one budget: amounts add up, the limit is the smallest of theirs."""
    return BudgetFigures(
        spend_usd=Decimal(sum(one.spend_usd for one in figures)),
        written_off_usd=Decimal(sum(one.written_off_usd for one in figures)),
        granted_usd=Decimal(sum(one.granted_usd for one in figures)),
        limit_usd=min(one.limit_usd for one in figures),
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
        """As JSON has it: amounts as decimal strings, and the utilization for those who read it."""
        plain = _plain(msgspec.to_builtins(self, builtin_types=(Decimal,)))
        return {**plain, "utilization": float(self.utilization)}


def _plain(value: Any) -> Any:
    """Decimals as text without an exponent."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def by_amount(amounts: dict[str, Decimal]) -> dict[str, Decimal]:
    """The largest first; equal ones by name."""
    return dict(sorted(amounts.items(), key=lambda item: (-item[1], item[0])))
