"""What a running loop answers to the dashboards, and why some of their queries have no answer."""

import math
import re
import time
from typing import Any

import pytest
import requests

from common import names
from common.clock import iso8601
from common.yamlfile import dump, read_document
from demo import processes
from tests.support.dashboards import FILES, asked, filled_in, variables
from tests.support.loop import Loop
from tests.support.waiting import until

Key = tuple[str, str]  # a panel's title and a query's legend

NO_MONTH = "no budget of a month is set"
NO_CAPS = "no roaster and no field has a cap"
NO_GRANT = "nothing was granted to a roaster alone"
NO_BALANCE = "the provider's balance is not polled"
SHARED_LIMITS = "rate_limits.scope is all: the roasters share the provider's limits"
YOUNG_BOOKS = "the ledger is minutes old and vouches for no past day"
YOUNG_RULES = "Prometheus has seen no week, no day and no six hours yet"
FIRST_HOUR = "a ledger without past days foretells from the day's second hour on"
NOT_JUDGED = "a level is judged ten minutes after its rise"

# Queries without an answer in a loop that was started just now with the tests' config.
WITHOUT_MONTH: dict[Key, str] = {
    ("Month", ""): NO_MONTH,
    ("Month's spend", "spent"): NO_MONTH,
    ("Month's spend", "expected"): NO_MONTH,
    ("Month's spend", "limit"): NO_MONTH,
}
WITHOUT_CAPS: dict[Key, str] = {
    ("Allocation and use of roasters", "cap"): NO_CAPS,
    ("Allocation and use of roasters", "granted"): NO_GRANT,
    ("Caps and use of fields", "cap"): NO_CAPS,
    ("Caps and use of fields", "used"): NO_CAPS,
}
WITHOUT_BALANCE: dict[Key, str] = {("Provider's balance", "balance"): NO_BALANCE}
UNFORETOLD: dict[Key, str] = dict.fromkeys(
    (
        ("Forecast", ""),
        ("Runs out", "expected"),
        ("Runs out", "earliest"),
        ("Forecast of the day's total", "forecast"),
        ("Forecast of the day's total", "low"),
        ("Forecast of the day's total", "high"),
    ),
    FIRST_HOUR,
)
YOUNG: dict[Key, str] = {
    ("Past days", "{{days_ago}} days ago"): YOUNG_BOOKS,
    ("Seven days", "{{roaster}}, mean day"): YOUNG_RULES,
    ("Trend", "today / mean"): YOUNG_RULES,
    ("Drift of the books", "provider less ledgers"): YOUNG_RULES,
    ("Request limits", "{{roaster}}, {{window}}"): SHARED_LIMITS,
    ("What the level saves", "{{entry}}: {{of}}"): NOT_JUDGED,
    ("What the level saves", "{{entry}}, calls not judged: {{reason}}"): NOT_JUDGED,
}


def silent(loop: Loop, **chosen: str) -> set[Key]:
    """The queries of all dashboards that have no answer now. Raises for one that is refused."""
    return {
        (query.panel, query.legend)
        for path in FILES
        for query in asked(path)
        if not numbers(loop, filled_in(query.expression, **chosen))
    }


def numbers(loop: Loop, expression: str) -> list[float]:
    """The values of its answer that can be shown."""
    values = [float(series["value"][1]) for series in loop.query(expression)]
    return [value for value in values if math.isfinite(value)]


def wait_for_all_but(loop: Loop, expected: set[Key], timeout: float) -> None:
    """Wait until exactly these are silent."""
    wrong: set[Key] = set()

    def as_expected() -> bool:
        wrong.clear()
        early = numbers(loop, "budget:llm_day_elapsed:seconds < 3600")
        wrong.update(silent(loop) ^ (expected | UNFORETOLD.keys() if early else expected))
        return not wrong

    try:
        until(as_expected, timeout, every=0.5)
    except AssertionError:
        pytest.fail(f"no data without a reason, or data beside a reason for none: {sorted(wrong)}")


def choices(loop: Loop) -> dict[str, list[str]]:
    """What each variable that is a query offers."""
    found: dict[str, list[str]] = {}
    for path in FILES:
        for name, variable in variables(path).items():
            if variable["type"] == "query":
                match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
                assert match, variable["query"]
                url = f"/api/v1/label/{match[2]}/values?match[]={match[1]}"
                found[name] = loop.get("prometheus", url)["data"]
    return found


def report_all_kinds(loop: Loop) -> None:
    """Usage of every kind that a panel shows: batches, avoided, unpriced, late and refused."""
    day_start = float(loop.query("budget:llm_day_start:timestamp_seconds")[0]["value"][1])
    events = [
        event(loop, batch_items=4, batch_slots=5, duration_seconds=1.5),
        event(loop, outcome="cached"),
        event(loop, outcome="fallback"),
        event(loop, outcome="error"),
        event(loop, model="nobody-prices-this"),
        event(loop, time=iso8601(day_start - 3600)),
        event(loop, outcome="lost"),
    ]
    answer = requests.post(
        f"{loop.bundle.url('exporter')}/v1/usage",
        json=events,
        headers={"Authorization": f"Bearer {loop.bundle.token('ingest')}"},
        timeout=30,
    )
    assert len(answer.json()["rejected"]) == 1, answer.text


def event(loop: Loop, **more: Any) -> dict[str, Any]:
    """A call of half a cent for another roaster."""
    loop.calls += 1
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_cache_hit_tokens": 200}
    plain = {"id": f"panel-{loop.calls}", "time": iso8601(time.time()), "outcome": "success"}
    named = {"roaster": "naivo", "field": "tags", "model": "deepseek-chat", "usage": usage}
    return {**plain, **named, **more}


def configure_caps_and_balance(loop: Loop) -> None:
    """A cap for a roaster and for a field, and a provider that tells its balance."""
    provider = processes.provider(loop.bundle)
    provider.start()
    loop.children.append(provider)
    provider.wait_ready()
    key = loop.bundle.folder / "provider_key"
    key.write_text("sk-no-real-key-at-all\n")
    budget = loop.bundle.budget
    document = read_document(budget)
    document["budget"].update(roasters={"naivo": 1}, fields={"tags": 1})
    url = f"{processes.provider_url(provider)}/user/balance"
    document["provider"] = {"balance_url": url, "key_file": str(key), "every_seconds": 1}
    budget.write_bytes(dump(document, budget))
    headers = {"Authorization": f"Bearer {loop.bundle.token('admin')}"}
    url = f"{loop.bundle.url('exporter')}/-/reload"
    requests.post(url, headers=headers, timeout=30).raise_for_status()


def ask_everything(loop: Loop, timeout: float) -> None:
    """Every query and variable of the dashboards: without and with caps and a balance.

    timeout: seconds; some rules are evaluated once a minute.
    """
    report_all_kinds(loop)
    until(lambda: numbers(loop, names.UNPRICED_PENDING), what="a scrape of it")
    report_all_kinds(loop)  # a rate needs a series that was there before it rose
    loop.grant("0.5")
    loop.reset()
    absent = {*WITHOUT_MONTH, *YOUNG}
    wait_for_all_but(loop, {*absent, *WITHOUT_CAPS, *WITHOUT_BALANCE}, timeout)
    configure_caps_and_balance(loop)
    loop.grant("0.01", roaster="naivo")
    wait_for_all_but(loop, absent, timeout)
    offered = choices(loop)
    assert {name: bool(values) for name, values in offered.items()} == dict.fromkeys(offered, True)
    assert "naivo" in offered["roaster"]
    chosen = {"roaster": "naivo", "field": "tags", "model": "deepseek-chat"}
    assert silent(loop, **chosen) - UNFORETOLD.keys() == absent
