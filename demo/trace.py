"""The real trace: times and tokens of 8,819 calls (see demo/data/README.md), as tasks."""

import csv
import gzip
from datetime import datetime
from pathlib import Path

from demo.pipeline import FIELDS, PRODUCTS, ROASTERS, Task, digest

FILE = Path(__file__).resolve().parent / "data" / "azure_llm_2023_code.csv.gz"


def read_trace() -> list[Task]:
    """In order of arrival, spread over roasters, fields and products, the same each time."""
    with gzip.open(FILE, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    times = [datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in rows]
    return [
        Task(
            (time - times[0]).total_seconds(),
            ROASTERS[index % len(ROASTERS)],
            FIELDS[index // len(ROASTERS) % len(FIELDS)],
            int(digest(f"{row['ContextTokens']} {index % 7}") * PRODUCTS),
            int(row["ContextTokens"]),
            int(row["GeneratedTokens"]),
        )
        for index, (time, row) in enumerate(zip(times, rows, strict=True))
    ]
