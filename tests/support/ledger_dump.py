"""A filled ledger of schema 1 as SQL, frozen: what every later version must still be able to read.

`python -m tests.support.ledger_dump` wrote tests/data/ledger_schema_1.sql and the page beside
it when schema 1 was the newest. Never write them again: older ledgers do not change.
"""

import re
import sqlite3
import tempfile
from pathlib import Path

from tests.support.golden_metrics import ROOT, page

SCHEMA_1 = ROOT / "tests" / "data" / "ledger_schema_1.sql"
BOOKS_1 = ROOT / "tests" / "data" / "ledger_schema_1.metrics"
BOOKS = ("llm_requests_", "llm_tokens_", "llm_cost_", "llm_batch_", "llm_estimated_", "llm_late_")
BOOKS += ("llm_unpriced_", "llm_budget_granted", "llm_budget_written", "llm_ledger_info")


def books(text: str, like: str = "") -> str:
    """The lines of a page that only the ledger decides; of the families in like, if it is given."""
    families = tuple({line.partition("{")[0].split()[0] for line in like.splitlines()}) or BOOKS
    # Since schema 1 some families have gained the ledger's id and the day as labels.
    text = re.sub(r'(?<!ledger_info\{)\b(?:day|ledger)="\w+",?', "", text)
    text = text.replace(",}", "}").replace("{}", "")
    lines = (line for line in text.splitlines() if line.startswith(families))
    return "".join(sorted(line + "\n" for line in lines))


def write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        text = page(Path(folder))
        with sqlite3.connect(Path(folder) / "ledger.sqlite") as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            assert version == 1, "schema 1 is not the newest any more; its dump is final"
            db.execute("UPDATE meta SET value = '0123456789abcdef' WHERE key = 'ledger_id'")
            dump = "\n".join([*db.iterdump(), "PRAGMA user_version = 1;", ""])
    SCHEMA_1.write_text(dump)
    BOOKS_1.write_text(books(text))


if __name__ == "__main__":
    write()
