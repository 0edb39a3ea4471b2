"""`prices:` of budget.yml as it is written: rates, daily windows, the date a price holds from."""

from decimal import Decimal
from typing import Literal

from msgspec import Struct, field

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Rates(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """USD per 1,000 tokens; without a cached price, cached input costs as input."""

    input_usd_per_1k: Decimal
    output_usd_per_1k: Decimal
    cached_input_usd_per_1k: Decimal | None = None


class Window(Rates, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Other rates between two times of day in UTC, HH:MM; the end belongs to what follows.

    An end before the start is on the next day; weekdays name the day on which the window starts.
    """

    from_utc: str
    to_utc: str
    weekdays: list[Weekday] = field(default_factory=lambda: list(WEEKDAYS))


class Price(Rates, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model's rates, from a date on or (without valid_from) for everything before the dates."""

    valid_from: str | None = None
    windows: list[Window] = field(default_factory=list)


Prices = dict[str, Price | list[Price]]
