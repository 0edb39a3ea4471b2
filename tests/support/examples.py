"""How many examples a property is tried with: a few in `make test`, many in `make fuzz`."""

import os

VARIABLE = "LLM_BUDGET_EXAMPLES"  # how many times as many; set by make fuzz
FACTOR = int(os.environ.get(VARIABLE, "1"))
FUZZING = VARIABLE in os.environ


def examples(count: int) -> int:
    """count in make test; that many times FACTOR in make fuzz."""
    return count * FACTOR
