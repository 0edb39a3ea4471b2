"""The log's line of what today has cost; the document is tested over HTTP and by the rules."""

from pathlib import Path

from exporter.web.status import spend_line
from tests.support.exporters import NOON, Exporter, event

DAY = 86_400


def test_the_line_has_todays_cost_utilization_and_tokens(tmp_path: Path) -> None:
    with Exporter(tmp_path, "budget: {daily_limit_usd: 0.01}") as exporter:
        nothing = "cost_usd=0 budget_utilization=0.0000 tokens=0 unpriced_tokens=0"
        assert spend_line(exporter.parts) == nothing
        exporter.book(event(at=NOON - DAY), event(), event(model="nobody's", prompt=7))
        # 1,000 x $0.00027 + 100 x $0.0011 a thousand; 1,100 tokens, and 107 that have no price.
        assert spend_line(exporter.parts) == (
            "cost_usd=0.00038 budget_utilization=0.0380 tokens=1207 unpriced_tokens=107"
        )
        exporter.clock.advance(DAY)
        assert spend_line(exporter.parts) == nothing.replace(
            "unpriced_tokens=0", "unpriced_tokens=107"
        )


def test_a_restart_and_forgotten_days_change_no_line(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.book(*(event(at=NOON - days * DAY) for days in range(20)))
        line = spend_line(exporter.parts)
    with Exporter(tmp_path) as again:
        assert spend_line(again.parts) == line
        assert "tokens=1100 " in line
