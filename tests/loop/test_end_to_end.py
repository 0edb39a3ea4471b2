"""The loop closes: real prometheus and alertmanager, a real trace, the exact config at each level.

The expected configs are worked out by hand from the runbook's steps, not computed with the ladder.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests

from command.paths import BASELINE
from command.stack.processes import Child
from common.yamlfile import read_document
from demo import processes
from demo.trace import read_trace
from tests.support.dashboard_data import ask_everything
from tests.support.loop import INTERVAL_SECONDS, LIMIT, Call, Loop, batches
from tests.support.waiting import until

CHEAP = ("weight", "roast", "process")  # baseline threshold 0.70
MIDDLE = ("species", "variety", "geographic")  # 0.75
DEAR = ("tags", "notes", "sensory")  # 0.80
FIELDS = CHEAP + MIDDLE + DEAR


def thresholds(cheap: str, middle: str, dear: str, dear_enabled: bool = True) -> dict[str, Any]:
    rows = ((CHEAP, cheap, True), (MIDDLE, middle, True), (DEAR, dear, dear_enabled))
    return {
        name: {"enabled": enabled, "confidence_threshold": Decimal(value)}
        for names, value, enabled in rows
        for name in names
    }


def expected(level: str) -> dict[str, Any]:
    """The effective config at a level, by hand."""
    config: dict[str, Any] = deepcopy(read_document(BASELINE))
    if level == "none":
        return config
    config |= {
        "enable_dynamic_rate_limiting": True,
        "rate_limit_adjustment_factor": Decimal("0.1"),
        "enable_cost_aware_processing": True,
        "cost_threshold_per_request": Decimal("0.05"),
        "enable_smart_batching": True,
        "batch_optimization_threshold": Decimal("0.8"),
        "enable_field_prioritization": True,
        "field_priority_order": list(FIELDS),
        "batch_size": 5,
        "field_configs": thresholds("0.75", "0.80", "0.85"),
        "enable_caching": True,
        "cache_ttl_seconds": 7200,
        "enable_request_queuing": True,
        "max_queue_size": 100,
        "daily_budget_limit": Decimal("50.0"),
    }
    if level == "control":
        return config
    # +0.1 up to 0.90: the dearest fields stop at the cap.
    config |= {
        "rate_limit_per_minute": 30,
        "field_configs": thresholds("0.85", "0.90", "0.90", dear_enabled=False),
    }
    if level == "emergency":
        return config
    config |= {
        "enable_graceful_degradation": True,
        "fallback_to_deterministic": True,
        "fallback_threshold": Decimal("0.5"),
        "enabled": False,
    }
    assert level == "fallback"
    return config


@pytest.fixture(scope="module")
def turn() -> datetime:
    """The start of the next budget day: a whole minute at least 50 s away."""
    soonest = datetime.now(UTC) + timedelta(seconds=50)
    return soonest.replace(second=0, microsecond=0) + timedelta(minutes=1)


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory, turn: datetime) -> Iterator[Loop]:
    with Loop(tmp_path_factory.mktemp("loop"), day_starts_at=f"{turn:%H:%M}") as running:
        yield running


@pytest.fixture(scope="module")
def trace() -> list[Call]:
    return [
        Call(call.prompt_tokens, call.prompt_tokens // 4, call.completion_tokens)
        for call in read_trace()
    ]


def spend_from_trace(loop: Loop, trace: list[Call], below: int) -> None:
    """Report calls of the trace while the sum stays below that many pico-dollars."""
    chosen, total = [], loop.sent
    for call in trace[loop.calls :]:
        if total + call.picodollars >= below:
            break
        chosen.append(call)
        total += call.picodollars
    for batch in batches(chosen, 100):
        loop.send(batch)


def test_the_whole_loop_on_a_real_trace(
    loop: Loop, trace: list[Call], turn: datetime, capsys: pytest.CaptureFixture[str]
) -> None:
    assert loop.effective() == expected("none")
    latencies = []
    for percent, alert, level in (
        (50, "LLMBudgetHalfSpent", None),
        (75, "LLMBudgetWarning", "control"),
        (90, "LLMBudgetCritical", "emergency"),
        (100, "LLMBudgetExhausted", "fallback"),
    ):
        threshold = LIMIT * percent // 100
        spend_from_trace(loop, trace, below=threshold - 10**9)
        # Exactly 50, 75, 90 % is not above it; exactly 100 % is exhausted.
        at_threshold = threshold if percent == 100 else threshold + 10**6
        crossed = loop.spend_to(at_threshold)
        if level is None:
            until(lambda name=alert: name in loop.firing(), what=alert)
            assert loop.effective() == expected("none")
            continue
        applied = loop.wait_level(level)
        assert loop.effective() == expected(level)
        until(lambda name=alert: name in loop.firing(), what=alert)
        latencies.append((percent, level, applied - crossed))

    assert_books_are_exact(loop)
    assert loop.query("budget:llm_spend_usd:today")[0]["value"][1] == "1"

    with scraping(loop) as provider:
        settled = loop.status()["requests"]
        until(lambda: loop.status()["requests"] > settled + 100, what="products parsed without LLM")
        assert served(provider)["requests"] == 0, "the scraper spends after exhaustion"
        assert_books_are_exact(loop)

        until(lambda: time.time() >= turn.timestamp(), timeout=130, what="the new day", every=0.2)
        # The level and the one roaster's tuning each go on evidence of their own.
        until(lambda: loop.effective() == expected("none"), what="the config of the new day")
        restored = time.monotonic()
        assert loop.level() == "none"
        until(lambda: served(provider)["requests"] > 50, what="calls on the new day")
    until(
        lambda: Decimal(loop.status()["spend_usd"]).scaleb(12) == cost(served(provider)),
        what="the new day's spend equal to what the provider served",
    )
    provider.stop()
    with capsys.disabled():
        print("\ncrossing call acknowledged -> effective config applied")
        for percent, level, seconds in latencies:
            print(f"  {percent:3d} %  {level:10s} {seconds:6.3f} s")
        late = restored - (time.monotonic() - time.time() + turn.timestamp())
        print(f"  new day -> restored    {late:6.3f} s  (floor: {2 * INTERVAL_SECONDS} s)")


def test_every_panel_and_variable_of_the_dashboards_has_data_or_a_reason(loop: Loop) -> None:
    """In the loop above, after its day has turned."""
    ask_everything(loop, timeout=30)


@contextmanager
def scraping(loop: Loop) -> Iterator[Child]:
    """The simulated scraper at work against the provider, which stays for questions afterwards."""
    provider = processes.provider(loop.bundle)
    provider.start()
    loop.children.append(provider)
    provider.wait_ready()
    scraper = processes.scraper(loop.bundle, provider, speed=60)
    scraper.start()
    loop.children.append(scraper)
    yield provider
    assert scraper.stop() == 0, "it reports what it called before it ends"


def served(provider: Child) -> dict[str, int]:
    """What the provider really served, by its own count."""
    return dict(requests.get(f"{processes.provider_url(provider)}/sim/usage", timeout=10).json())


def cost(usage: dict[str, int]) -> int:
    """Pico-dollars of the provider's own totals."""
    return Call(
        usage["prompt_tokens"], usage["cached_tokens"], usage["completion_tokens"]
    ).picodollars


def assert_books_are_exact(loop: Loop) -> None:
    """The ledger's own rows and /api/v1/status both say what the trace's arithmetic says."""
    assert Decimal(loop.status()["spend_usd"]).scaleb(12) == loop.sent
    path = loop.bundle.folder / "ledger" / "ledger.sqlite"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as ledger:
        (total,) = ledger.execute("SELECT sum(cost_picodollars) FROM accounts").fetchone()
    assert total == loop.sent
