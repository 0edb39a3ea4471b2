"""The JSON schemas of /api/v1/*, of exporter and receiver: `make golden` writes docs/api.json.

What is asked for, and the status, are the structs of the code; the shape of other answers stands
here, and tests/docs/test_api.py holds real answers against it.
"""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from alertmanager.receiver.audit import Change
from alertmanager.receiver.overrides import OverrideRequest
from common.budget_status import BudgetStatus
from exporter.ledger.adjustments import Grant, Kind, Reset, Revoke
from exporter.ledger.month import Carry
from exporter.ledger.repricing import Reprice
from tests.support.paths import ROOT

API = ROOT / "docs" / "api.json"


class Shape(Struct, forbid_unknown_fields=True):
    """Of an answer: what is not in it is not answered."""


class Error(Shape):
    error: str  # one sentence; with 400, 401, 403, 404, 413, 415 or 503


class ProviderBalance(Shape):
    """The account at the provider as it was last polled.

    The usual day: the mean of the known past days; null: none is known, or none cost anything.
    """

    amounts: dict[str, Decimal]  # by currency
    polled: float  # Unix seconds
    usd: Decimal | None  # null without provider.usd_per_unit
    usual_day_usd: Decimal | None
    days_left: float | None  # so many usual days the balance lasts


class Status(BudgetStatus, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Today's budget, and the net spend as a share of the limit."""

    balance: ProviderBalance | None = None
    utilization: float  # at most 1000, which stands for more: of a limit of 0 it is infinite
    limit_today_usd: Decimal  # with the month's and the grants
    month_text: str  # for people; empty without a month's budget


class ReportRow(Shape, kw_only=True):
    """Those of day, month, roaster, field, model that were asked for, and the sums."""

    day: str | None = None
    month: str | None = None
    roaster: str | None = None
    field: str | None = None
    model: str | None = None
    calls: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    unpriced_tokens: int
    cost_usd: Decimal
    cost_per_call_usd: Decimal | None = None  # not where there are no calls, or some are unpriced


class Report(Shape):
    first: str = field(name="from")
    to: str
    begins: str
    by: list[Literal["day", "month", "roaster", "field", "model"]]
    rows: list[ReportRow]
    total: ReportRow
    notes: list[str]


class ReconciledDay(Shape):
    """A day, or the part of it in the range. A rise of the balance is a top-up."""

    day: str  # or "total"
    booked_usd: Decimal
    charged_usd: Decimal | None  # null: the balance is not known, see problem
    topped_up_usd: Decimal | None
    difference_usd: Decimal | None  # charged less booked


class Reconciliation(Shape):
    """Since and until: RFC 3339, as far as the balance is known. Causes: likely ones, sentences."""

    since: str
    until: str
    zone: str  # whose midnights part the days: UTC, UTC+08:00
    problem: str  # why there is no balance to compare with, or empty
    days: list[ReconciledDay]
    total: ReconciledDay
    causes: list[str]


class Adjusted(Shape):
    """What became of a grant, reset or revoke."""

    number: int | None  # null: there was nothing to write off
    day: str
    kind: Kind
    undone: Literal["", "grant", "reset"]
    usd: Decimal
    roaster: str
    duplicate: bool


class Adjustment(Shape):
    number: int
    kind: Kind
    usd: Decimal
    roaster: str
    revokes: int | None
    revoked_by: int | None
    reason: str
    author: str
    time: str


class Grants(Shape):
    grants: list[Adjustment]


class Resets(Shape):
    resets: list[Adjustment]


class Revokes(Shape):
    revokes: list[Adjustment]


class RepricedAt(Shape):
    model: str
    source: str
    tokens: int
    added_usd: Decimal


class RepricedDay(Shape):
    day: str
    model: str
    tokens: int
    before_usd: Decimal
    added_usd: Decimal
    after_usd: Decimal
    prices: list[RepricedAt]


class Withheld(Shape):
    model: str
    provider: str
    tokens: int


class Repriced(Shape):
    dry_run: bool
    added_usd: Decimal
    lines: list[RepricedDay]
    withheld: list[Withheld]


class History(Shape):
    changes: list[Change]


# By method and path: the body that is asked for, and the answer; of an override it is /state.
EXPORTER: dict[str, tuple[Any, Any]] = {
    "GET /api/v1/status": (None, Status),
    "GET /api/v1/report": (None, Report),
    "GET /api/v1/reconcile": (None, Reconciliation),
    "GET /api/v1/grants": (None, Grants),
    "POST /api/v1/grants": (Grant, Adjusted),
    "GET /api/v1/resets": (None, Resets),
    "POST /api/v1/resets": (Reset, Adjusted),
    "GET /api/v1/revokes": (None, Revokes),
    "POST /api/v1/revokes": (Revoke, Adjusted),
    "POST /api/v1/reprice": (Reprice, Repriced),
    "POST /api/v1/carry": (Carry, Carry),
}
RECEIVER: dict[str, tuple[Any, Any]] = {
    "GET /api/v1/history": (None, History),
    "POST /api/v1/override": (OverrideRequest, dict[str, Any]),
}


def _types() -> Iterator[Any]:
    for asked, answer in (*EXPORTER.values(), *RECEIVER.values()):
        yield from filter(None, (asked, answer))
    yield Error


def document() -> dict[str, Any]:
    """docs/api.json."""
    types = list(_types())
    schemas, parts = msgspec.json.schema_components(types, ref_template="#/schemas/{name}")
    found = iter(schemas)
    paths = {
        service: {
            path: ({"body": next(found)} if asked else {}) | {"answer": next(found)}
            for path, (asked, _) in table.items()
        }
        for service, table in (("exporter", EXPORTER), ("receiver", RECEIVER))
    }
    return {**paths, "error": next(found), "schemas": parts}


def text() -> str:
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    API.write_text(text())
