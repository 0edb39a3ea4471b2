"""`python -m alertmanager.receiver --check`: does the ladder fit the baseline?"""

from pathlib import Path

from alertmanager.receiver.ladder.baseline import parse_baseline
from alertmanager.receiver.ladder.effective import effective
from alertmanager.receiver.ladder.ladder import Ladder, parse_ladder
from alertmanager.receiver.ladder.sides import safe
from common.yamlfile import read_raw


def check(ladder_path: Path, baseline_path: Path) -> list[str]:
    """Operations that would do nothing or move a key back, as sentences.

    Raises UserError for a file that is wrong.
    """
    ladder, problems = safe(parse_ladder(read_raw(ladder_path), ladder_path), ladder_path)
    baseline = parse_baseline(read_raw(baseline_path), baseline_path)
    field = next(iter(baseline.get("field_configs") or {}), "field")
    for level in ladder.names[1:]:
        new = _no_ops(ladder, baseline, level) - _no_ops(ladder, baseline, _below(ladder, level))
        problems += [_sentence(f"level {level}", path, ladder_path) for path in sorted(new)]
    for tuning in ladder.tunings:
        entry = f"{tuning.tuning}/{field}" if tuning.scope == "field" else tuning.tuning
        if tuning.scope != "roaster":
            paths = effective(ladder, baseline, "none", [entry]).no_ops
            problems += [_sentence(f"tuning {entry}", path, ladder_path) for path in paths]
    return problems


def _no_ops(ladder: Ladder, baseline: dict[str, object], level: str) -> set[str]:
    return set(effective(ladder, baseline, level).no_ops)


def _below(ladder: Ladder, level: str) -> str:
    return ladder.names[ladder.rank(level) - 1]


def _sentence(what: str, path: str, file: Path) -> str:
    return (
        f"{file}: {what} changes {path}, which the baseline does not have (or not as this needs it)"
    )
