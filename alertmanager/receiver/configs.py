"""The files: ladder and baseline read when they change, the effective config written and healed."""

from pathlib import Path

from alertmanager.receiver.baseline import parse_baseline
from alertmanager.receiver.effective import Effective, effective
from alertmanager.receiver.ladder import Ladder, parse_ladder
from alertmanager.receiver.operations import Document
from exporter.core.errors import UserError
from exporter.core.files import replace_file
from exporter.core.yamlfile import dump

_HEADER = "# The effective LLM config, written by llm-budget: {what}. Edit {baseline} instead.\n"


class Configs:
    """Ladder, baseline and effective file. An edit that is wrong keeps the last good one."""

    def __init__(self, ladder: Path, baseline: Path, effective_file: Path) -> None:
        """Read both. Raises UserError when one is missing or wrong."""
        self.paths = {"ladder": ladder, "baseline": baseline}
        self.effective_path = effective_file
        if effective_file.resolve() == baseline.resolve():
            raise UserError(f"--baseline and --effective are both {baseline}; they must differ")
        self._raw = {name: _read(path) for name, path in self.paths.items()}
        self.ladder: Ladder = parse_ladder(self._raw["ladder"], ladder)
        self.baseline: Document = parse_baseline(self._raw["baseline"], baseline)
        self.problem: str | None = None

    def refresh(self) -> bool:
        """Re-read what changed; whether anything new is in force. A wrong edit sets problem."""
        try:
            raw = {name: _read(path) for name, path in self.paths.items()}
            if raw == self._raw:
                self.problem = None
                return False
            ladder = parse_ladder(raw["ladder"], self.paths["ladder"])
            baseline = parse_baseline(raw["baseline"], self.paths["baseline"])
            if ladder.names != self.ladder.names:
                raise UserError(
                    f"{self.paths['ladder']}: restart the receiver to change the levels"
                )
        except UserError as error:
            self.problem = str(error)
            return False
        self._raw, self.ladder, self.baseline, self.problem = raw, ladder, baseline, None
        return True

    def effective(self, level: str, tunings: list[str]) -> Effective:
        """The config at a level with tunings."""
        return effective(self.ladder, self.baseline, level, tunings)

    def render(self, document: Document, level: str, tunings: list[str]) -> bytes:
        """The effective file's bytes; YAML gets a comment on what is in force."""
        body = dump(document, self.effective_path)
        if self.effective_path.suffix == ".json":
            return body
        what = ", ".join([f"level {level}", *sorted(tunings)]).replace("\n", " ")
        return _HEADER.format(what=what, baseline=self.paths["baseline"].name).encode() + body

    def on_disk(self) -> bytes | None:
        """The effective file as it is; None when it is missing or unreadable."""
        try:
            return self.effective_path.read_bytes()
        except OSError:
            return None

    def write(self, content: bytes) -> None:
        """Durably replace the effective file. Raises OSError."""
        replace_file(self.effective_path, content)

    def level_on_disk(self) -> str | None:
        """The level that the effective file shows without tunings; None when it shows none."""
        found = self.on_disk()
        for level in reversed(self.ladder.names):
            if found == self.render(self.effective(level, []).document, level, []):
                return level
        return None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
