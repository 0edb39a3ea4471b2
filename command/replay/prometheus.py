"""A Prometheus over backfilled blocks: fed by promtool, asked by range queries, gone afterwards."""

import subprocess
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from command.replay.history import MINUTES_PER_DAY, SLOT_MINUTES, History
from command.replay.rulefiles import Rule, document
from command.stack.binaries import need
from command.stack.processes import Child, free_port
from common import names
from common.errors import UserError
from common.fetch import fetch
from common.money import usd
from common.yamlfile import dump

# A midnight (UTC) that is past in every time zone; rules see only differences.
FIRST_MIDNIGHT = 1_600_041_600
LEDGER = f'job="{names.JOB_EXPORTER}",instance="backtest",{names.LEDGER}="backtest"'
DAY_SECONDS = 60 * MINUTES_PER_DAY
MAX_POINTS = 10_000  # Prometheus refuses a range query of more than 11,000
BLOCK = "162h"  # of the lengths that blocks have, the longest that one query fills every minute
MAX_ANSWER_BYTES = 1 << 30
QUERY_TIMEOUT_SECONDS = 300


class ReplayPrometheus:
    """The data of one replay; start() again after each fill, because blocks are read at start."""

    def __init__(self, folder: Path, interval_minutes: int) -> None:
        self.folder = folder
        self.interval = 60 * interval_minutes
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        config = folder / "prometheus.yml"
        config.write_text("{}\n")
        argv = [
            need("prometheus"), f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
            "--storage.tsdb.retention.time=100y", "--log.level=warn",
            # Nothing ends a series here: the last day's must not be seen beside the new one's.
            f"--query.lookback-delta={self.interval}s",
            f"--query.timeout={QUERY_TIMEOUT_SECONDS}s", "--query.max-samples=500000000",
        ]  # fmt: skip
        self._child = Child("prometheus", argv, folder / "prometheus.log", f"{self.url}/-/ready")

    def start(self) -> None:
        """Start, or start again, and read the blocks."""
        self.close()
        self._child.start()
        self._child.wait_ready()

    def close(self) -> None:
        """End it; safe to call twice."""
        self._child.stop()

    def fill_metrics(self, history: History, limit_usd: str) -> None:
        """Blocks of an exporter that lived through a history: OpenMetrics, a sample every interval.

        Rules that read other metrics have nothing to say in a replay.
        """
        path = self.folder / "history.txt"
        with open(path, "w", encoding="utf-8") as file:
            booked = 0
            for number in range(history.days):
                file.writelines(_day(history, number, booked, limit_usd, self.interval // 60))
                booked += sum(history.day(number))
            file.write("# EOF\n")
        self._promtool("openmetrics", str(path), str(self.folder / "data"))
        path.unlink()

    def fill_rules(self, rules: list[Rule], end: int) -> None:
        """Blocks of what recording rules say, from the first midnight to end (Unix seconds)."""
        # Relative: the second at which a group runs is a hash of the path, and is to stay.
        path = Path("rules.yml")
        (self.folder / path).write_bytes(dump(document(rules), path))
        self._promtool(
            "rules", f"--url={self.url}", f"--start={FIRST_MIDNIGHT}", f"--end={end}",
            f"--eval-interval={self.interval}s", f"--output-dir={self.folder / 'data'}", str(path),
        )  # fmt: skip

    def values(self, expression: str, end: int) -> dict[int, float]:
        """A range query: values of its series by minutes since the first midnight.

        Asked just before the next sample, so that all rules had their turn on the minute's.
        """
        found = {}
        late = self.interval - 1
        for start in range(FIRST_MIDNIGHT, end, MAX_POINTS * self.interval):
            stop = min(start + (MAX_POINTS - 1) * self.interval, end - 1)
            times = {"start": start + late, "end": stop + late, "step": self.interval}
            answer = fetch(
                f"{self.url}/api/v1/query_range",
                params={"query": expression, **{name: str(time) for name, time in times.items()}},
                timeout=QUERY_TIMEOUT_SECONDS,
                max_bytes=MAX_ANSWER_BYTES,
            )
            for series in answer.decode(dict[str, Any])["data"]["result"]:
                for time, value in series["values"]:
                    found[(int(time) - late - FIRST_MIDNIGHT) // 60] = float(value)
        return found

    def _promtool(self, kind: str, *arguments: str) -> None:
        argv = [
            need("promtool"), "tsdb", "create-blocks-from", f"--max-block-duration={BLOCK}",
            "--quiet", kind, *arguments,
        ]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, cwd=self.folder)
        if done.returncode != 0:
            output = " ".join((done.stdout + done.stderr).split()[-40:])
            raise UserError(f"promtool could not make blocks from {kind}: {output}")


def _day(
    history: History, number: int, booked: int, limit_usd: str, step_minutes: int
) -> Iterator[str]:
    """The samples of a day, as far as a replay's rules read them. booked: before it."""
    start = FIRST_MIDNIGHT + DAY_SECONDS * number
    spent, past = _sums(history.day(number)), history.before(number)
    day = f'{LEDGER},{names.DAY}="{start}"'
    steady = [
        (names.LEDGER_INFO, LEDGER, 1),
        (names.DAY_START, day, start), (names.DAY_END, day, start + DAY_SECONDS),
        (names.DAILY_LIMIT, day, limit_usd), (names.GRANTED, day, 0), (names.WRITTEN_OFF, day, 0),
    ]  # fmt: skip
    courses = {f'{day},{names.DAYS_AGO}="{ago}"': _sums(costs) for ago, costs in past.items()}
    for ago, (labels, sums) in zip(past, courses.items(), strict=True):
        steady.append((names.HISTORY_DAY_START, labels, start - DAY_SECONDS * ago))
        steady.append((names.HISTORY_SPEND, f'{labels},{names.BY}="end"', usd(sums[-1])))
    for minute in range(0, len(spent) - 1, step_minutes):
        moving = [
            (names.HISTORY_SPEND, f'{labels},{names.BY}="0"', usd(_by_slots(sums, minute)))
            for labels, sums in courses.items()
        ]
        moving.append((names.LEDGER_COST, LEDGER, usd(booked + spent[minute])))
        moving.append((names.LEDGER_SPEND, day, usd(spent[minute])))
        for name, labels, value in (*steady, *moving):
            yield f"{name}{{{labels}}} {value} {start + 60 * minute}\n"


def _sums(costs: list[int]) -> list[int]:
    """What was spent by each minute's beginning, and at the end."""
    return list(accumulate(costs, initial=0))


def _by_slots(sums: list[int], minute: int) -> int:
    """What was spent by a minute, as a ledger knows it: evenly within five minutes."""
    rest = minute % SLOT_MINUTES
    begin, end = sums[minute - rest], sums[minute - rest + SLOT_MINUTES]
    return begin + (end - begin) * rest // SLOT_MINUTES
