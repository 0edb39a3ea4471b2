"""Prometheus restarted, which promtool cannot model: the real binaries, exporter up and down."""

import time
from pathlib import Path

import pytest

from tests.support.loop import LIMIT, Loop
from tests.support.waiting import until


def value(loop: Loop, expression: str) -> float | None:
    """The value of a query with one sample; None without any."""
    vector = loop.query(expression)
    return float(vector[0]["value"][1]) if vector else None


def restart(loop: Loop) -> None:
    loop.bundle.prometheus.kill()
    loop.bundle.prometheus.start()
    loop.bundle.prometheus.wait_ready()


def evaluated_since(loop: Loop, record: str, then: float) -> float | None:
    """Its timestamp, if the rule was evaluated after a moment."""
    return value(loop, f"timestamp({record}) > {then}")


def test_a_restart_moves_no_figure_and_lifts_no_level(tmp_path: Path) -> None:
    with Loop(tmp_path) as loop:
        loop.spend_to(LIMIT * 80 // 100)
        loop.wait_level("control")
        restart(loop)
        until(
            lambda: value(loop, 'llm_degradation_wanted{degradation="control"}') == 1,
            what="evidence after the restart",
        )
        assert value(loop, "budget:llm_utilization:ratio") == pytest.approx(0.8)
        assert {change["level"] for change in loop.audit()} == {"none", "control"}

        # The same while the exporter is away: its spend is remembered, and proves nothing.
        loop.bundle.exporter.kill()
        restart(loop)
        until(
            lambda: value(loop, 'up{job="llm-exporter"}') == 0,
            what="a scrape of the dead exporter",
        )
        seen_down = time.time()
        asked = 'budget:llm_degradation:asked{alert="LLMBudgetWarning"}'
        until(
            lambda: evaluated_since(loop, asked, seen_down + 2),
            what="evaluations after that scrape",
        )
        assert value(loop, asked) == 1
        assert value(loop, "budget:llm_utilization:ratio") == pytest.approx(0.8)
        # What was recorded before the kill is still shown, but it is no fresh evidence.
        assert evaluated_since(loop, "llm_degradation_wanted", seen_down + 1) is None
        assert loop.level() == "control"

        loop.bundle.exporter.start()
        loop.bundle.exporter.wait_ready()
        loop.spend_to(LIMIT)
        loop.wait_level("fallback")
