"""Every interval, a late ruler, agents: raised in time, held, lowered, and one step at a day turn.

docs/scaling.md has the seconds; `make test-faults` renews them.
"""

from pathlib import Path

import pytest

from tests.support.engines import Agents
from tests.support.loop import LIMIT, Loop
from tests.support.timings import PROMETHEUS, VMALERT, measure_all
from tests.support.versions import NEWEST, fetched
from tests.support.waiting import until


@pytest.mark.timeout(3600)
def test_each_engine_rules_in_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All at once, as most of it is waiting: half an hour, for the day turns that late."""
    fetched(NEWEST)  # for rule_query_offset, and for vmalert
    timings = measure_all(tmp_path, (*PROMETHEUS, *VMALERT))
    with capsys.disabled():
        print("", *(timing.row for timing in timings), sep="\n")


@pytest.mark.timeout(900)
def test_an_agent_that_dies_takes_its_ledgers_evidence_and_is_told(tmp_path: Path) -> None:
    """Its series stay visible for five minutes; the evidence goes before, the alert comes after."""
    with Loop(tmp_path, kind=Agents) as loop:
        bundle = loop.bundle
        assert isinstance(bundle, Agents)
        loop.spend_to(LIMIT * 40 // 100, to="second")
        loop.spend_to(LIMIT * 80 // 100)
        loop.wait_level("control")
        bundle.lose_second()
        incomplete = "budget:llm_evidence:complete == 0"
        until(lambda: loop.query(incomplete), timeout=200, what="evidence that is incomplete")
        loop.grant("1")
        until(lambda: "LLMLedgerAway" in loop.firing(), timeout=480, what="LLMLedgerAway")
        assert loop.query("budget:llm_utilization:ratio == 0.4"), "the ledger's spend still counts"
        assert loop.level() == "control"
        bundle.find_second()
        loop.wait_level("none")
