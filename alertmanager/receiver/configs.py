"""Ladder and baseline, read again when they change; the effective config's file, as bytes."""

import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from yaml import YAMLError

from alertmanager.receiver.ladder.baseline import parse_baseline
from alertmanager.receiver.ladder.effective import ROASTERS, Effective, effective
from alertmanager.receiver.ladder.ladder import Document, Ladder, parse_ladder
from alertmanager.receiver.ladder.sides import safe
from alertmanager.receiver.state import InForce
from common.errors import UserError
from common.files import read_file, replace_file
from common.yamlfile import dump, parse_document, read_raw

log = logging.getLogger("receiver")
MAX_EFFECTIVE_BYTES = 16 << 20  # more is not ours: 1 MiB of baseline and 3,000 roasters are less
Raw = tuple[bytes, bytes]  # of ladder and baseline
_HEADER = "# The effective LLM config, written by llm-budget: {what}. Edit {baseline} instead.\n"


class Edit(NamedTuple):
    """Ladder and baseline as they are written now, and the ladder's faults."""

    raw: Raw
    ladder: Ladder
    baseline: Document
    faults: list[str]


class Configs:
    """Ladder, baseline and effective file. An edit that is wrong keeps the last good one."""

    def __init__(self, ladder: Path, baseline: Path, effective_file: Path) -> None:
        """Read both. Raises UserError when one is missing or wrong."""
        self.ladder_path, self.baseline_path = ladder, baseline
        self.effective_path = _followed(effective_file)
        if self.effective_path == _followed(baseline):
            raise UserError(f"--baseline and --effective are both {baseline}; they must differ")
        # Computed anew after a change only; an edit, right or wrong, is parsed once.
        self.rendered = lru_cache(maxsize=1)(self._render)
        self._tried = lru_cache(maxsize=1)(self._try)
        self.faults: list[str] = []
        self.adopt(self._proven((read_raw(ladder), read_raw(baseline))))
        if self.ladder.question:
            log.warning("%s", self.ladder.question)

    def adopt(self, edit: Edit) -> None:
        self._raw, self.ladder, self.baseline, faults = edit
        self.problem: str | None = None
        self.rendered.cache_clear()
        for fault in faults if faults != self.faults else ():
            log.warning("%s", fault)  # but it goes on: without a ladder it would protect nothing
        self.faults = faults

    def read_edit(self) -> Edit | None:
        """What was edited since, proven good; None when nothing was. A wrong one sets problem.

        It reads files and may take seconds: not for whoever holds a lock.
        """
        found: Edit | str | None
        try:
            raw = read_raw(self.ladder_path), read_raw(self.baseline_path)
        except UserError as error:
            found = str(error)
        else:
            found = None if raw == self._raw else self._tried(raw)
        self.problem = found if isinstance(found, str) else None
        return found if isinstance(found, Edit) else None

    def _try(self, raw: Raw) -> Edit | str:
        try:
            edit = self._proven(raw)
        except UserError as error:
            return str(error)
        if edit.ladder.names != self.ladder.names:
            return f"{self.ladder_path}: restart the receiver to change the levels"
        return edit

    def _proven(self, raw: Raw) -> Edit:
        """Raises UserError unless both files work together."""
        ladder, faults = safe(parse_ladder(raw[0], self.ladder_path), self.ladder_path)
        baseline = parse_baseline(raw[1], self.baseline_path)
        try:
            for level in ladder.names:
                dump(effective(ladder, baseline, level).document, self.effective_path)
        except (ArithmeticError, AttributeError, TypeError, ValueError, YAMLError) as error:
            raise UserError(
                f"{self.baseline_path} cannot be degraded ({type(error).__name__}); "
                "it holds a number that is out of range, or a value that is not plain data"
            ) from error
        return Edit(raw, ladder, baseline, faults)

    def _render(self, in_force: InForce) -> tuple[Effective, bytes]:
        """The effective config and its file's bytes; YAML gets a comment on what is in force."""
        config = effective(self.ladder, self.baseline, in_force.level, in_force.tunings)
        body = dump(config.document, self.effective_path)
        if self.effective_path.suffix == ".json":
            return config, body
        what = " ".join(", ".join([f"level {in_force.level}", *in_force.tunings]).splitlines())
        return config, _HEADER.format(what=what, baseline=self.baseline_path.name).encode() + body

    def on_disk(self) -> bytes | None:
        """The effective file as it is; None when it is missing, unreadable or no config of ours."""
        try:
            return read_file(self.effective_path, MAX_EFFECTIVE_BYTES)
        except OSError:
            return None

    def write(self, content: bytes) -> None:
        replace_file(self.effective_path, content)

    def level_on_disk(self, tunings: tuple[str, ...]) -> str | None:
        """The level that the effective file shows, with these tunings or without, if any."""
        try:
            found = parse_document(self.on_disk() or b"", self.effective_path)
        except UserError:
            return None
        # Its overrides for single roasters do not matter.
        found = {**found, ROASTERS: None} if isinstance(found, dict) else None
        for level in reversed(self.ladder.names):
            for some in (tunings, ()):
                expected = effective(self.ladder, self.baseline, level, some).document
                if found == {**expected, ROASTERS: None}:
                    return level
        return None


def _followed(path: Path) -> Path:
    """What a link leads to, which is replaced and not the link; never a device or a FIFO."""
    target = Path(os.path.realpath(path))
    if target.is_file() or not os.path.lexists(target):
        return target
    return Path(os.path.realpath(path.parent)) / path.name
