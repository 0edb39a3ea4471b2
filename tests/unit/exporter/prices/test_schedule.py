"""Prices of budget.yml by time: the runbook's lists by hand, windows, dates, a reference."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from exporter.config import load_config
from exporter.prices.pricelist import PriceList
from exporter.prices.schedule import WEEKDAYS, Price, Window
from tests.support.exporters import Exporter, event, write_config
from tests.support.prices import DEEPSEEK_2025, UTC_DAY, at, price_list, rates

FULL, HALF = (270_000, 70_000, 1_100_000), (135_000, 35_000, 550_000)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2024-12-31T12:00:00", (140_000, 14_000, 280_000)),
        ("2025-02-08T15:59:59.999999", (140_000, 14_000, 280_000)),
        ("2025-02-08T16:00:00", FULL),
        ("2025-02-20T20:00:00", FULL),  # no discount yet
        ("2025-02-26T16:29:59.999", FULL),
        ("2025-02-26T16:30:00", HALF),
        ("2025-03-10T16:29:59", FULL),
        ("2025-03-10T16:30:00", HALF),
        ("2025-03-10T23:59:59.999", HALF),
        ("2025-03-11T00:00:00", HALF),
        ("2025-03-11T00:29:59.999", HALF),
        ("2025-03-11T00:30:00", FULL),
    ],
)
def test_deepseeks_lists_of_the_runbooks_era_hold_to_the_second(
    tmp_path: Path, moment: str, expected: tuple[int, int, int]
) -> None:
    assert rates(price_list(tmp_path, DEEPSEEK_2025), "deepseek-chat", moment) == expected


def test_a_mixed_day_with_the_off_peak_discount_worked_by_hand(tmp_path: Path) -> None:
    """Four calls of one budget day, per million: 0.27 / 0.07 / 1.10 and half of that off-peak.

    00:29:59 off-peak:  1,000,000 in, 600,000 of them cached, 200,000 out:
             400,000 x 0.135 + 600,000 x 0.035 + 200,000 x 0.55 = 0.054 + 0.021 + 0.11  = 0.185
    00:30:00 standard:  the same: 0.108 + 0.042 + 0.22                                 = 0.370
    16:29:59 standard:  1 in, nothing else: 0.27 / 1e6                                 = 0.00000027
    16:30:00 off-peak:  R1, 2,000,000 in all cached, 1,000,000 out: 0.07 + 0.55        = 0.620
    """
    day = at("2025-03-10T00:00:00")
    with Exporter(tmp_path, DEEPSEEK_2025, now=day + 86_000) as exporter:
        exporter.book(
            event(1_000_000, 200_000, 600_000, at=day + 1799),
            event(1_000_000, 200_000, 600_000, at=day + 1800),
            event(1, 0, at=day + 59_399),
            event(2_000_000, 1_000_000, 2_000_000, at=day + 59_400, model="deepseek-reasoner"),
        )
        assert exporter.spend() == Decimal("1.17500027")
        assert exporter.value("llm_cost_usd_total", **LABELS) == 0.55500027


LABELS = {"roaster": "blue-tokai", "field": "notes", "model": "deepseek-chat"}
WEEKEND = """
prices:
  m:
    input_usd_per_1k: 0.002
    output_usd_per_1k: 0.002
    windows:
      - {from_utc: "22:00", to_utc: "02:00", weekdays: [fri, sun], input_usd_per_1k: 0.001,
         output_usd_per_1k: 0}
      - {from_utc: "02:00", to_utc: "24:00", weekdays: [sat], input_usd_per_1k: 0,
         output_usd_per_1k: 0.001}
"""
USUAL, NIGHT, SATURDAY = (2_000_000,) * 2, (1_000_000, 0), (0, 1_000_000)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-26T23:00:00", USUAL),  # a Thursday night
        ("2026-11-27T01:00:00", USUAL),  # after it: Friday's window starts on Friday
        ("2026-11-27T21:59:59.999", USUAL),
        ("2026-11-27T22:00:00", NIGHT),
        ("2026-11-28T01:59:59", NIGHT),  # Saturday, but the window began on Friday
        ("2026-11-28T02:00:00", SATURDAY),
        ("2026-11-28T23:59:59.999", SATURDAY),
        ("2026-11-29T00:00:00", USUAL),
        ("2026-11-29T23:00:00", NIGHT),  # Sunday into Monday: the week turns
        ("2026-11-30T01:59:59", NIGHT),
        ("2026-11-30T02:00:00", USUAL),
    ],
)
def test_weekdays_name_the_day_on_which_a_window_starts(
    tmp_path: Path, moment: str, expected: tuple[int, int]
) -> None:
    found = rates(price_list(tmp_path, WEEKEND), "m", moment)
    assert found == (expected[0], expected[0], expected[1])  # no cached price: as input


def test_a_date_begins_with_the_budget_day_in_its_own_zone(tmp_path: Path) -> None:
    text = """
budget: {timezone: Asia/Kolkata, day_starts_at: "06:00"}
prices:
  m:
    - {input_usd_per_1k: 0.001, output_usd_per_1k: 0}
    - {valid_from: 2026-12-01, input_usd_per_1k: 0.002, output_usd_per_1k: 0}
"""
    prices = price_list(tmp_path, text)
    assert rates(prices, "m", "2026-12-01T00:29:59") == (1_000_000, 1_000_000, 0)
    assert rates(prices, "m", "2026-12-01T00:30:00") == (2_000_000, 2_000_000, 0)


RATES = "input_usd_per_1k: 0.1, output_usd_per_1k: 0.1"


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        ("[]", "prices.m is an empty list"),
        (f"{{{RATES}, cached_input_usd_per_1k: -1}}", "prices.m.cached_input_usd_per_1k"),
        ("{input_usd_per_1k: 1e-12, output_usd_per_1k: 0}", "prices.m.input_usd_per_1k"),
        (f"[{{{RATES}}}, {{{RATES}}}]", "prices.m[0] and prices.m[1] have no valid_from"),
        (
            f"[{{{RATES}, valid_from: 2026-12-01}}, {{{RATES}, valid_from: '2026-12-01T00:00Z'}}]",
            "prices.m[0] and prices.m[1] start together",
        ),
        (f"{{{RATES}, valid_from: soon}}", "prices.m.valid_from: 'soon'"),
        (f"{{{RATES}, valid_from: 2026-12-01T00:00}}", "prices.m.valid_from"),
        (f"{{{RATES}, valid_from: '2026-12-01T00:00:30Z'}}", "must be a whole minute"),
        (f"{{{RATES}, valid_from: 2026-13-01}}", "prices.m.valid_from"),
        (f"{{{RATES}, valid_from: '0001-01-01T00:00+05:30'}}", "prices.m.valid_from"),
        (f"{{{RATES}, windows: [{{{RATES}, from_utc: '1:00', to_utc: '02:00'}}]}}", "from_utc"),
        (f"{{{RATES}, windows: [{{{RATES}, from_utc: 16:30:30, to_utc: '02:00'}}]}}", "16:30:30"),
        (f"{{{RATES}, windows: [{{{RATES}, from_utc: '24:00', to_utc: '02:00'}}]}}", "no length"),
        (f"{{{RATES}, windows: [{{{RATES}, from_utc: '02:00', to_utc: '02:00'}}]}}", "no length"),
        (
            f"{{{RATES}, windows: [{{{RATES}, from_utc: '02:00', to_utc: '03:00', "
            "weekdays: []}]}",
            "prices.m.windows[0].weekdays",
        ),
        (
            f"{{{RATES}, windows: [{{{RATES}, from_utc: '22:00', to_utc: '02:00'}}, "
            f"{{{RATES}, from_utc: '01:59', to_utc: '03:00', weekdays: [mon]}}]}}",
            "prices.m.windows[0] and prices.m.windows[1] overlap on mon 01:59 UTC",
        ),
        (f"{{{RATES}, windows: [{{{RATES}, from_utc: '02:00'}}]}}", "to_utc"),
        (f"{{{RATES}, discount: 0.5}}", "discount"),
        (f"{{{RATES}, extras_usd_per_1k: {{audio: 1}}}}", "'audio' is none of cache_write,"),
        (f"{{{RATES}, extras_usd_per_1k: {{input_audio: -1}}}}", "extras_usd_per_1k.input_audio"),
    ],
)
def test_a_price_that_is_wrong_or_ambiguous_is_refused_by_key(
    tmp_path: Path, prices: str, words: str
) -> None:
    path = write_config(tmp_path, f"prices: {{m: {prices}}}")
    with pytest.raises(UserError) as refused:
        load_config(path)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)


MINUTES = st.integers(0, 1439)
WEEK = st.lists(st.sampled_from(WEEKDAYS), min_size=1, unique=True)
AMOUNT = st.integers(0, 10**9).map(lambda n: Decimal(n).scaleb(-9))


@st.composite
def any_price(draw: st.DrawFn, valid_from: str | None) -> Price:
    """Windows from sorted cuts of the day, the last one across midnight: never overlapping."""
    cuts = sorted(draw(st.sets(MINUTES, max_size=6)))
    pairs = list(zip(cuts[1:-1:2], cuts[2::2], strict=False)) if len(cuts) > 2 else []
    if len(cuts) > 1 and (not pairs or pairs[-1][1] != cuts[-1]):
        pairs.append((cuts[-1], cuts[0]))
    windows = [
        Window(
            from_utc=f"{start // 60:02d}:{start % 60:02d}",
            to_utc=f"{end // 60:02d}:{end % 60:02d}",
            weekdays=draw(WEEK),
            **draw(RATE),
        )
        for start, end in pairs
    ]
    return Price(valid_from=valid_from, windows=windows, **draw(RATE))


RATE = st.fixed_dictionaries(
    {
        "input_usd_per_1k": AMOUNT,
        "output_usd_per_1k": AMOUNT,
        "cached_input_usd_per_1k": st.none() | AMOUNT,
    }
)
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 60 * 86_400_000).map(lambda ms: EPOCH + timedelta(milliseconds=ms))


def reference(prices: list[Price], moment: datetime) -> Price | Window | None:
    """The rule as the docs say it, by dates and times instead of minutes of a week."""
    begun = [
        p for p in prices if not p.valid_from or datetime.fromisoformat(p.valid_from) <= moment
    ]
    if not begun:
        return None
    price = max(begun, key=lambda p: p.valid_from or "")
    for window in price.windows:
        for back in (0, 1):
            midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
            midnight -= timedelta(days=back)
            start, end = (
                midnight + timedelta(hours=int(text[:2]), minutes=int(text[3:]))
                for text in (window.from_utc, window.to_utc)
            )
            end += timedelta(days=1) if end < start else timedelta()
            if midnight.strftime("%a").lower() in window.weekdays and start <= moment < end:
                return window
    return price


@settings(deadline=None)
@given(st.data(), st.lists(MOMENTS, min_size=1, max_size=8), st.booleans())
def test_a_cost_equals_an_independent_reference(
    data: st.DataObject, moments: list[datetime], undated: bool
) -> None:
    starts = data.draw(st.lists(st.integers(0, 60 * 1440), unique=True, max_size=3))
    dates: list[str | None] = [(EPOCH + timedelta(minutes=m)).isoformat() for m in starts]
    if undated or not dates:
        dates.append(None)
    prices = [data.draw(any_price(date)) for date in dates]
    found = PriceList({"m": prices}, UTC_DAY)
    edges = [moment.replace(second=0, microsecond=0) for moment in moments]
    for moment in [*moments, *edges, *(edge - timedelta(microseconds=1) for edge in edges)]:
        fresh, cached, output = (data.draw(st.integers(0, 10_000_000)) for _ in range(3))
        rate = reference(prices, moment)
        price = found.find("m", "deepseek", moment.timestamp()).get("")
        if rate is None or price is None:
            assert rate is price
            continue
        per_1k = rate.cached_input_usd_per_1k
        usd = (
            fresh * rate.input_usd_per_1k
            + cached * (rate.input_usd_per_1k if per_1k is None else per_1k)
            + output * rate.output_usd_per_1k
        ) / 1000
        assert price.cost(fresh, cached, output) == usd * 10**12
