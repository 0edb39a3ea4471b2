"""A Prometheus that lost its data foretells the day at its second evaluation as before."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from command.stack import configs
from command.stack.binaries import need
from command.stack.processes import Child, free_port
from common import names
from common.yamlfile import dump
from tests.support.dashboard_data import UNFORETOLD
from tests.support.dashboards import FILES, asked, filled_in
from tests.support.fact_pages import DAY, TEN, history, served
from tests.support.forecasts import Past, formula
from tests.support.waiting import until

SPENT, ELAPSED = 15.0, 6 * 3600
FORETOLD = ("budget:llm_forecast_usd:today", "budget:llm_forecast_usd:low",
            "budget:llm_forecast_usd:high", "budget:llm_forecast:ratio",
            'budget:llm_exhaustion:part{case="earliest"}')  # fmt: skip
EACH_EVALUATION = "budget:llm_day_memory:ratio"  # a constant in the forecast's group


@pytest.fixture
def exporter() -> Iterator[str]:
    """HOST:PORT of one at six in the morning of a day that it has spent $15 of."""
    start = int(time.time()) - ELAPSED
    day = f'ledger="aaaa",day="{start}"'
    today: dict[str, float] = {
        f'{names.LEDGER_INFO}{{ledger="aaaa"}}': 1,
        f"{names.LEDGER_SPEND}{{{day}}}": SPENT,
        f"{names.DAY_START}{{{day}}}": start,
        f"{names.DAY_END}{{{day}}}": start + DAY,
        f"{names.DAILY_LIMIT}{{{day}}}": 60,
        f"{names.GRANTED}{{{day}}}": 0,
        f"{names.WRITTEN_OFF}{{{day}}}": 0,
    }
    with served({**today, **history("aaaa", start)}) as address:
        yield address


@pytest.fixture
def prometheus(exporter: str, tmp_path: Path) -> Iterator[Child]:
    nobody = f"127.0.0.1:{free_port()}"
    addresses = dict.fromkeys(("receiver", "prometheus", "alertmanager"), nobody)
    config = configs.prometheus_config({**addresses, "exporter": exporter}, interval="1s")
    path = tmp_path / "prometheus.yml"
    path.write_bytes(dump(config, path))
    address = f"127.0.0.1:{free_port()}"
    argv = [need("prometheus"), f"--config.file={path}", f"--web.listen-address={address}"]
    argv.append(f"--storage.tsdb.path={tmp_path / 'data'}")
    child = Child("prometheus", argv, tmp_path / "log", f"http://{address}/-/ready")
    yield child
    child.stop()


def instant(prometheus: Child, expression: str) -> list[Any]:
    """A vector of now."""
    url = prometheus.ready_url.replace("/-/ready", "/api/v1/query")
    answer = requests.get(url, {"query": expression}, timeout=10).json()
    found: list[Any] = answer["data"]["result"]
    return found


def samples(prometheus: Child, series: str) -> list[tuple[float, float]]:
    """(time, value) of all that it has of a series."""
    found = instant(prometheus, f"{series}[10m]")
    return [(moment, float(value)) for one in found for moment, value in one["values"]]


def second_evaluation(prometheus: Child) -> list[float]:
    """What the forecast's group says when it is evaluated the second time after a scrape."""
    prometheus.start()
    prometheus.wait_ready()
    facts = f'{names.HISTORY_SPEND}{{days_ago="28",by="24"}}'
    until(lambda: samples(prometheus, facts), what="a scrape")
    first_scrape = samples(prometheus, facts)[0][0]

    def evaluations() -> list[float]:
        return [at for at, _ in samples(prometheus, EACH_EVALUATION) if at > first_scrape]

    until(lambda: len(evaluations()) > 2, what="evaluations")
    second = evaluations()[1]
    return [dict(samples(prometheus, series))[second] for series in FORETOLD]


def test_a_wiped_prometheus_foretells_the_same_at_its_second_evaluation(
    prometheus: Child, tmp_path: Path
) -> None:
    second_evaluation(prometheus)
    kept = [samples(prometheus, series)[-1][1] for series in FORETOLD]
    for query in (query for path in FILES for query in asked(path)):
        if (query.panel, query.legend) in UNFORETOLD or query.panel == "Past days":
            assert instant(prometheus, filled_in(query.expression)), query
    prometheus.stop()
    shutil.rmtree(tmp_path / "data")
    assert second_evaluation(prometheus) == pytest.approx(kept, rel=1e-6)
    expected = formula([Past(ago, all_, now / all_) for ago, (all_, now) in TEN.items()], SPENT)
    assert kept[:3:2] == pytest.approx([expected.usd, expected.high], rel=1e-6)
