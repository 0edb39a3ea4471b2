"""The reader's side of a spool in a test: what the exporter does, exactly as the protocol says."""

import fcntl
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

HEADER = b'{"spool": "llm-budget/1"'


class Reader:
    """Follows one spool, retires it, takes its folds; every event once, by id."""

    def __init__(self, spool: Path, retire_bytes: int = 0) -> None:
        self.spool = spool
        self.retire_bytes = retire_bytes
        self.events: dict[str, dict[str, Any]] = {}
        self.bad_lines: list[bytes] = []
        self.headers = 0
        self.retired = 0
        self._file: Any = None

    def read(self, retire: bool = True) -> "Reader":
        """Everything that is there; retire what can be, take the fold."""
        if self._file is None:
            try:
                self._file = open(self.spool, "rb", buffering=0)  # noqa: SIM115
            except FileNotFoundError:
                self._take_fold()
                return self
        offset = self._file.tell()
        content = self._file.readall()
        whole = content[: content.rfind(b"\n") + 1]
        self._file.seek(offset + len(whole))
        self._lines(whole)
        if retire:
            self._retire()
            self._take_fold()
        return self

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def totals(self) -> Counter[str]:
        """Calls and tokens, by what they are."""
        total: Counter[str] = Counter()
        for event in self.events.values():
            total["calls"] += event.get("count", 1)
            for key, tokens in event.get("usage", {}).items():
                total[key] += tokens
            total["batch_items"] += event.get("batch_items", 0)
        return total

    def _lines(self, content: bytes) -> None:
        for line in content.split(b"\n"):
            if line.startswith(HEADER):
                self.headers += 1
            elif line.strip():
                self._line(line)

    def _line(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            self.bad_lines.append(line)
            return
        assert next(iter(event)) == "id", "the id comes first"
        assert event["id"] not in self.events, f"{event['id']} came twice"
        self.events[event["id"]] = event

    def _retire(self) -> None:
        fd = self._file.fileno()
        if self._file.tell() <= self.retire_bytes or not _lock(fd):
            return
        gone = os.fstat(fd).st_size == self._file.tell()
        if gone:
            os.unlink(self.spool)
            self.retired += 1
        fcntl.flock(fd, fcntl.LOCK_UN)
        if gone:
            self.close()

    def _take_fold(self) -> None:
        fold = Path(f"{self.spool}.fold")
        if not fold.exists() or not fold.stat().st_size:
            return
        with open(fold, "rb") as file:
            if not _lock(file.fileno()):
                return
            taken = fold.with_name(f"{fold.name}.{os.urandom(8).hex()}")
            fold.rename(taken)
        self._lines(taken.read_bytes())
        taken.unlink()


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def answer(
    prompt: int = 812, completion: int = 143, cached: int = 512, **more: Any
) -> dict[str, Any]:
    """A provider's response; a new id each time."""
    return {
        "id": f"chatcmpl-{os.urandom(8).hex()}",
        "model": "deepseek-chat",
        "choices": [{"message": {"content": "word " * 10}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "prompt_cache_hit_tokens": cached,
        },
        **more,
    }
