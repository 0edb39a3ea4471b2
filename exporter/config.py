"""budget.yml: its schema, defaults and checks. Money becomes pico-dollars here."""

import glob
import os
from datetime import time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr, replace

from common.errors import UserError
from common.http import is_loopback
from common.money import picodollars
from common.yamlfile import read_as
from exporter.budget.day import BudgetCalendar
from exporter.event import is_label
from exporter.prices.schedule import Price, Prices, schedules
from sdk.client import MAX_CALLS

Count = Annotated[int, Meta(ge=1)]
Text = Annotated[str, Meta(min_length=1)]
# The keys of a usage event, and those of its usage object that are read.
EventKey = Literal[
    "id", "time", "roaster", "field", "model", "provider", "outcome", "estimated", "usage",
    "usage.prompt_tokens", "usage.completion_tokens", "usage.prompt_cache_hit_tokens",
    "usage.total_tokens", "usage.cache_write_tokens",
    "duration_seconds", "batch_items", "batch_slots", "count", "service_tier",
]  # fmt: skip
Scalar = str | int | bool | None
S = TypeVar("S", bound=Struct)


def as_text(value: Any) -> Any:
    """A JSON integer, whole float or boolean as the text that JSON has for it; else the value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return str(value) if isinstance(value, int) else value


class _Strict(Struct, frozen=True, forbid_unknown_fields=True):
    """An unknown key is an error that names it."""


class Budget(_Strict, frozen=True):
    """How much a budget day may cost, and when it begins."""

    daily_limit_usd: Decimal = Decimal(100)
    reserve_usd: Decimal = Decimal(20)
    timezone: str = "UTC"
    day_starts_at: str = "00:00"
    monthly_limit_usd: Decimal | None = None  # of a calendar month; without it there is none
    monthly_spread: Literal["none", "even"] = "none"
    # By month (2026-11): what was spent in it that this ledger does not hold.
    month_opening_usd: dict[Annotated[str, Meta(pattern=r"^\d{4}-(0[1-9]|1[0-2])$")], Decimal] = (
        field(default_factory=dict)
    )
    roasters: dict[str, Decimal] = field(default_factory=dict)  # caps of a budget day
    fields: dict[str, Decimal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("daily_limit_usd", "monthly_limit_usd"):
            amount = getattr(self, name)
            if amount is not None and picodollars(amount) <= 0:
                raise UserError(f"{name} must be above 0")
        if self.monthly_limit_usd is None and (
            self.month_opening_usd or self.monthly_spread != "none"
        ):
            raise UserError("monthly_spread and month_opening_usd need a monthly_limit_usd")
        if wrong := [one for one in (*self.roasters, *self.fields) if not is_label(one)]:
            raise UserError(f"a cap names {wrong[0][:80]!a}, which no event may be called")
        amounts = {"reserve_usd": self.reserve_usd}
        for key in ("roasters", "fields", "month_opening_usd"):
            amounts |= {f"{key}.{name}": amount for name, amount in getattr(self, key).items()}
        for name, amount in amounts.items():
            if not amount.is_finite() or picodollars(amount) < 0:
                raise UserError(f"{name} must be an amount, and must not be negative")

    @property
    def calendar(self) -> BudgetCalendar:
        """The budget's calendar. Raises UserError on a wrong zone or time."""
        try:
            start = time.fromisoformat(self.day_starts_at)
        except ValueError:
            start = None
        if start is None or start.tzinfo is not None or start.microsecond:
            raise UserError(f'day_starts_at {self.day_starts_at!r} is not a time like "06:00"')
        return BudgetCalendar(self.timezone, start)


class RateLimits(_Strict, frozen=True):
    """The provider's request limits over rolling windows."""

    minute: Count = 60
    hour: Count = 1000
    day: Count = 10000
    scope: Literal["all", "roaster"] = "all"


class Limits(_Strict, frozen=True):
    """Bounds on what a client can make the exporter hold."""

    body_bytes: Count = 8 << 20
    batch_events: Count = 10_000
    roasters: Count = 1000
    fields: Count = 100
    models: Count = 100
    # What one event may say. No real one comes near; beyond it a client is broken, or lies.
    event_calls: Annotated[int, Meta(ge=1, le=MAX_CALLS)] = MAX_CALLS  # as many as the client sums
    event_tokens: Count = 10**10  # so many calls of 100,000 tokens
    # The dearest listed call is $75: o1-pro, 100,000 tokens, in at $150 and out at $600 a million.
    call_usd: Decimal = Decimal(1000)

    def __post_init__(self) -> None:
        if picodollars(self.call_usd) <= 0:
            raise UserError("call_usd must be above 0")


class Keeping(_Strict, frozen=True):
    """How long the ledger keeps a day's accounts; what it cost since it began stays."""

    keep_days: Annotated[int, Meta(ge=36)] | None = None  # an event may be 35 days late


class Access(_Strict, frozen=True):
    """Who may talk to the exporter; tokens come from these files or from the environment."""

    ingest_token_file: str | None = None
    admin_token_file: str | None = None
    metrics_token_file: str | None = None
    hosts: list[str] = field(default_factory=list)
    allow_remote_without_token: bool = False


class Provider(_Strict, frozen=True):
    """Where the provider's balance is asked for; without this section it is not."""

    balance_url: str = "https://api.deepseek.com/user/balance"
    key_file: str | None = None
    every_seconds: Count = 60

    def __post_init__(self) -> None:
        url = urlsplit(self.balance_url)
        plain_here = url.scheme == "http" and is_loopback(url.hostname or "")
        if not url.hostname or not (url.scheme == "https" or plain_here):
            raise UserError("balance_url must be https, because the key goes with it")


class Split(_Strict, frozen=True):
    """How a total of tokens, where a log knows no more, is booked: this part of it as input."""

    input: Annotated[float, Meta(ge=0, le=1)]


class Log(_Strict, frozen=True):
    """A log to follow: JSON lines, as usage events or mapped to them. See docs/log.md."""

    path: Text  # of one file or a glob; relative to the folder of budget.yml
    keys: dict[EventKey, Text] = field(default_factory=dict)  # to dotted paths in the line
    values: dict[EventKey, dict[str | int | bool, Scalar]] = field(default_factory=dict)
    defaults: dict[EventKey, Scalar] = field(default_factory=dict)  # where the line has none
    only: dict[Text, Scalar | list[Scalar]] = field(default_factory=dict)  # other lines are skipped
    start: Literal["beginning", "end"] = "beginning"
    timezone: Text | None = None  # of times that name none
    split: Split | None = None  # of totals; without it they are refused
    format: Literal["json", "docker", "cri"] = "json"  # what a container's runtime wraps lines in
    other_lines: Literal["refuse", "ignore"] = "refuse"  # those that are not JSON objects

    def __post_init__(self) -> None:
        words = {key: {as_text(w): v for w, v in map_.items()} for key, map_ in self.values.items()}
        for key, translated in words.items():
            if len(translated) < len(self.values[key]):
                raise UserError(f"log: values of {key} name a word twice, as text and as a number")
        force_setattr(self, "values", words)  # YAML reads 200 and true as no text
        if "\0" in self.path:
            raise UserError(f"log: path {self.path!r} is not a path")
        try:
            ZoneInfo(self.timezone or "UTC")
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            text = f"log: timezone {self.timezone!r} of {self.path} is not an IANA zone"
            raise UserError(text) from error


class Config(_Strict, frozen=True):
    """The whole of budget.yml."""

    budget: Budget = field(default_factory=Budget)
    rate_limits: RateLimits = field(default_factory=RateLimits)
    # The runbook's prices, and DeepSeek's cached-input price of the same list.
    prices: Prices = field(
        default_factory=lambda: {
            "deepseek-chat": Price(
                input_usd_per_1k=Decimal("0.00027"),
                cached_input_usd_per_1k=Decimal("0.00007"),
                output_usd_per_1k=Decimal("0.00110"),
            )
        }
    )
    limits: Limits = field(default_factory=Limits)
    ledger: Keeping = field(default_factory=Keeping)
    access: Access = field(default_factory=Access)
    provider: Provider | None = None
    log: list[Log] = field(default_factory=list)

    def __post_init__(self) -> None:
        schedules(self.prices, self.budget.calendar)  # raises UserError


def load_config(path: Path) -> Config:
    """budget.yml, checked whole. Raises UserError naming the file and the key."""
    config = read_as(path, Config)
    folder = path.absolute().parent
    pattern = glob.escape(str(folder))
    return replace(
        config,
        access=_in_folder(config.access, folder),
        provider=config.provider and _in_folder(config.provider, folder),
        log=[replace(log, path=os.path.join(pattern, log.path)) for log in config.log],
    )


def _in_folder(section: S, folder: Path) -> S:
    """A section whose files are relative to folder."""
    names = [name for name in section.__struct_fields__ if name.endswith("_file")]
    files = {name: file for name in names if (file := getattr(section, name))}
    return replace(section, **{name: os.path.join(folder, file) for name, file in files.items()})
