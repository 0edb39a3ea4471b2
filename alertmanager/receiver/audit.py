"""The audit trail: one JSON line a change; when, from, to, why, who, which alerts."""

import os
from pathlib import Path
from typing import Any

import msgspec

MAX_BYTES = 16 << 20  # then the file becomes .1, and that one is forgotten


class Audit:
    """Appends to a file; a full disk costs the line, never the change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failures = 0

    def record(self, **entry: Any) -> None:
        """One line, flushed to disk."""
        line = msgspec.json.encode(entry) + b"\n"
        try:
            if self.path.exists() and self.path.stat().st_size + len(line) > MAX_BYTES:
                os.replace(self.path, self.path.with_name(self.path.name + ".1"))
            with open(self.path, "ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self.failures += 1
