"""A Prometheus that lost its data foretells the day at its second evaluation as before."""

import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from command.stack import configs
from command.stack.binaries import need
from command.stack.processes import Child, free_port
from common import names
from common.yamlfile import dump
from tests.support.forecasts import Past, formula
from tests.support.waiting import until

SPENT, ELAPSED, DAY = 15.0, 6 * 3600, 86_400
TEN = {1: (40, 10), 2: (44, 12), 3: (36, 8), 4: (90, 20), 5: (41, 9), 6: (15, 4), 7: (22, 6),
       14: (21, 5), 21: (25, 7), 28: (23, 6)}  # fmt: skip
FORETOLD = ("budget:llm_forecast_usd:today", "budget:llm_forecast_usd:low",
            "budget:llm_forecast_usd:high", "budget:llm_forecast:ratio",
            'budget:llm_exhaustion:part{case="earliest"}')  # fmt: skip
EACH_EVALUATION = "budget:llm_day_memory:ratio"  # a constant in the forecast's group


def page() -> str:
    """What an exporter says at six in the morning of a day that it has spent $15 of."""
    start = int(time.time()) - ELAPSED
    day = f'ledger="aaaa",day="{start}"'
    figures: dict[str, float] = {
        f'{names.LEDGER_INFO}{{ledger="aaaa"}}': 1,
        f"{names.LEDGER_SPEND}{{{day}}}": SPENT,
        f"{names.DAY_START}{{{day}}}": start,
        f"{names.DAY_END}{{{day}}}": start + DAY,
        f"{names.DAILY_LIMIT}{{{day}}}": 60,
        f"{names.GRANTED}{{{day}}}": 0,
        f"{names.WRITTEN_OFF}{{{day}}}": 0,
    }
    for ago, (total, by_now) in TEN.items():
        past = f'{day},{names.DAYS_AGO}="{ago}"'
        figures[f"{names.HISTORY_DAY_START}{{{past}}}"] = start - DAY * ago
        figures[f'{names.HISTORY_SPEND}{{{past},by="end"}}'] = total
        for hours in range(0, 25, 2):
            spent = min(total, by_now + (total - by_now) * hours / 18)
            figures[f'{names.HISTORY_SPEND}{{{past},by="{hours}"}}'] = spent
    return "".join(f"{series} {value}\n" for series, value in figures.items())


@pytest.fixture
def exporter() -> Iterator[str]:
    """HOST:PORT of a page that stays as it is."""
    body = page().encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


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


def samples(prometheus: Child, series: str) -> list[tuple[float, float]]:
    """(time, value) of all that it has of a series."""
    url = prometheus.ready_url.replace("/-/ready", "/api/v1/query")
    answer = requests.get(url, {"query": f"{series}[10m]"}, timeout=10).json()
    found = answer["data"]["result"]
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
    prometheus.stop()
    shutil.rmtree(tmp_path / "data")
    assert second_evaluation(prometheus) == pytest.approx(kept, rel=1e-6)
    expected = formula([Past(ago, all_, now / all_) for ago, (all_, now) in TEN.items()], SPENT)
    assert kept[:3:2] == pytest.approx([expected.usd, expected.high], rel=1e-6)
