"""What the rules cost: a real Prometheus, 2,000 roaster-field-model series, a week of history.

`make bench`, or python -m tests.benchmarks.rules. The exporter is the real one; beside it a page
tells of ten past days, which a new ledger does not have. What the rules look back on is written as
blocks first, so that a range over 26 hours finds 26 hours.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import requests
from rich.console import Console
from rich.table import Table

from command.stack import configs
from command.stack.binaries import need
from command.stack.bundle import Bundle
from command.stack.configs import Ports
from tests.support import fact_pages
from tests.support.fact_pages import TEN, served

ROASTERS, FIELDS = 200, 10
EVENTS_PER_REQUEST = 500
WATCH_SECONDS = 150  # thirty evaluations, and two of the groups that run once a minute
DAY, MINUTE, INTERVAL = 86400, 60, 5
# What is looked back on, by how far and how densely: a row a ledger, a roaster, a field.
BY_LEDGER = (
    "ledger:llm_cost_usd:total", "ledger:llm_cost_usd:held", "ledger:llm_cost_usd:day_start",
    "ledger:llm_day_start:timestamp_seconds", "ledger:llm_calls:total",
    "ledger:llm_requests:total", "ledger:llm_unpriced_tokens:pending",
    "ledger:llm_late_cost_usd:total", "budget:llm_day_start:timestamp_seconds",
)  # fmt: skip
BY_DAY = (
    "ledger_day:llm_spend_usd:live", "ledger_day:llm_granted_usd:live",
    "ledger_day:llm_written_off_usd:live", "budget_day:llm_limit_usd:live",
)  # fmt: skip
BY_ROASTER_A_DAY = (
    "ledger_roaster:llm_spend_usd:minute", "ledger_roaster:llm_history_usd:7d",
    "ledger_roaster:llm_history:days", "ledger_roaster:llm_cost_usd:week_ago",
)  # fmt: skip
BY_PAST_DAY = ("budget:llm_past_day_age:held",)
BY_PAST_DAY_AND_HOUR = ("ledger_day:llm_history_usd:minute",)
BY_ROASTER_A_WEEK = ("ledger_roaster:llm_cost_usd:day_start",)


def history(ledger: str, now: int) -> Iterator[str]:
    """OpenMetrics text: every series grows by its own timestamps' share of a dollar a minute."""
    for name in BY_LEDGER:
        yield from _family(name, [f'ledger="{ledger}"'], range(now - 8 * DAY, now, INTERVAL))
    for name in BY_DAY:
        days = [f'ledger="{ledger}",day="{now // DAY * DAY}"']
        yield from _family(name, days, range(now - 26 * 3600, now, INTERVAL))
    ages = [f'days_ago="{ago}"' for ago in TEN]
    for name in BY_PAST_DAY:
        yield from _family(name, ages, range(now - 26 * 3600, now, MINUTE))
    day = f'ledger="{ledger}",day="{now // DAY * DAY}"'
    facts = [f'{day},{age},by="{by}"' for age in ages for by in (*range(0, 25, 2), "end")]
    for name in BY_PAST_DAY_AND_HOUR:
        yield from _family(name, facts, range(now - 26 * 3600, now, MINUTE))
    roasters = [f'ledger="{ledger}",roaster="r{number}"' for number in range(ROASTERS)]
    for name in BY_ROASTER_A_DAY:
        yield from _family(name, roasters, range(now - 26 * 3600, now, MINUTE))
    for name in BY_ROASTER_A_WEEK:
        yield from _family(name, roasters, range(now - 8 * DAY, now, MINUTE))
    yield "# EOF\n"


def _family(name: str, series: list[str], times: range) -> Iterator[str]:
    yield f"# TYPE {name} gauge\n"
    for labels in series:
        for moment in times:
            yield f"{name}{{{labels}}} {(moment - times.start) / 60000:.3f} {moment}\n"


def backfill(folder: Path, ledger: str) -> None:
    """The history as blocks in Prometheus' folder."""
    text = folder / "history.om"
    with open(text, "w") as file:
        file.writelines(history(ledger, int(time.time()) - 120))
    create = ["tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=192h"]
    argv = [need("promtool"), *create, str(text), str(folder / "prometheus")]
    done = subprocess.run(argv, capture_output=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr.decode())
    text.unlink()


def book(bundle: Bundle) -> None:
    """One call of each outcome for each roaster and field."""
    events = [
        {
            "id": f"{roaster}-{field}-{outcome}", "roaster": f"r{roaster}", "field": f"f{field}",
            "model": "deepseek-chat", "outcome": outcome,
            "usage": {"prompt_tokens": 800, "completion_tokens": 100},
        }
        for roaster in range(ROASTERS)
        for field in range(FIELDS)
        for outcome in ("success", "error")
    ]  # fmt: skip
    for start in range(0, len(events), EVENTS_PER_REQUEST):
        requests.post(
            f"{bundle.url('exporter')}/v1/usage",
            json=events[start : start + EVENTS_PER_REQUEST],
            headers={"Authorization": f"Bearer {bundle.token('ingest')}"},
            timeout=60,
        ).raise_for_status()


def query(bundle: Bundle, expression: str) -> list[dict[str, Any]]:
    answer = requests.get(
        f"{bundle.url('prometheus')}/api/v1/query", {"query": expression}, timeout=30
    )
    return list(answer.json()["data"]["result"])


def milliseconds(bundle: Bundle, operation: str) -> dict[str, float]:
    """Evaluation time by group over the watch, from what Prometheus says of itself."""
    # Above 0: a group that was not evaluated yet says 0.
    last = f"(prometheus_rule_group_last_duration_seconds > 0)[{WATCH_SECONDS}s:5s]"
    window = f"{operation}_over_time({last})"
    found = {}
    for sample in query(bundle, window):
        group = sample["metric"]["rule_group"].rpartition(";")[2]
        found[group] = float(sample["value"][1]) * 1000
    return found


def table(bundle: Bundle) -> Table:
    """By group: rules, interval, the least and the mean evaluation time, the mean's part of a core.

    The least is what the evaluation costs, the mean what it took on this machine.
    """
    groups = requests.get(f"{bundle.url('prometheus')}/api/v1/rules", timeout=30).json()
    least, mean = milliseconds(bundle, "min"), milliseconds(bundle, "avg")
    shown = Table("group", "rules", "interval s", "least ms", "mean ms", "of a core", box=None)
    load = 0.0
    for group in groups["data"]["groups"]:
        name, interval = group["name"], group["interval"]
        load += mean[name] / 1000 / interval
        times = (f"{least[name]:.1f}", f"{mean[name]:.1f}", f"{mean[name] / 1000 / interval:.2%}")
        shown.add_row(name, str(len(group["rules"])), f"{interval:g}", *times)
    shown.add_row("all", "", "", "", "", f"{load:.2%}")
    return shown


def main() -> int:
    """Run and print; takes about four minutes."""
    with tempfile.TemporaryDirectory(prefix="llm-budget-bench-") as name, ExitStack() as facts:
        bundle = Bundle(Path(name), ports=Ports.free())
        bundle.prepare()
        try:
            bundle.exporter.start()
            bundle.exporter.wait_ready()
            book(bundle)
            page = requests.get(f"{bundle.url('exporter')}/metrics", timeout=30).text
            ledger = page.partition('llm_ledger_info{ledger="')[2].partition('"')[0]
            backfill(bundle.folder, ledger)
            config = bundle.prometheus_config()
            config["scrape_configs"].append(
                {
                    "job_name": "facts",
                    "static_configs": [
                        {
                            "targets": [
                                facts.enter_context(
                                    served(
                                        fact_pages.history(ledger, int(time.time()) // DAY * DAY)
                                    )
                                )
                            ]
                        }
                    ],
                }
            )
            configs.write(bundle.folder / "prometheus.yml", config)
            bundle.prometheus.start()
            bundle.prometheus.wait_ready(120)
            time.sleep(WATCH_SECONDS)
            Console().print(f"{page.count('llm_cost_usd_total{')} series of roaster, field, model")
            Console().print(table(bundle))
            slow = query(bundle, "sum(prometheus_rule_group_iterations_missed_total)")
            Console().print(f"evaluations missed: {slow[0]['value'][1]}")
        finally:
            bundle.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
