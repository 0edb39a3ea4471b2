"""`prices:` of budget.yml as it is written, and which dated price or daily window holds when."""

import re
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from msgspec import Struct, field

from common.clock import iso8601
from common.errors import UserError
from exporter.budget.day import BudgetCalendar
from exporter.prices.tokenprice import TokenPrice, TokenPrices, token_price
from sdk.client import EXTRAS

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SOURCE = "budget.yml"
DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES
EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; weeks here begin on Monday, 00:00 UTC
ALWAYS = float("-inf")


class Rates(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """USD per 1,000 tokens; without a cached price, cached input costs as input."""

    input_usd_per_1k: Decimal
    output_usd_per_1k: Decimal
    cached_input_usd_per_1k: Decimal | None = None
    extras_usd_per_1k: dict[str, Decimal] = field(default_factory=dict)  # by the kinds of EXTRAS


class Window(Rates, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Other rates between two times of day in UTC, HH:MM; the end belongs to what follows."""

    from_utc: str
    to_utc: str  # on the next day when it is before the start
    weekdays: list[Weekday] = field(default_factory=lambda: list(WEEKDAYS))  # on which it starts


class Price(Rates, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model's rates, from a date on or (without valid_from) for everything before the dates."""

    valid_from: str | None = None
    windows: list[Window] = field(default_factory=list)


Prices = dict[str, Price | list[Price]]


class Schedule:
    """A model's prices over time."""

    def __init__(self, model: str, entry: Price | list[Price], calendar: BudgetCalendar) -> None:
        key = f"prices.{model}"
        if entry == []:
            raise UserError(f"{key} is an empty list; give a price or remove the model")
        # By the Unix seconds of their start: key, usual prices, and others by minute of the week.
        found: dict[float, tuple[str, TokenPrices, dict[int, TokenPrices]]] = {}
        for index, price in enumerate(entry if isinstance(entry, list) else [entry]):
            name = f"{key}[{index}]" if isinstance(entry, list) else key
            start = _start(name, price, calendar)
            if start in found:
                what = "start together" if price.valid_from else "have no valid_from"
                raise UserError(f"{found[start][0]} and {name} {what}; only one price can hold")
            since = "" if start == ALWAYS else f"from {iso8601(start)}"
            usual = _token(model, name, price, since)
            found[start] = name, usual, _windows(model, name, price, since)
        self._latest_first = [(start, *found[start][1:]) for start in sorted(found, reverse=True)]

    def at(self, timestamp: float) -> TokenPrices:
        """The prices at an instant (Unix seconds); none before the first one."""
        for start, usual, windows in self._latest_first:
            if start <= timestamp:
                minute = (int(timestamp // 60) + EPOCH_WEEKDAY * DAY_MINUTES) % WEEK_MINUTES
                return windows.get(minute, usual)
        return {}


def schedules(prices: Prices, calendar: BudgetCalendar) -> dict[str, Schedule]:
    """Every model's schedule; calendar gives dates their zone. Raises UserError naming the key."""
    return {model: Schedule(model, entry, calendar) for model, entry in prices.items()}


def _start(key: str, price: Price, calendar: BudgetCalendar) -> float:
    """Unix seconds: of an instant with its zone, or of the budget day that a date names."""
    text = price.valid_from
    if text is None:
        return ALWAYS
    try:
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            start = float(calendar.start(date.fromisoformat(text)))
        elif (moment := datetime.fromisoformat(text)).tzinfo:
            start = moment.timestamp()
        else:
            raise ValueError("no zone")
        iso8601(start)  # far enough from the calendar's ends to be shown
    except (ValueError, OverflowError) as error:
        raise UserError(
            f"{key}.valid_from: {text!r} is neither a date (2026-12-01) nor a time with its zone "
            "(2026-12-01T00:00Z)"
        ) from error
    if start % 60:
        raise UserError(f"{key}.valid_from: {text!r} must be a whole minute")
    return start


def _windows(model: str, key: str, price: Price, since: str) -> dict[int, TokenPrices]:
    """Prices by minute of the week (UTC), where they are not the usual ones."""
    found: dict[int, tuple[str, TokenPrices]] = {}
    for index, window in enumerate(price.windows):
        name = f"{key}.windows[{index}]"
        days = "" if len(window.weekdays) == len(WEEKDAYS) else f" {','.join(window.weekdays)}"
        validity = f"{since} {window.from_utc}-{window.to_utc} UTC{days}".strip()
        prices = _token(model, name, window, validity)
        for minute in _minutes(name, window):
            if minute in found:
                day, rest = divmod(minute, DAY_MINUTES)
                when = f"{WEEKDAYS[day]} {rest // 60:02d}:{rest % 60:02d} UTC"
                raise UserError(f"{found[minute][0]} and {name} overlap on {when}")
            found[minute] = name, prices
    return {minute: prices for minute, (_, prices) in found.items()}


def _token(model: str, key: str, rates: Rates, validity: str) -> TokenPrices:
    """The rates in pico-dollars; without a cached price, cached input costs as input."""

    def exact(name: str, usd: Decimal) -> int:
        try:
            return token_price(usd)
        except UserError as error:
            raise UserError(f"{key}.{name}: {error}") from error

    for kind in rates.extras_usd_per_1k.keys() - EXTRAS.keys():
        raise UserError(f"{key}.extras_usd_per_1k: {kind!r} is none of {', '.join(EXTRAS)}")
    full = cached = exact("input_usd_per_1k", rates.input_usd_per_1k)
    if rates.cached_input_usd_per_1k is not None:
        cached = exact("cached_input_usd_per_1k", rates.cached_input_usd_per_1k)
    output = exact("output_usd_per_1k", rates.output_usd_per_1k)
    price = TokenPrice(model, SOURCE, full, cached, output, validity=validity)
    extras = {
        kind: price.of_extra(kind, exact(f"extras_usd_per_1k.{kind}", usd))
        for kind, usd in rates.extras_usd_per_1k.items()
    }
    return {"": price, **extras}


def _minutes(key: str, window: Window) -> Iterator[int]:
    """The minutes of the week that a window covers."""
    begin = _time_of_day(f"{key}.from_utc", window.from_utc)
    end = _time_of_day(f"{key}.to_utc", window.to_utc)
    if begin in (DAY_MINUTES, end):
        raise UserError(f'{key} has no length; the whole day is from_utc "00:00" to_utc "24:00"')
    if not window.weekdays or len(set(window.weekdays)) < len(window.weekdays):
        raise UserError(f"{key}.weekdays must name at least one day, and each day once")
    length = end - begin if end > begin else end + DAY_MINUTES - begin
    for weekday in window.weekdays:
        first = WEEKDAYS.index(weekday) * DAY_MINUTES + begin
        yield from (minute % WEEK_MINUTES for minute in range(first, first + length))


def _time_of_day(key: str, text: str) -> int:
    """Minutes since midnight; 24:00 is the end of the day."""
    match = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)|24:00", text)
    if match is None:
        raise UserError(f'{key}: {text!r} is not a whole minute like "16:30"')
    return DAY_MINUTES if match[1] is None else int(match[1]) * 60 + int(match[2])
