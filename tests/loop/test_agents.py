"""A pair of agents in one store that does not deduplicate, and an exporter that vanishes from it.

The other engines and intervals are in tests/long/faults/test_engines.py.
"""

import os
import signal
from pathlib import Path

from command.stack import configs
from tests.support.engines import Agents
from tests.support.loop import LIMIT, Loop
from tests.support.waiting import until

COMPLETE = "budget:llm_evidence:complete == 1"


def reconfigure_lone(agents: Agents, *, listed: bool) -> None:
    """With or without its target. The job stays: one that goes leaves no mark of it."""
    config = agents.agent_config("lone", agents.prometheus_config()["scrape_configs"])
    if not listed:
        config["scrape_configs"][0]["static_configs"] = []
    configs.write(agents.folder / "agent-lone.yml", config)
    os.kill(agents.agents["lone"].pid, signal.SIGHUP)


def evaluated(loop: Loop, times: int) -> None:
    """Wait for so many evaluations of the evidence."""
    then = loop.query("timestamp(budget:llm_evidence:complete)")[0]["value"][1]
    later = f"timestamp(budget:llm_evidence:complete) >= {float(then) + times * loop.interval}"
    until(lambda: loop.query(later), what=f"{times} evaluations")


def test_a_replica_pair_raises_holds_without_a_ledger_and_lowers_with_it(tmp_path: Path) -> None:
    with Loop(tmp_path, kind=Agents) as loop:
        agents = loop.bundle
        assert isinstance(agents, Agents)
        loop.spend_to(LIMIT * 40 // 100, to="second")
        loop.spend_to(LIMIT * 80 // 100)
        loop.wait_level("control")
        copies = loop.query("count by (replica) (llm_ledger_info)")
        assert len(copies) == 3, "each replica's series are there beside the others'"

        reconfigure_lone(agents, listed=False)  # nobody hears of that ledger any more
        until(lambda: not loop.query(COMPLETE), what="evidence that is incomplete")
        loop.grant("1")
        until(lambda: loop.query("budget:llm_utilization:ratio == 0.4"), what="the grant")
        evaluated(loop, times=4)  # the hold is 3 s
        assert loop.level() == "control"
        assert not loop.unwell()

        reconfigure_lone(agents, listed=True)
        loop.wait_level("none")  # as the grant waits for no hold
