"""The shipped ladder and baseline, parsed, for tests."""

from functools import cache
from typing import Any

from alertmanager.receiver.ladder.baseline import parse_baseline
from alertmanager.receiver.ladder.ladder import Ladder, parse_ladder
from command.paths import BASELINE as BASELINE_FILE
from command.paths import LADDER as LADDER_FILE


@cache
def shipped_ladder(**changes: str) -> Ladder:
    """alertmanager/degradation.yml, with some of its top-level words replaced or said at last."""
    text = LADDER_FILE.read_text()
    for key, value in changes.items():
        said = (f"{key}:", f"# {key}:")
        line = next(line for line in text.splitlines() if line.startswith(said))
        text = text.replace(line, f"{key}: {value}")
    return parse_ladder(text.encode(), LADDER_FILE)


def shipped_baseline() -> dict[str, Any]:
    """alertmanager/llm_config.yml."""
    return parse_baseline(BASELINE_FILE.read_bytes(), BASELINE_FILE)
