"""A replay judged: totals, crossings, errors, and what each alert was good for."""

from decimal import Decimal

import pytest

from command.replay.history import History
from command.replay.judge import days, summary
from command.replay.replay import Replay
from tests.support.replayed import PREDICTED, judged_example


def test_a_day_is_judged_by_its_total_its_crossing_and_its_own_alerts() -> None:
    first, second, third = days(judged_example())
    assert first.total_usd == pytest.approx(10, abs=0.01)
    assert first.error[1] == pytest.approx(0.25, abs=0.01)
    assert (first.crossed_minute, first.alerts[PREDICTED].false_alarm) == (None, True)
    assert second.crossed_minute == 1081
    firing = second.alerts[PREDICTED]
    assert (firing.first_minute, firing.episodes) == (60, 2), "yesterday's end is not today's start"
    assert firing.lead_hours == pytest.approx(1021 / 60)
    assert not firing.false_alarm
    assert (second.alerts["LLMBudgetWarning"].lead_hours or 0) < 0
    assert (third.complete, third.error, third.alerts) == (False, {}, {})


def test_the_summary_leaves_out_the_first_and_the_unfinished_day() -> None:
    figures = summary(days(judged_example()))
    assert figures["mean_error"] == pytest.approx(0.2, abs=0.01)
    assert figures["alerts"][PREDICTED] == {
        "days_crossed": 1,
        "days_foretold": 1,
        "median_lead_hours": pytest.approx(1021 / 60),
        "days_calm": 0,
        "false_alarm_days": 0,
    }
    assert summary([])["mean_error"] is None


def test_a_day_without_spend_has_no_relative_error() -> None:
    (day,) = days(Replay(History([0] * 1440), Decimal(1), 10, forecast={60: 0.0}))
    assert (day.total_usd, day.error, day.mean_error) == (0, {}, None)
