"""The real trace: arrival times and token counts of 8,819 calls (see demo/data/README.md)."""

import csv
import gzip
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

FILE = Path(__file__).resolve().parent / "data" / "azure_llm_2023_code.csv.gz"


@dataclass(frozen=True)
class TraceCall:
    """One call; seconds since the first."""

    seconds: float
    prompt_tokens: int
    completion_tokens: int


def read_trace() -> list[TraceCall]:
    """All calls in order of arrival."""
    with gzip.open(FILE, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    times = [datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in rows]
    return [
        TraceCall(
            (time - times[0]).total_seconds(),
            int(row["ContextTokens"]),
            int(row["GeneratedTokens"]),
        )
        for time, row in zip(times, rows, strict=True)
    ]
