"""Ladder and baseline, read again when they change; the effective config's file, as bytes."""

import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from yaml import YAMLError

from alertmanager.receiver.ladder.baseline import parse_baseline
from alertmanager.receiver.ladder.effective import ROASTERS, Effective, effective
from alertmanager.receiver.ladder.ladder import Ladder, parse_ladder
from alertmanager.receiver.ladder.operations import Document
from alertmanager.receiver.ladder.sides import safe
from alertmanager.receiver.state import InForce
from common.errors import UserError
from common.files import read_file, replace_file
from common.yamlfile import dump, parse_document, read_raw

log = logging.getLogger("receiver")
MAX_EFFECTIVE_BYTES = 16 << 20  # more is not ours: 1 MiB of baseline and 2,000 roasters are less
Raw = dict[str, bytes]  # of ladder and baseline
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
        self.paths = {"ladder": ladder, "baseline": baseline}
        self.effective_path = _followed(effective_file)
        self.rendered = lru_cache(maxsize=1)(self._render)  # computed anew after a change only
        if self.effective_path == _followed(baseline):
            raise UserError(f"--baseline and --effective are both {baseline}; they must differ")
        self._raw = self._read()
        self.ladder, self.baseline, self.faults = self._parsed(self._raw)
        self.problem: str | None = None
        self._tried: tuple[Raw, Edit | str] = (self._raw, "")  # what was read last, or its fault
        self._warn()

    def read_edit(self) -> Edit | None:
        """What was edited since, proven good; None when nothing was. A wrong one sets problem.

        It reads files and may take seconds: not for whoever holds a lock.
        """
        try:
            raw = self._read()
        except UserError as error:
            self.problem = str(error)
            return None
        if raw != self._tried[0]:
            self._tried = raw, self._proven(raw)
        found = self._tried[1]
        self.problem = found if found and isinstance(found, str) else None
        return None if isinstance(found, str) or raw == self._raw else found

    def _proven(self, raw: Raw) -> Edit | str:
        """An edit, or what is wrong with it."""
        try:
            edit = Edit(raw, *self._parsed(raw))
        except UserError as error:
            return str(error)
        if edit.ladder.names != self.ladder.names:
            return f"{self.paths['ladder']}: restart the receiver to change the levels"
        return edit

    def adopt(self, edit: Edit | None) -> bool:
        """Put an edit in force; whether there is one."""
        if edit is None:
            return False
        self._raw, self.ladder, self.baseline, faults = edit
        self.problem = None
        self.rendered.cache_clear()
        if faults != self.faults:
            self.faults = faults
            self._warn()
        return True

    def problems(self) -> dict[str, str]:
        """What to fix: an edit that is not in force, and faults of a ladder that is."""
        edit = {"config": self.problem} if self.problem else {}
        return edit | ({"ladder": "; ".join(self.faults)} if self.faults else {})

    def _warn(self) -> None:
        """Go on with a ladder that has faults: without any it would protect nothing."""
        for fault in self.faults:
            log.warning("%s", fault)

    def _read(self) -> Raw:
        return {name: read_raw(path) for name, path in self.paths.items()}

    def _parsed(self, raw: Raw) -> tuple[Ladder, Document, list[str]]:
        """Both files, proven to work together, and the ladder's faults. Raises UserError."""
        path = self.paths["ladder"]
        ladder, faults = safe(parse_ladder(raw["ladder"], path), path)
        baseline = parse_baseline(raw["baseline"], self.paths["baseline"])
        try:
            for level in ladder.names:
                dump(effective(ladder, baseline, level).document, self.effective_path)
        except (ArithmeticError, AttributeError, TypeError, ValueError, YAMLError) as error:
            raise UserError(
                f"{self.paths['baseline']} cannot be degraded ({type(error).__name__}); "
                "it holds a number that is out of range, or a value that is not plain data"
            ) from error
        return ladder, baseline, faults

    def _render(self, in_force: InForce) -> tuple[Effective, bytes]:
        """The effective config and its file's bytes; YAML gets a comment on what is in force."""
        config = effective(self.ladder, self.baseline, in_force.level, in_force.tunings)
        body = dump(config.document, self.effective_path)
        if self.effective_path.suffix == ".json":
            return config, body
        what = " ".join(", ".join([f"level {in_force.level}", *in_force.tunings]).splitlines())
        header = _HEADER.format(what=what, baseline=self.paths["baseline"].name)
        return config, header.encode() + body

    def on_disk(self) -> bytes | None:
        """The effective file as it is; None when it is missing, unreadable or no config of ours."""
        try:
            return read_file(self.effective_path, MAX_EFFECTIVE_BYTES)
        except OSError:
            return None

    def write(self, content: bytes) -> None:
        """Durably replace the effective file. Raises OSError."""
        replace_file(self.effective_path, content)

    def level_on_disk(self, tunings: tuple[str, ...]) -> str | None:
        """The level that the effective file shows, with these tunings or without, if any.

        Its overrides for single roasters do not matter.
        """
        try:
            found = parse_document(self.on_disk() or b"", self.effective_path)
        except UserError:
            return None
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
