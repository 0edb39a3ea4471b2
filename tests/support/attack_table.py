"""The table of attacks in docs/faults.md, a row of which `make test-faults` renews at a time."""

import os
import re

from common.files import replace_file
from tests.support.paths import ROOT

PAGE = ROOT / "docs" / "faults.md"
VARIABLE = "LLM_BUDGET_KEEP_RESULTS"  # set by make test-faults


def keep(attack: str, tried: str, lost: int = 0, doubled: int = 0) -> None:
    """Put a result into its row. Raises ValueError when the page has none."""
    text, row = PAGE.read_text(), f"| {attack} | {tried} | {lost} | {doubled} |"
    new, rows = re.subn(rf"^\| {re.escape(attack)} \|.*$", row, text, flags=re.MULTILINE)
    if rows != 1:
        raise ValueError(f"{PAGE} has {rows} rows for {attack}; it needs one")
    if os.environ.get(VARIABLE):
        replace_file(PAGE, new.encode())
