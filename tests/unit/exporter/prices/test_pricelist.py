"""Prices by time: the lists of the runbook's era by hand, windows, dates, and genai-prices."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ConditionalPrice, TimeOfDateConstraint
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from exporter.budget.day import BudgetCalendar
from exporter.config import load_config
from exporter.prices.genai import SOURCE, find_price
from exporter.prices.pricelist import PriceList
from exporter.prices.schema import WEEKDAYS, Price, Window
from tests.support.exporters import NOON, Exporter, event, write_config

# DeepSeek's list of 2025-02-08 (per million: 0.27, cached 0.07, output 1.10) with the off-peak
# discount that began on 2025-02-26 (half price, 16:30-00:30 UTC), and R1 (0.55, 0.14, 2.19; a
# quarter of it, off-peak). Sources: api-docs.deepseek.com/quick_start/pricing of that time.
DEEPSEEK_2025 = """
prices:
  deepseek-chat:
    - {input_usd_per_1k: 0.00014, cached_input_usd_per_1k: 0.000014, output_usd_per_1k: 0.00028}
    - valid_from: 2025-02-08T16:00Z
      input_usd_per_1k: 0.00027
      cached_input_usd_per_1k: 0.00007
      output_usd_per_1k: 0.00110
    - valid_from: 2025-02-26T16:30Z
      input_usd_per_1k: 0.00027
      cached_input_usd_per_1k: 0.00007
      output_usd_per_1k: 0.00110
      windows:
        - from_utc: 16:30
          to_utc: 00:30
          input_usd_per_1k: 0.000135
          cached_input_usd_per_1k: 0.000035
          output_usd_per_1k: 0.00055
  deepseek-reasoner:
    input_usd_per_1k: 0.00055
    cached_input_usd_per_1k: 0.00014
    output_usd_per_1k: 0.00219
    windows:
      - from_utc: 16:30
        to_utc: 00:30
        input_usd_per_1k: 0.000135
        cached_input_usd_per_1k: 0.000035
        output_usd_per_1k: 0.00055
"""
UTC_DAY = BudgetCalendar()


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def price_list(folder: Path, text: str) -> PriceList:
    config = load_config(write_config(folder, text))
    return PriceList(config.prices, config.budget.calendar)


def rates(prices: PriceList, model: str, moment: str, **asked: Any) -> tuple[int, int, int] | None:
    """Pico-dollars per token: input, cached input, output."""
    found = prices.find(model, asked.pop("provider", "deepseek"), at(moment), **asked)
    return found and (found.input, found.cached_input, found.output)


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


def test_before_its_first_date_a_model_has_no_price_and_no_other_list_is_asked(
    tmp_path: Path,
) -> None:
    text = """
prices:
  deepseek-chat: {valid_from: 2026-12-01, input_usd_per_1k: 0.001, output_usd_per_1k: 0}
"""
    prices = price_list(tmp_path, text)
    assert rates(prices, "deepseek-chat", "2026-11-30T23:59:59") is None
    assert rates(prices, "deepseek-chat", "2026-12-01T00:00:00") == (1_000_000, 1_000_000, 0)


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


def test_an_edit_without_a_date_counts_from_now_on_and_moves_nothing(tmp_path: Path) -> None:
    """1,000 tokens at $1 per million, then the file says $2: a late call of before pays $2."""
    first = "prices: {m: {input_usd_per_1k: 0.001, output_usd_per_1k: 0}}"
    with Exporter(tmp_path, first) as exporter:
        exporter.book(event(1000, 0, model="m", id="a"))
        assert exporter.spend() == Decimal("0.001")
    with Exporter(tmp_path, first.replace("0.001", "0.002"), now=NOON + 60) as exporter:
        assert exporter.spend() == Decimal("0.001")
        exporter.book(event(1000, 0, model="m", at=NOON - 60))
        assert exporter.spend() == Decimal("0.003")
        assert exporter.book(event(1000, 0, model="m", id="a"))["duplicate"] == 1
        assert exporter.spend() == Decimal("0.003")


def test_an_edit_with_a_date_prices_a_late_call_at_its_own_time(tmp_path: Path) -> None:
    old = "{input_usd_per_1k: 0.001, output_usd_per_1k: 0}"
    new = "{input_usd_per_1k: 0.002, output_usd_per_1k: 0, valid_from: '2027-01-15T12:00Z'}"
    with Exporter(tmp_path, f"prices: {{m: [{old}, {new}]}}", now=NOON + 60) as exporter:
        exporter.book(event(1000, 0, model="m", at=NOON - 0.001))
        assert exporter.spend() == Decimal("0.001")
        exporter.book(event(1000, 0, model="m", at=NOON))
        assert exporter.spend() == Decimal("0.003")


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
        rate, price = reference(prices, moment), found.find("m", "deepseek", moment.timestamp())
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


# --- genai-prices -----------------------------------------------------------------------------

NONE = PriceList({}, UTC_DAY)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2027-01-15T00:29:59", (135_000, 35_000, 550_000)),
        ("2027-01-15T00:30:00", (550_000, 140_000, 2_190_000)),
        ("2027-01-15T16:29:59.999", (550_000, 140_000, 2_190_000)),
        ("2027-01-15T16:30:00", (135_000, 35_000, 550_000)),
    ],
)
def test_genais_times_of_day_hold_to_the_second(
    moment: str, expected: tuple[int, int, int]
) -> None:
    """Its entry for DeepSeek's R1, per million: 0.55, 0.14, 2.19 from 00:30 to 16:30 UTC."""
    assert rates(NONE, "deepseek-reasoner", moment) == expected


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-12-31T23:59:59.999", (750_000, 75_000, 3_750_000)),
        ("2027-01-01T00:00:00", (1_500_000, 150_000, 7_500_000)),
    ],
)
def test_genais_dated_prices_hold_from_their_date(
    moment: str, expected: tuple[int, int, int]
) -> None:
    """Its entry for Gemini 3.6 Flash, per million: 0.75, 0.075, 3.75; twice that from 2027 on."""
    assert rates(NONE, "gemini-3.6-flash", moment, provider="google") == expected


@pytest.mark.parametrize(
    ("prompt", "calls", "expected"),
    [
        (200_000, 1, (1_250_000, 125_000, 10_000_000)),
        (200_001, 1, (2_500_000, 250_000, 15_000_000)),
        (200_000, 7, (1_250_000, 125_000, 10_000_000)),  # the largest prompt is below: all are
        (200_001, 2, None),  # which of the two was above is not known
    ],
)
def test_a_price_by_prompt_length_is_exact_or_none(
    prompt: int, calls: int, expected: tuple[int, int, int] | None
) -> None:
    """Gemini 2.5 Pro, per million: 1.25, 0.125, 10; beyond 200,000 prompt tokens 2.5, 0.25, 15."""
    asked: dict[str, Any] = {"provider": "google", "largest_prompt": prompt, "calls": calls}
    assert rates(NONE, "gemini-2.5-pro", "2026-11-24T12:00:00", **asked) == expected


@pytest.mark.parametrize(
    ("provider", "model", "why"),
    [
        ("perplexity", "sonar", "charged per request too"),
        ("perplexity", "sonar-deep-research", "reasoning tokens have a price of their own"),
        ("huggingface_together", "meta-llama/Llama-3.3-70B-Instruct", "1.0399999999999998"),
        ("openai", "tts-1", "by characters"),
        ("openai", "text-embedding-3-small", "no output price"),
        ("openai", "gpt-unheard-of", "no such model"),
        ("nobody", "gpt-4o", "no such provider"),
        ("openrouter", "gpt-4o", "not this provider's name for it"),
    ],
)
def test_a_price_that_would_not_be_exact_is_none(provider: str, model: str, why: str) -> None:
    assert rates(NONE, model, "2026-11-24T12:00:00", provider=provider) is None, why


def test_tokens_that_the_list_charges_apart_are_withheld(tmp_path: Path) -> None:
    """Cache writes cost 1.25 times the input at gpt-5.6-terra; deepseek-chat has no such price."""
    usage = {"prompt_tokens": 100, "completion_tokens": 0}
    written = {"usage": usage | {"prompt_tokens_details": {"cache_write_tokens": 50}}}
    with Exporter(tmp_path) as exporter:
        exporter.book(event() | written, event(model="gpt-5.6-terra") | written)
        assert exporter.spend() == Decimal("0.000027")
        assert exporter.value("llm_unpriced_pending_tokens", model="gpt-5.6-terra") == 100
        exporter.book(event(model="gpt-5.6-terra") | {"usage": usage})
        assert exporter.value("llm_unpriced_pending_tokens", model="gpt-5.6-terra") == 100
    priced = "prices: {gpt-5.6-terra: {input_usd_per_1k: 0.003, output_usd_per_1k: 0.012}}"
    with Exporter(tmp_path, priced) as exporter:
        exporter.book(event(model="gpt-5.6-terra") | written)
        assert exporter.value("llm_unpriced_pending_tokens", model="gpt-5.6-terra") == 100


def test_without_a_provider_the_models_maker_prices_it() -> None:
    found = NONE.find("gpt-4o", "deepseek", at("2026-11-24T12:00:00"))
    assert found is not None
    assert (found.provider, found.source, found.model) == ("openai", SOURCE, "gpt-4o")
    assert (found.input, found.cached_input, found.output) == (2_500_000, 1_250_000, 10_000_000)


def every_model() -> list[tuple[str, str]]:
    return [
        (provider.id, model.id)
        for provider in get_snapshot().providers
        for model in provider.models
    ]


def test_what_we_price_costs_what_genai_prices_itself_says() -> None:
    """Every model of its data, short and long prompts, at a peak and an off-peak hour."""
    checked = 0
    for provider, model in every_model():
        for moment in (at("2026-11-24T02:00:00"), at("2027-03-01T18:00:00")):
            for prompt in (1000, 900_001):
                price = NONE.find(model, provider, moment, prompt)
                if price is None:
                    continue
                expected = calc_price(
                    Usage(input_tokens=prompt, cache_read_tokens=400, output_tokens=100),
                    model,
                    provider_id=provider,
                    genai_request_timestamp=datetime.fromtimestamp(moment, UTC),
                )
                assert price.cost(prompt - 400, 400, 100) == expected.total_price * 10**12
                checked += 1
    assert checked > 6000, "most of its models have a price"


def test_genais_prices_change_on_whole_minutes_only() -> None:
    """One look-up a minute is enough, and so is unpriced usage by the minute."""
    for provider in get_snapshot().providers:
        for model in provider.models:
            for entry in model.prices if isinstance(model.prices, list) else []:
                assert isinstance(entry, ConditionalPrice)
                if isinstance(entry.constraint, TimeOfDateConstraint):
                    for moment in (entry.constraint.start_time, entry.constraint.end_time):
                        assert moment.second == moment.microsecond == 0


def test_inventions_are_looked_up_once_and_not_kept_for_ever() -> None:
    bound = find_price.cache_info().maxsize
    assert bound is not None
    for number in range(bound + 100):
        NONE.find(f"invention-{number}", "nobody", NOON)
    assert find_price.cache_info().currsize == bound


def test_beyond_the_models_cap_only_budget_yml_is_asked(tmp_path: Path) -> None:
    with Exporter(tmp_path, "limits: {models: 1}") as exporter:
        exporter.book(event(model="gpt-4o"), event(model="gpt-4o-mini"), event())
        assert exporter.value("llm_unpriced_pending_tokens", model="other") == 1100
        # gpt-4o: 1,000 x 2.50 + 100 x 10 per million; deepseek-chat: 1,000 x 0.27 + 100 x 1.10
        assert exporter.spend() == Decimal("0.0035") + Decimal("0.00038")


def test_the_price_in_force_is_published_by_the_clock(tmp_path: Path) -> None:
    with Exporter(tmp_path, DEEPSEEK_2025, now=at("2027-01-15T16:29:00")) as exporter:
        exporter.book(event(model="gpt-4o"), event(model="gemini-3.6-flash", provider="google"))

        def price(model: str, kind: str = "input") -> float | None:
            return exporter.value("llm_price_usd_per_million_tokens", model=model, type=kind)

        assert price("deepseek-chat") == 0.27
        assert price("deepseek-chat", "cached_input") == 0.07
        assert price("gpt-4o", "output") == 10
        assert price("gemini-3.6-flash") == 1.5
        exporter.clock.advance(60)
        assert price("deepseek-chat") == 0.135
    with Exporter(tmp_path, "", now=at("2027-01-16T12:00:00")) as exporter:
        page = exporter.page()
        seen = {dict(key[1])["model"] for key in page if key[0].startswith("llm_price_")}
        assert seen == {"deepseek-chat", "gpt-4o", "gemini-3.6-flash"}
