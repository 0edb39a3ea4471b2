"""The real rules replayed: what they say is docs/forecast.md's formula, and good."""

import statistics
from decimal import Decimal
from itertools import accumulate

import pytest

from command.replay.history import History
from command.replay.judge import days, summary
from command.replay.replay import replay
from tests.benchmarks.forecast import alarms, composites, measured, shapes
from tests.support.forecasts import Past, formula

USD = 10**12


def test_the_real_rules_on_real_days_say_what_the_formula_says_and_are_good_at_it() -> None:
    history = History([cost for day in shapes() for cost in day])
    result = replay(history, Decimal(1), interval_minutes=10, alerts=False)
    spent = [[0, *accumulate(history.day(day))] for day in range(5)]
    for day in range(1, 5):
        before = [spent[day - back] for back in range(1, day + 1)]
        for hour in range(1, 24):
            past = [
                Past(ago, sums[-1] / USD, sums[60 * hour] / sums[-1])
                for ago, sums in enumerate(before, start=1)
            ]
            expected = formula(past, spent[day][60 * hour] / USD).usd
            # The replay's groups run at other seconds of the ten minutes.
            assert result.forecast[1440 * day + 60 * hour] == pytest.approx(expected, rel=0.02)
    assert summary(days(result))["mean_error"] <= 0.13


def test_on_composites_it_foretells_a_crossing_hours_ahead_without_false_alarms() -> None:
    """A quick part of make bench-forecast: every fifth day, two of which cross $25."""
    judged = days(measured(composites(step=5), 25, 10))
    errors = [error for day in judged for error in day.error.values()]
    leads, false, calm = alarms(judged)
    assert statistics.fmean(errors) <= 0.20
    assert (len(leads), calm) == (2, 3)
    assert statistics.median(leads) >= 9
    assert false == 0
