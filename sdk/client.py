"""llm-budget's client: copy this one file into your program. Standard library only, Python 3.9+.

    from client import allowed, record

    if allowed("notes", "blue-tokai"):               # obey: may this field ask the LLM now?
        response = llm.chat.completions.create(…)
        record("blue-tokai", "notes", response)      # report: one line in the spool, durable

`record` appends to a spool file, which the exporter on this host follows (`--log SPOOL`), or which
`python client.py deliver` sends to an exporter elsewhere. `wrap(OpenAI(…))` records by itself, each
attempt and each stream. Configured by LLM_BUDGET_SPOOL, and LLM_BUDGET_EFFECTIVE or
LLM_BUDGET_CONFIG_URL; or make a Client(…). Everything else: docs/adopt.md of llm-budget.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import http.client
import importlib
import inspect
import itertools
import json
import logging
import os
import random
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any, BinaryIO, Union

__all__ = ["Client", "allowed", "current", "default_client", "deliver", "lost", "record", "wrap"]

OUTCOMES = ("success", "error", "rate_limited", "cached", "fallback")
FREE = ("cached", "fallback")  # no provider was asked: nothing is billed
MAX_LABEL = 120  # characters; the exporter refuses longer or unprintable label values
MAX_ID = 390  # with #field behind it, the exporter takes 512
MAX_TOKENS = 10_000_000  # of one call; the exporter refuses more
MAX_CALLS = 100_000  # in one sum, likewise
MAX_BYTES = 256 << 20  # of the spool; beyond it calls fold into sums
PATIENCE_SECONDS = 0.02  # for the spool's lock, in all
FOLD_PATIENCE_SECONDS = 1.0  # the last resort waits for many busy writers before it gives up
IMPATIENT_SECONDS = 1.0  # after a wait in vain: no wait at all for so long
SLOT = 2048  # bytes of one sum in the fold; divides a page, so a write is whole or absent
FINE_SLOTS = 4096  # sums are by the minute; in a fold beyond this, by the quarter of an hour
CONFIG_POLL_SECONDS = 0.5  # how stale the config may be (from a URL: plus the answer's time)
FIRST_CONFIG_SECONDS = 2.0  # what the very first look at a URL may wait
MAX_CONFIG_BYTES = 1 << 20
HTTP_TIMEOUT_SECONDS = 10.0
UNSEEN_COMPLETION_TOKENS = 1024  # an answer nobody saw, when the request set no max_tokens

Field = Union[str, Sequence[str], Mapping[str, float]]  # noqa: UP007  Python 3.9
_log = logging.getLogger("llm_budget")


# --- small things -------------------------------------------------------------------------------


def _get(thing: Any, key: str) -> Any:
    """A key of a dict, an attribute of anything else; None when absent."""
    return thing.get(key) if isinstance(thing, dict) else getattr(thing, key, None)


class _Nag:
    """Logs a kind of problem once a minute, not once a call."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def __call__(self, kind: str, message: str) -> None:
        now = time.monotonic()
        if now >= self._next.get(kind, 0.0):
            self._next[kind] = now + 60.0
            _log.warning("llm-budget: %s", message)


_nag = _Nag()


def _lock(fd: int, kind: int, patience: float) -> bool:
    """flock, waiting at most so many seconds; whether it was had."""
    deadline = 0.0
    while True:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            now = time.monotonic()
            deadline = deadline or now + patience
            if now >= deadline:
                return False
            time.sleep(0.001)


def _open(path: str, flags: int) -> int:
    """Open or create (0640), with the folder when it is missing. Raises OSError."""
    try:
        return os.open(path, flags | os.O_CREAT, 0o640)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        return os.open(path, flags | os.O_CREAT, 0o640)


def _names(path: str, fd: int) -> bool:
    """Whether path (still) names the open file."""
    try:
        named, opened = os.stat(path), os.fstat(fd)
    except OSError:
        return False
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


class _File:
    """A file opened when needed; closed only if its descriptor is still its own.

    A daemon that closes all descriptors may hand our number to somebody else's file or socket.
    """

    def __init__(self, path: str, flags: int) -> None:
        self.path = path
        self.fd = -1
        self._flags = flags
        self._inode = (0, 0)

    def open(self) -> int:
        """The descriptor. Raises OSError."""
        if self.fd < 0:
            self.fd = _open(self.path, self._flags)
            state = os.fstat(self.fd)
            self._inode = (state.st_dev, state.st_ino)
        return self.fd

    def is_state_of(self, state: os.stat_result) -> bool:
        return (state.st_dev, state.st_ino) == self._inode

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        with contextlib.suppress(OSError):
            if fd >= 0 and self.is_state_of(os.fstat(fd)):
                os.close(fd)


def _tolerant(function: Callable[[Any], str]) -> Callable[[Any], str]:
    """For what reads other people's objects on the way to an estimate: at worst no text."""

    @functools.wraps(function)
    def read(value: Any) -> str:
        try:
            return function(value)
        except Exception as error:
            _nag("estimate", f"no text for an estimate: {type(error).__name__}: {error}")
            return ""

    return read


# --- events -------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    """Any value as a plain string; of a str subclass (an Enum, say) its content."""
    return str.__str__(value) if isinstance(value, str) else str(value)


@functools.lru_cache(maxsize=4096)
def _labels(roaster: str, field: str, model: str, provider: str) -> str:
    """The labels as the JSON object's next keys. Scraped text may hold anything: made printable."""
    pairs = (("roaster", roaster), ("field", field), ("model", model), ("provider", provider))
    return "".join(
        f',"{name}":{encode_basestring_ascii(_printable(value))}' for name, value in pairs if value
    )


def _printable(value: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in value[:MAX_LABEL])


def _identity(value: Any) -> str:
    """An id as plain text; a long or odd one as its hash, so that no two become one."""
    text = _text(value)
    if len(text) <= MAX_ID and text.isascii() and text.isprintable():
        return text
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _tokens(usage: Any) -> tuple[int, int, int] | None:
    """(prompt, the cached part of it, completion) of a provider's usage object or dict."""
    if usage is None:
        return None
    prompt, completion = _get(usage, "prompt_tokens"), _get(usage, "completion_tokens")
    if prompt is None and completion is None:  # OpenAI's Responses API
        prompt, completion = _get(usage, "input_tokens"), _get(usage, "output_tokens")
    if prompt is None and completion is None:
        return None
    cached = _get(usage, "prompt_cache_hit_tokens")  # DeepSeek's; else OpenAI's
    if cached is None:
        details = _get(usage, "prompt_tokens_details") or _get(usage, "input_tokens_details")
        cached = _get(details, "cached_tokens")
    return int(prompt or 0), int(cached or 0), int(completion or 0)


def _shares(total: int, weights: Sequence[int]) -> list[int]:
    """total in whole parts by weight; they sum to it exactly."""
    whole = sum(weights)
    marks = [0, *(total * end // whole for end in itertools.accumulate(weights))]
    return [high - low for low, high in zip(marks, marks[1:])]  # noqa: B905, RUF007  Python 3.9


def _whole(weights: list[float]) -> list[int]:
    """Weights as integers, 0.7 as good as 7; equal ones when they are not usable as weights."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        whole = [round(weight * 1_000_000) for weight in weights]
        if min(whole) >= 0 and sum(whole) > 0:
            return whole
    return [1] * len(weights)


def estimate_tokens(text: str) -> int:
    """DeepSeek's rule of thumb: 0.3 tokens a character, 0.6 outside ASCII; rounded up."""
    plain = sum(map(str.isascii, text))
    return (3 * plain + 6 * (len(text) - plain) + 9) // 10


@_tolerant
def _prompt_text(value: Any) -> str:
    """All text in messages or tools, at any depth; but not pictures, sound and files."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        media = ("image_url", "input_audio", "file")
        return "".join(_prompt_text(item) for key, item in value.items() if key not in media)
    if isinstance(value, (list, tuple)):
        return "".join(map(_prompt_text, value))
    dump = getattr(value, "model_dump", None)  # an openai message object
    return _prompt_text(dump()) if dump else ""


@_tolerant
def _answer_text(choices: Any) -> str:
    """The text of an answer's or a stream chunk's choices: content, reasoning, tool calls."""
    found = []
    for choice in choices or ():
        part = _get(choice, "delta") or _get(choice, "message") or choice
        for key in ("content", "reasoning_content", "text"):
            text = _get(part, key)
            found.append(text if isinstance(text, str) else "")
        for call in _get(part, "tool_calls") or ():
            arguments = _get(_get(call, "function"), "arguments")
            found.append(arguments if isinstance(arguments, str) else "")
    return "".join(found)


# --- the spool ----------------------------------------------------------------------------------


class _Spool:
    """Appends whole lines to a file that others append to and the exporter takes away.

    The lock is shared among writers; the reader takes it exclusively to retire a file in which
    everything is committed. Lines begin with a newline too, so that a piece left by a writer that
    was killed, or by a full disk, rejects only itself.
    """

    def __init__(self, path: str, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.lost = 0
        self._file = _File(path, os.O_WRONLY | os.O_APPEND)
        self._fold = _Fold(f"{path}.fold")
        self.after_fork()

    def after_fork(self) -> None:
        """A child has a lock, a descriptor (flock then tells the two apart) and ids of its own."""
        self._lock = threading.RLock()
        self._busy = False
        self._behind: deque[bytes] = deque()
        self._look_at = self._patient_at = 0.0
        self._prefix = os.urandom(12).hex()
        self._count = itertools.count()
        self.close()

    def close(self) -> None:
        """Give the descriptors back; the next append opens them again."""
        with self._lock:
            self._file.close()
            self._fold.close()

    def fresh_id(self) -> str:
        return f"{self._prefix}-{next(self._count):x}"

    def append(self, data: bytes) -> bool:
        """Write lines (each between newlines); True when they are in the spool or the fold."""
        with self._lock:
            if self._busy:  # a signal handler or a finalizer inside this very section:
                self._behind.append(data)  # the append that it interrupted writes this too
                return True
            self._busy = True
            try:
                written = self._write(data)
                while self._behind:
                    self._write(self._behind.popleft())
                return written
            finally:
                self._busy = False

    def lose(self, problem: object) -> bool:
        """Count a call that could not be written."""
        with self._lock:
            self.lost += 1
        _nag("lost", f"a call was not recorded in {self.path}: {problem}")
        return False

    def _write(self, data: bytes) -> bool:
        try:
            rest = self._to_spool(data)
        except OSError as error:
            _nag("spool", f"cannot write {self.path}: {error}")
            self._file.close()
            rest = data
        problem = self._fold.add(rest) if rest else None
        return self.lose(problem) if problem else True

    def _to_spool(self, data: bytes) -> bytes:
        """Returns what was not written: the whole when full or locked, else a torn end. OSError."""
        kind = fcntl.LOCK_SH
        for _ in range(4):  # retired, and then empty, and one to spare
            fd = self._opened()
            if not self._locked(fd, kind):
                return data
            try:
                state = os.fstat(fd)
                if state.st_nlink and self._file.is_state_of(state):
                    if state.st_size >= self.max_bytes:
                        return data
                    if state.st_size or (kind == fcntl.LOCK_EX and self._header(fd)):
                        return _unwritten(data, os.write(fd, data))
                    kind = fcntl.LOCK_EX  # empty: alone, the first to look again writes the header
                    continue
            finally:
                fcntl.flock(fd, fcntl.LOCK_UN)
            self._file.close()  # the reader retired it
        return data

    def _opened(self) -> int:
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + 1.0
            if not _names(self.path, self._file.fd):
                self._file.close()  # moved away by hand
        return self._file.open()

    def _locked(self, fd: int, kind: int) -> bool:
        now = time.monotonic()
        if _lock(fd, kind, PATIENCE_SECONDS if now >= self._patient_at else 0.0):
            return True
        self._patient_at = now + IMPATIENT_SECONDS
        return False

    def _header(self, fd: int) -> bool:
        """The first line, which makes the file known as a spool and unlike any other."""
        header = b'{"spool": "llm-budget/1", "id": "%s"}\n' % os.urandom(16).hex().encode()
        if os.write(fd, header) == len(header):
            return True
        os.ftruncate(fd, 0)
        return False


def _unwritten(data: bytes, written: int) -> bytes:
    """The lines of data that are not complete in its first so many bytes.

    A line that lacks only its final newline is complete: the next one begins with one.
    """
    if written >= len(data) - 1:
        return b""
    if data[written : written + 1] == b"\n":
        return data[written:]
    return data[max(0, data.rfind(b"\n", 0, written)) :]


class _Fold:
    """Sums of calls, for when the spool is full or locked: fixed slots, updated in place.

    One slot per (roaster, field, model, provider, outcome, estimated, minute), under an exclusive
    lock; the reader takes the file by renaming it. Each slot is a usage event with a `count`.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = _File(path, os.O_RDWR)
        self._forget()

    def _forget(self) -> None:
        self._known = 0  # slots read
        self._slots: dict[tuple[Any, ...], int] = {}
        self._file_id = ""

    def close(self) -> None:
        self._file.close()
        self._forget()

    def add(self, data: bytes) -> str | None:
        """Add the events of these lines. None when all are in the file, else the problem."""
        try:
            for line in data.split(b"\n"):
                if line:
                    self._add_locked(json.loads(line))
        except OSError as error:
            self.close()
            return str(error)
        return None

    def _add_locked(self, event: dict[str, Any]) -> None:
        for _ in range(3):
            if not _names(self.path, self._file.fd):
                self.close()  # the reader took it: begin another
            fd = self._file.open()
            if not _lock(fd, fcntl.LOCK_EX, FOLD_PATIENCE_SECONDS):
                raise TimeoutError(f"{self.path} stays locked")
            try:
                if _names(self.path, fd):  # and did not while we waited for the lock
                    return self._add(event)
            finally:
                fcntl.flock(fd, fcntl.LOCK_UN)
        raise TimeoutError(f"{self.path} is taken away again and again")

    def _add(self, event: dict[str, Any]) -> None:
        end = os.fstat(self._file.fd).st_size // SLOT
        self._learn(end)
        key = _fold_key(event, coarse=end > FINE_SLOTS) if _fits(event) else None
        number = self._slots.get(key, end) if key else end
        total = self._read(number) if number < end else None
        if total and total["count"] < MAX_CALLS:
            event = _added(total, event)
        else:
            number = end
            self._file_id = self._file_id or os.urandom(16).hex()
            event = {**event, "id": f"fold-{self._file_id}-{number}", "count": 1}
            event.pop("duration_seconds", None)
        self._put(number, event, end)
        self._learn(max(end, number + 1))

    def _learn(self, end: int) -> None:
        """Read the slots that other processes added."""
        for number in range(self._known, end):
            with contextlib.suppress(ValueError, KeyError, TypeError):  # not a sum of ours
                event = self._read(number)
                self._file_id = self._file_id or event["id"].split("-")[1]
                if event["count"] > 1 or _fits(event):
                    for coarse in (False, True):
                        self._slots[_fold_key(event, coarse)] = number
        self._known = max(self._known, end)

    def _read(self, number: int) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(os.pread(self._file.fd, SLOT, number * SLOT))
        return event

    def _put(self, number: int, event: dict[str, Any], end: int) -> None:
        content = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
        if len(content) >= SLOT:  # four labels of 120 wide characters: half of each tells enough
            for name in ("roaster", "field", "model", "provider"):
                event[name] = event.get(name, "")[: MAX_LABEL // 2]
            content = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
        if os.pwrite(self._file.fd, content.ljust(SLOT - 1) + b"\n", number * SLOT) != SLOT:
            os.ftruncate(self._file.fd, end * SLOT)
            raise OSError(f"{self.path}: no room for a whole slot")


def _fold_key(event: dict[str, Any], coarse: bool) -> tuple[Any, ...]:
    """What one slot sums. Every zone's midnight falls on a quarter of an hour in UTC."""
    minute = event["time"][:16]
    period = f"{minute[:14]}{int(minute[14:]) // 15}/4" if coarse else minute
    names = ("roaster", "field", "model", "provider", "outcome", "estimated")
    return (period, *map(event.get, names))


def _fits(event: dict[str, Any]) -> bool:
    """Whether the exporter would take it: one that it refuses must not spoil a sum."""
    prompt, cached, completion = _tokens(event.get("usage")) or (0, 0, 0)
    items, slots = event.get("batch_items", 0), event.get("batch_slots", 0)
    return 0 <= cached <= prompt <= MAX_TOKENS and all(
        0 <= number <= MAX_TOKENS for number in (completion, items, slots)
    )


def _added(total: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    """The sum with one call more."""
    for key in ("batch_items", "batch_slots"):
        if key in event:
            total[key] = total.get(key, 0) + event[key]
    if "usage" in event:
        usage = total.setdefault("usage", {})
        for key, tokens in event["usage"].items():
            usage[key] = usage.get(key, 0) + tokens
    total["count"] += 1
    return total


# --- the effective config -----------------------------------------------------------------------


class _Snapshot:
    """One version of the config, and what was asked of it so far. Raises ValueError."""

    def __init__(self, config: Any) -> None:
        if not isinstance(config, dict):
            raise ValueError("the config is not a mapping")
        for key in ("field_configs", "roasters"):
            inner = config.get(key) or {}
            if not isinstance(inner, dict) or not all(
                isinstance(item or {}, dict) for item in inner.values()
            ):
                raise ValueError(f"{key} is not a mapping of mappings")
        self.config = config
        self.verdicts: dict[tuple[str | None, str | None], bool] = {}
        self._merged: dict[str, dict[str, Any]] = {}

    def of(self, roaster: str | None) -> dict[str, Any]:
        """The config with that roaster's override merged deeply over it."""
        if roaster is None:
            return self.config
        if roaster not in self._merged:
            override = (self.config.get("roasters") or {}).get(roaster)
            self._bound(self._merged)[roaster] = _merge(self.config, override or {})
        return self._merged[roaster]

    def judge(self, field: str | None, roaster: str | None) -> bool:
        config = self.of(roaster)
        fields = config.get("field_configs")
        entry = fields.get(field) if isinstance(fields, dict) else None
        enabled = entry.get("enabled", True) if isinstance(entry, dict) else True
        verdict = bool(config.get("enabled", True)) and bool(enabled)
        self._bound(self.verdicts)[field, roaster] = verdict
        return verdict

    @staticmethod
    def _bound(cache: dict[Any, Any]) -> dict[Any, Any]:
        if len(cache) >= 10_000:
            cache.clear()
        return cache


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(value, dict) and isinstance(below, dict)
        merged[key] = _merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _parse_config(raw: bytes) -> _Snapshot:
    """JSON, or YAML where PyYAML is installed. Raises ValueError."""
    if len(raw) > MAX_CONFIG_BYTES:
        raise ValueError("larger than 1 MiB, which no config is")
    try:
        return _Snapshot(json.loads(raw))
    except json.JSONDecodeError as error:
        try:
            yaml = importlib.import_module("yaml")
        except ImportError:
            raise ValueError(
                "not JSON, and for YAML PyYAML is not installed; let the receiver write a .json "
                "file, or set LLM_BUDGET_CONFIG_URL"
            ) from error
    try:
        return _Snapshot(yaml.load(raw, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


class _Config:
    """Keeps the last good config of a file (looked at in passing) or a URL (polled by a thread)."""

    def __init__(self, path: str | None, url: str | None) -> None:
        self.path = path
        self.url = url
        self.snapshot: _Snapshot | None = None
        self._seen: object = None
        self._etag = ""
        self.after_fork()

    def after_fork(self) -> None:
        """The parent's thread is not in the child: the next look starts another."""
        self._stop = threading.Event()
        self.due = 0.0
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def look(self) -> None:
        """Called when due has passed; returns at once, but for a URL's very first answer."""
        if self.path:
            self.due = time.monotonic() + CONFIG_POLL_SECONDS
            self._look_at_file(self.path)
        elif self.url:
            with self._starting:
                if self._thread is None:
                    self._start(self.url)
        else:
            self.due = float("inf")
            _nag("config", "neither LLM_BUDGET_EFFECTIVE nor LLM_BUDGET_CONFIG_URL is set")

    def _look_at_file(self, path: str) -> None:
        try:
            state = os.stat(path)
            seen = (state.st_ino, state.st_mtime_ns, state.st_size)
            if seen == self._seen:
                return
            with open(path, "rb") as file:
                raw = file.read(MAX_CONFIG_BYTES + 1)
            self._seen = seen
            self.snapshot = _parse_config(raw)
        except Exception as error:  # whatever is in the file: the caller goes on
            _nag("config", f"keeping the last good config; {path}: {error}")

    def _start(self, url: str) -> None:
        answered = threading.Event()
        self._thread = threading.Thread(
            target=self._poll, args=(url, answered), name="llm-budget-config", daemon=True
        )
        self._thread.start()
        if self.snapshot is None:
            answered.wait(FIRST_CONFIG_SECONDS)
        self.due = float("inf")  # from now on the thread replaces the snapshot

    def _poll(self, url: str, answered: threading.Event) -> None:
        while True:
            try:
                self._fetch(url)
            except Exception as error:  # whatever came: the thread goes on asking
                _nag("config", f"keeping the last good config; {url}: {error}")
            answered.set()
            if self._stop.wait(CONFIG_POLL_SECONDS):
                return

    def _fetch(self, url: str) -> None:
        headers = {"Accept": "application/json", "If-None-Match": self._etag}
        status, answered, body = _http(url, headers, limit=MAX_CONFIG_BYTES + 1)
        if status == 304:
            return
        if status != 200:
            raise ValueError(f"HTTP {status}")
        self.snapshot = _parse_config(body)
        self._etag = answered.get("ETag") or ""

    def close(self) -> None:
        self._stop.set()


# --- the client ---------------------------------------------------------------------------------

_clients: weakref.WeakSet[Client] = weakref.WeakSet()


class Client:
    """Reports to one spool and obeys one effective config; safe among threads and across fork.

    spool: the file to append to; None: record() counts every call as lost. effective: the file
    that the receiver writes (JSON, or YAML where PyYAML is installed), else config_url: its
    GET /config. provider: which prices apply (the exporter's default is deepseek). max_bytes: size
    of the spool from which calls fold into sums.
    """

    def __init__(
        self,
        spool: str | os.PathLike[str] | None = None,
        *,
        effective: str | os.PathLike[str] | None = None,
        config_url: str | None = None,
        provider: str = "",
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.provider = provider
        # Absolute, for a program that becomes a daemon and changes to another folder.
        self._spool = _Spool(os.path.abspath(spool) if spool else "", max_bytes)
        self._config = _Config(os.path.abspath(effective) if effective else None, config_url)
        self._stamp = (0, "")
        _clients.add(self)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Client:
        """LLM_BUDGET_SPOOL, _EFFECTIVE, _CONFIG_URL, _PROVIDER, _SPOOL_MAX_BYTES."""
        get = environment.get
        return cls(
            get("LLM_BUDGET_SPOOL"),
            effective=get("LLM_BUDGET_EFFECTIVE"),
            config_url=get("LLM_BUDGET_CONFIG_URL"),
            provider=get("LLM_BUDGET_PROVIDER", ""),
            max_bytes=_bytes(get("LLM_BUDGET_SPOOL_MAX_BYTES")),
        )

    def record(
        self,
        roaster: str | None,
        field: Field | None,
        response: Any = None,
        *,
        outcome: str = "success",
        usage: Any = None,
        estimated: bool = False,
        model: str | None = None,
        provider: str | None = None,
        event_id: str | None = None,
        at: float | None = None,
        duration_seconds: float | None = None,
        batch_items: int = 0,
        batch_slots: int = 0,
        messages: Any = None,
    ) -> bool:
        """Report one call; True when it is in the spool (or its fold). Never raises.

        response: the provider's response object or dict (its id, model and usage are taken), or
        None. field: one, or several that share the response (a list: equally; a dict: by weight).
        outcome: success, error, rate_limited, cached (your own cache) or fallback (your
        deterministic parser). usage, model, event_id, at (Unix seconds) override the response's.
        estimated: usage is your estimate. A response without usage is estimated from its text and
        messages. batch_items of batch_slots: how full the batch was.
        """
        try:
            if not self._spool.path:
                return self._spool.lose("LLM_BUDGET_SPOOL is not set")
            free = outcome in FREE
            tokens = None if free else _tokens(_get(response, "usage") if usage is None else usage)
            if tokens is None and response is not None and outcome == "success":
                text = _answer_text(_get(response, "choices"))
                tokens = estimate_tokens(_prompt_text(messages)), 0, estimate_tokens(text)
                estimated = True
            given = event_id or (None if free else _get(response, "id"))
            labels = (
                _text(roaster or ""),
                _text(model or _get(response, "model") or ""),
                _text(provider or self.provider),
            )
            tail = self._tail(outcome, estimated, at, duration_seconds)
            numbers = (tokens, max(0, int(batch_items or 0)), max(0, int(batch_slots or 0)))
            identity = _identity(given) if given else self._spool.fresh_id()
            lines = _event_lines(identity, labels, field, numbers, tail)
            return self._spool.append(lines.encode())
        except Exception as error:  # whatever the response was made of: the caller goes on
            return self._spool.lose(f"{type(error).__name__}: {error}")

    def _tail(self, outcome: str, estimated: bool, at: float | None, duration: float | None) -> str:
        """The keys that a split response repeats."""
        if outcome not in OUTCOMES:
            _nag("outcome", f"outcome {outcome!r} is recorded as error; it must be in {OUTCOMES}")
            outcome = "error"
        text = f',"time":"{self._iso(time.time() if at is None else at)}","outcome":"{outcome}"'
        if estimated:
            text += ',"estimated":true'
        if duration is not None and 0 <= duration <= 86_400:
            text += f',"duration_seconds":{duration:.3f}'
        return text

    def _iso(self, at: float) -> str:
        """RFC 3339 in UTC, milliseconds rounded down: an event is never from the future."""
        second = int(at // 1)
        stamp = self._stamp
        if stamp[0] != second:
            stamp = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
            self._stamp = stamp
        return f"{stamp[1]}.{int((at - second) * 1000):03d}Z"

    def lost(self) -> int:
        """Calls that this process could write neither to the spool nor to its fold."""
        return self._spool.lost

    def current(self, roaster: str | None = None) -> dict[str, Any] | None:
        """The effective config, with the roaster's override when one is named; do not change it.

        At most about a second stale; the last good one while the file or the receiver is away or
        wrong; None when there never was one.
        """
        config = self._config
        if time.monotonic() >= config.due:
            config.look()
        return config.snapshot.of(roaster) if config.snapshot else None

    def allowed(self, field: str | None, roaster: str | None = None, default: bool = False) -> bool:
        """Whether the LLM may be asked: it is enabled, and so is this field, for this roaster.

        default: the answer as long as no config was ever read (False: not asking is safe).
        """
        config = self._config
        if time.monotonic() >= config.due:
            config.look()
        snapshot = config.snapshot
        if snapshot is None:
            return default
        try:
            return snapshot.verdicts[field, roaster]
        except KeyError:
            return snapshot.judge(field, roaster)

    def close(self) -> None:
        """Close the files and end the thread that polls a URL; recording goes on if asked to."""
        self._config.close()
        self._spool.close()

    def _after_fork(self) -> None:
        self._spool.after_fork()
        self._config.after_fork()


def _bytes(text: str | None) -> int:
    if text and not text.isdecimal():
        _nag("environment", f"LLM_BUDGET_SPOOL_MAX_BYTES is {text!r}, which is no number of bytes")
    return int(text) if text and text.isdecimal() else MAX_BYTES


def _event_lines(
    identity: str,
    labels: tuple[str, str, str],
    field: Field | None,
    numbers: tuple[tuple[int, int, int] | None, int, int],
    tail: str,
) -> str:
    """The event's line between newlines; one line a field, which share the numbers exactly."""
    if not field or isinstance(field, str):
        return _event_line(identity, labels, _text(field or ""), numbers, tail)
    weights = dict(field) if isinstance(field, Mapping) else dict.fromkeys(field, 1)
    tokens, items, slots = numbers
    split = functools.partial(_shares, weights=_whole(list(weights.values())))
    parts: list[tuple[int, int, int] | None] = [None] * len(weights)
    if tokens is not None:
        prompt, cached, completion = tokens
        # The cached part and the rest apart, so that no share has more cached than prompt tokens.
        rows = zip(split(prompt - cached), split(cached), split(completion))  # noqa: B905
        parts = [(rest + hit, hit, out) for rest, hit, out in rows]
    shared = zip(weights, parts, split(items), split(slots))  # noqa: B905
    return "".join(
        _event_line(f"{identity}#{_printable(_text(name))}", labels, _text(name), counts, tail)
        for name, *counts in shared
    )


def _event_line(
    identity: str, labels: tuple[str, str, str], field: str, numbers: Sequence[Any], tail: str
) -> str:
    roaster, model, provider = labels
    tokens, items, slots = numbers
    usage = batch = ""
    if tokens is not None:
        usage = (
            f',"usage":{{"prompt_tokens":{tokens[0]},"prompt_cache_hit_tokens":{tokens[1]},'
            f'"completion_tokens":{tokens[2]}}}'
        )
    if items or slots:
        batch = f',"batch_items":{items},"batch_slots":{slots}'
    named = _labels(roaster, field, model, provider)
    return f'\n{{"id":{encode_basestring_ascii(identity)}{tail}{named}{usage}{batch}}}\n'


def _after_fork_in_child() -> None:
    for client in list(_clients):
        client._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


# --- the wrapper of an OpenAI-compatible client -------------------------------------------------

# From the root of the client: what is metered, what leads there, and what would go past the meter.
_METERED = {"chat.completions.create", "chat.completions.parse", "completions.create"}
_LEADS = {"chat", "chat.completions", "completions"}
_PAST = {"stream", "with_raw_response", "with_streaming_response"}
_COPIES = {"with_options", "copy"}
_NOT_REACHED = {
    "ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol",
    "ConnectionRefusedError", "NewConnectionError", "NameResolutionError", "gaierror",
}  # fmt: skip
_PERHAPS_REACHED = ("Timeout", "TimeoutError", "TimeoutException", "ConnectionError",
                    "ProtocolError", "ReadError", "WriteError", "NetworkError")  # fmt: skip
_MAX_RETRY_AFTER_SECONDS = 120.0


def wrap(
    llm: Any,
    roaster: str | None = None,
    field: Field | None = None,
    *,
    client: Client | None = None,
    retries: int | None = None,
    include_usage: bool = True,
) -> Any:
    """An OpenAI-compatible client (sync or async) that records each attempt of each completion.

    roaster and field: the defaults; each call may say its own, create(…, roaster=…, field=…,
    batch_items=…, batch_slots=…). The library's own retries, which would hide attempts, are
    switched off and made here: as many (retries overrides), on the same errors, as patient.
    include_usage=False: for a provider that refuses stream_options; its streams are estimated.
    """
    if retries is None:
        retries = int(getattr(llm, "max_retries", 0) or 0)
    if hasattr(llm, "with_options") and hasattr(llm, "max_retries"):
        llm = llm.with_options(max_retries=0)
    return _Node(llm, "", _Meter(client, roaster, field, retries, include_usage))


@dataclasses.dataclass(frozen=True)
class _Meter:
    """What every call of one wrapped client shares."""

    client: Client | None
    roaster: str | None
    field: Field | None
    retries: int
    include_usage: bool

    def prepare(self, request: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], bool]:
        """The request for the provider, the labels to book it under, and what to hide."""
        labels = {
            "roaster": request.pop("roaster", self.roaster),
            "field": request.pop("field", self.field),
            "batch_items": request.pop("batch_items", 0),
            "batch_slots": request.pop("batch_slots", 0),
        }
        if not request.get("stream") or not self.include_usage:
            return request, labels, False
        options = request.get("stream_options")
        options = options if isinstance(options, dict) else {}
        hide = not options.get("include_usage")
        return {**request, "stream_options": {**options, "include_usage": True}}, labels, hide


class _Node:
    """A wrapped object on the way to a metered method."""

    def __init__(self, inner: Any, path: str, meter: _Meter) -> None:
        self._inner = inner
        self._path = path
        self._meter = meter

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # not the client's, and asked for by copy and pickle
            raise AttributeError(name)
        path = f"{self._path}.{name}" if self._path else name
        if name in _PAST and (not self._path or self._path in _LEADS):
            raise AttributeError(
                f"{path} would go past the meter: use create(stream=…), or record() its response"
            )
        found = getattr(self._inner, name)
        if path in _METERED:
            return functools.partial(_call, found, self._meter)
        if path in _LEADS:
            return _Node(found, path, self._meter)
        return functools.partial(self._copy, found) if path in _COPIES else found

    def _copy(self, make: Callable[..., Any], *args: Any, **options: Any) -> Any:
        retries = options.pop("max_retries", self._meter.retries)
        meter = dataclasses.replace(self._meter, retries=retries)
        return _Node(make(*args, **options), "", meter)


def _call(create: Callable[..., Any], meter: _Meter, *args: Any, **request: Any) -> Any:
    """create(…), attempt by attempt. With an async client: the coroutine that does it."""
    request, labels, hide = meter.prepare(request)
    for tries in itertools.count():
        attempt = _Attempt(meter, request, labels, hide)
        try:
            result = create(*args, **request)
        except BaseException as error:
            pause = attempt.failed(error, tries)
            if pause is None:
                raise
            time.sleep(pause)
            continue
        if inspect.isawaitable(result):
            return _call_async(result, attempt, lambda: create(*args, **request))
        return attempt.answered(result, _Stream)
    raise AssertionError("unreachable")


async def _call_async(result: Any, attempt: _Attempt, again: Callable[[], Any]) -> Any:
    anyio: Any = sys.modules.get("anyio", asyncio)  # under trio too
    for tries in itertools.count():
        try:
            return attempt.answered(await result, _AsyncStream)
        except BaseException as error:
            pause = attempt.failed(error, tries)
            if pause is None:
                raise
        await anyio.sleep(pause)
        attempt = attempt.next()
        result = again()
    raise AssertionError("unreachable")


class _Attempt:
    """One request on its way to the provider; books what became of it, once."""

    def __init__(
        self, meter: _Meter, request: dict[str, Any], labels: dict[str, Any], hide: bool
    ) -> None:
        self._meter = meter
        self._request = request
        self._labels = labels
        self._hide = hide
        self._started = time.monotonic()
        self._booked = False
        # Of a stream, so far:
        self._head: dict[str, Any] = {}
        self._usage: Any = None
        self._seen_tokens = 0

    def next(self) -> _Attempt:
        return _Attempt(self._meter, self._request, self._labels, self._hide)

    def answered(self, result: Any, stream: Callable[[Any, _Attempt], Any]) -> Any:
        """The result for the caller: booked, or as a stream that books at its end."""
        if self._request.get("stream"):
            return stream(result, self)
        self._book(result, messages=self._prompt())
        return result

    def failed(self, error: BaseException, tries: int) -> float | None:
        """Book a failed request; seconds to wait before the next attempt, None: give up."""
        completion = getattr(error, "completion", None)  # answered and billed, but not parsable
        if _get(completion, "usage") is not None:
            self._book(completion)
        else:
            outcome, reached = _judge(error)
            limit = self._request.get("max_completion_tokens") or self._request.get("max_tokens")
            unseen = limit if isinstance(limit, int) else UNSEEN_COMPLETION_TOKENS
            self._book(None, outcome, usage=self._guess(unseen) if reached else None)
        return _pause(error, tries, self._meter.retries)

    def see(self, chunk: Any) -> bool:
        """Take note of a stream's chunk; whether the caller sees it too."""
        usage, choices = _get(chunk, "usage"), _get(chunk, "choices")
        if usage is not None:
            self._usage = usage
        if not self._head:
            self._head = {"id": _get(chunk, "id"), "model": _get(chunk, "model")}
        text = _answer_text(choices)
        if text:  # providers send about one token a chunk
            self._seen_tokens += max(1, estimate_tokens(text))
        return not (self._hide and usage is not None and not choices)

    def ended(self, error: BaseException | None = None) -> None:
        """The stream is over: read to its end or left by the caller, or broken by an error."""
        if self._usage is not None:
            self._book(self._head, usage=self._usage)
        else:
            outcome = "success" if error is None else "error"
            self._book(self._head, outcome, usage=self._guess(self._seen_tokens))

    def _guess(self, completion: int) -> dict[str, int]:
        """An estimate in the usage object's form; it is booked as estimated."""
        prompt = estimate_tokens(_prompt_text(self._prompt()))
        return {"prompt_tokens": prompt, "completion_tokens": completion, "estimated": True}

    def _prompt(self) -> list[Any]:
        return [self._request.get(key) for key in ("messages", "prompt", "suffix", "tools")]

    def _book(
        self, response: Any, outcome: str = "success", *, usage: Any = None, messages: Any = None
    ) -> None:
        if self._booked:
            return
        self._booked = True
        (self._meter.client or default_client()).record(
            response=response,
            outcome=outcome,
            usage=usage,
            estimated=isinstance(usage, dict) and "estimated" in usage,
            model=_get(response, "model") or self._request.get("model"),
            duration_seconds=time.monotonic() - self._started,
            messages=messages,
            **self._labels,
        )


def _judge(error: BaseException) -> tuple[str, bool]:
    """A failed request's outcome, and whether the provider may have worked (and billed) for it."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):  # an answer: errors are not billed
        return ("rate_limited" if status == 429 else "error"), False
    if not isinstance(error, Exception):  # cancelled, by asyncio.wait_for for example
        return "error", True
    names = _kinds(error)
    reached = any(name.endswith(_PERHAPS_REACHED) for name in names)
    return "error", reached and not names & _NOT_REACHED


def _kinds(error: BaseException | None) -> set[str]:
    """Names of an error's classes, and of its causes'."""
    names: set[str] = set()
    for _ in range(8):
        if error is None:
            break
        names |= {kind.__name__ for kind in type(error).__mro__}
        error = error.__cause__ or error.__context__
    return names


def _pause(error: BaseException, tries: int, retries: int) -> float | None:
    """Seconds before the next attempt, as the openai library has them; None: no more."""
    if tries >= retries or not isinstance(error, Exception):
        return None
    status = getattr(error, "status_code", None)
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    told = headers.get("x-should-retry")
    if isinstance(status, int):
        usual = status in (408, 409, 429) or status >= 500
        again = told == "true" or (usual and told != "false")
    else:
        again = any(name.endswith(_PERHAPS_REACHED) for name in _kinds(error))
    asked = _retry_after(headers)
    if not again or asked > _MAX_RETRY_AFTER_SECONDS:
        return None
    if asked > 0:
        return asked
    return float(min(0.5 * 2**tries, 8.0) * (1 - 0.25 * random.random()))  # noqa: S311


def _retry_after(headers: Any) -> float:
    """The server's word in seconds; 0 when it has none."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        with contextlib.suppress(TypeError, ValueError):
            return float(headers.get(name)) / unit
    return 0.0


@_tolerant
def _finish(chunk: Any) -> str:
    """Why the answer ended; empty in every chunk but its last."""
    reasons = [_get(choice, "finish_reason") for choice in _get(chunk, "choices") or ()]
    return "".join(filter(None, reasons))


class _Watched:
    """A stream of chunks that is booked when it ends, breaks or is left.

    The usage follows the chunk that says why the answer ended. It is read before that one is
    handed out, so that a caller who stops there is booked exactly.
    """

    def __init__(self, stream: Any, attempt: _Attempt) -> None:
        self._attempt = attempt
        self._stream = stream
        self._chunks = stream.__aiter__() if hasattr(stream, "__aiter__") else iter(stream)
        self._ahead: Any = None  # a chunk, or the exception that comes in its place

    def _broken(self, error: BaseException) -> Exception:
        """Books the stream; returns an error that may wait, raises a cancellation at once."""
        self._attempt.ended(error)
        if isinstance(error, Exception):
            return error
        raise error

    def _ended(self, end: Exception) -> Exception:
        self._attempt.ended()
        return end

    def _next(self) -> Any:
        """The chunk read ahead, None when there is none. Raises what came in its place."""
        chunk, self._ahead = self._ahead, None
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # it never came to be
            self._attempt.ended()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._stream, name)


class _Stream(_Watched):
    """The stream of a sync client."""

    def __iter__(self) -> _Stream:
        return self

    def __next__(self) -> Any:
        if self._ahead is None:
            self._ahead = self._pull()
        chunk = self._next()
        if _finish(chunk):
            self._ahead = self._pull()
        return chunk

    def _pull(self) -> Any:
        try:
            for chunk in self._chunks:
                if self._attempt.see(chunk):
                    return chunk
        except BaseException as error:
            return self._broken(error)
        return self._ended(StopIteration())

    def close(self) -> None:
        self._attempt.ended()
        self._stream.close()

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _AsyncStream(_Watched):
    """The stream of an async client."""

    def __aiter__(self) -> _AsyncStream:
        return self

    async def __anext__(self) -> Any:
        if self._ahead is None:
            self._ahead = await self._pull()
        chunk = self._next()
        if _finish(chunk):
            self._ahead = await self._pull()
        return chunk

    async def _pull(self) -> Any:
        try:
            async for chunk in self._chunks:
                if self._attempt.see(chunk):
                    return chunk
        except BaseException as error:
            return self._broken(error)
        return self._ended(StopAsyncIteration())

    async def close(self) -> None:
        self._attempt.ended()
        await self._stream.close()

    async def __aenter__(self) -> _AsyncStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


# --- HTTP ---------------------------------------------------------------------------------------


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token elsewhere, and turn a POST into a GET."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


# No proxy: a scraper's HTTP_PROXY is for the sites that it scrapes.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())


def _http(
    url: str, headers: Mapping[str, str], *, data: bytes | None = None, limit: int = 1 << 20
) -> tuple[int, Any, bytes]:
    """(status, headers, body up to limit bytes). Raises OSError, or ValueError on a strange URL."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url} is not an http:// or https:// URL")
    request = urllib.request.Request(url, data, dict(headers))  # noqa: S310  checked above
    try:
        with _opener.open(request, timeout=HTTP_TIMEOUT_SECONDS) as answer:
            return answer.status, answer.headers, answer.read(limit)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read(limit)
    except http.client.HTTPException as error:
        raise OSError(f"not an HTTP answer: {error!r}") from error


# --- delivery to an exporter on another host ----------------------------------------------------

BATCH_BYTES = 256 << 10  # a thousand lines or so
RETIRE_BYTES = 1 << 20  # a spool that is read and larger is taken away
IDLE_SECONDS = 0.2
BACKOFF_SECONDS = (0.5, 60.0)


class DeliveryError(Exception):
    """What keeps the spool from being delivered; trying again later is right."""


def deliver(
    spool: str | os.PathLike[str],
    exporter: str,
    *,
    token: Callable[[], str | None] = lambda: _ingest_token(None),
    once: bool = False,
    stop: threading.Event | None = None,
) -> int:
    """Send the spool to an exporter's URL until stop is set; once: what is there now.

    Returns how many events were delivered. A repeat after a crash is harmless: the exporter knows
    the ids. Raises DeliveryError when another delivery works on this spool, and with once when the
    exporter does not take it all; otherwise it tries again, less and less often up to a minute.
    """
    stop = stop or threading.Event()
    pause = BACKOFF_SECONDS[0]
    total = 0
    with _Delivery(os.fspath(spool), exporter, token) as delivery:
        while not stop.is_set():
            try:
                sent = delivery.round()
                total, pause = total + sent, BACKOFF_SECONDS[0]
                if once and not sent:
                    break
                wait = 0.0 if sent else IDLE_SECONDS
            except (DeliveryError, OSError) as error:
                if once:
                    raise DeliveryError(str(error)) from error
                _nag("deliver", f"{spool}: {error}; trying again")
                wait = pause * (1 - 0.25 * random.random())  # noqa: S311
                pause = min(pause * 2, BACKOFF_SECONDS[1])
            stop.wait(wait)
    return total


def _ingest_token(file: str | None) -> str | None:
    """Read afresh each time: a token may be replaced. Raises OSError."""
    file = file or os.environ.get("LLM_BUDGET_INGEST_TOKEN_FILE")
    if file:
        with open(file, encoding="ascii") as opened:
            return opened.read().strip()
    return os.environ.get("LLM_BUDGET_INGEST_TOKEN", "").strip() or None


class _Delivery:
    """The reader's side of the spool: read, send, remember, retire. One at a time (a lock)."""

    def __init__(self, spool: str, exporter: str, token: Callable[[], str | None]) -> None:
        self._spool = spool
        self._url = exporter.rstrip("/") + "/v1/usage"
        self._token = token
        self._batch_bytes = BATCH_BYTES
        self._mark = f"{spool}.delivered"

    def __enter__(self) -> _Delivery:
        self._lock_fd = _open(f"{self._spool}.lock", os.O_RDWR)
        if not _lock(self._lock_fd, fcntl.LOCK_EX, 0.0):
            os.close(self._lock_fd)
            raise DeliveryError(f"another delivery already reads {self._spool}")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock_fd)

    def round(self) -> int:
        """Send one batch of the spool, and each fold; how many events that were."""
        return self._spool_batch() + sum(map(self._send_fold, self._folds()))

    def _spool_batch(self) -> int:
        try:
            file = open(self._spool, "rb")  # noqa: SIM115  closed below
        except FileNotFoundError:
            return 0
        with file:
            header = file.readline(200)
            if header and not header.startswith(b'{"spool"'):
                raise DeliveryError(f"{self._spool} is not a spool: it does not begin as one")
            if not header:
                return 0
            offset = self._offset(header)
            file.seek(offset)
            while batch := self._batch(file):
                sent = self._post(batch)
                offset += len(batch)
                self._remember(header, offset)
                if sent:
                    return sent
            self._retire(file.fileno(), offset)
        return 0

    def _batch(self, file: BinaryIO) -> bytes:
        """The next whole lines; one that has no end yet waits."""
        batch = file.read(self._batch_bytes) + file.readline()
        return batch[: batch.rfind(b"\n") + 1]

    def _post(self, batch: bytes) -> int:
        """Deliver lines. Raises DeliveryError or OSError unless the exporter answers for each."""
        lines = sum(1 for line in batch.split(b"\n") if line.strip())
        if not lines:
            return 0
        headers = {"Content-Type": "application/x-ndjson"}
        token = self._token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        status, _, body = _http(self._url, headers, data=batch)
        if status == 413:  # down to a few lines or one sum
            self._batch_bytes = max(SLOT, min(self._batch_bytes, len(batch)) // 2)
        if status != 200:
            raise DeliveryError(f"{self._url} answered {status}: {body[:200]!r}")
        return self._answered_for(lines, body)

    def _answered_for(self, lines: int, body: bytes) -> int:
        try:
            answer = json.loads(body)
            refused = answer["rejected"]
            if answer["accepted"] + answer["duplicate"] + len(refused) != lines:
                raise ValueError("not every event is accounted for")
        except (ValueError, KeyError, TypeError) as error:
            raise DeliveryError(f"{self._url} is not an exporter: {error}") from error
        if refused:
            _nag("refused", f"the exporter refused {len(refused)} events: {refused[0]}")
        return lines

    def _offset(self, header: bytes) -> int:
        """Where to go on: behind the header, in a file not seen before."""
        try:
            with open(self._mark, encoding="ascii") as file:
                mark = json.load(file)
            if mark["header"] == header.decode():
                return int(mark["offset"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # none yet, or unreadable: from the start, and the ids make it harmless
        return len(header)

    def _remember(self, header: bytes, offset: int) -> None:
        temporary = f"{self._mark}.new"
        with open(temporary, "w", encoding="ascii") as file:
            json.dump({"header": header.decode(), "offset": offset}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._mark)

    def _retire(self, fd: int, offset: int) -> None:
        """Take a file away in which everything is delivered and no writer is at work."""
        if offset < RETIRE_BYTES or not _lock(fd, fcntl.LOCK_EX, 0.0):
            return
        if os.fstat(fd).st_size == offset and _names(self._spool, fd):
            os.unlink(self._spool)  # closing the file gives the lock back

    def _folds(self) -> list[str]:
        """The folds taken away and not yet delivered; the current one is taken if it has any."""
        fold = f"{self._spool}.fold"
        with contextlib.suppress(FileNotFoundError), open(fold, "rb") as file:
            fd = file.fileno()
            if os.fstat(fd).st_size and _lock(fd, fcntl.LOCK_EX, 0.0) and _names(fold, fd):
                os.rename(fold, f"{fold}.{os.urandom(8).hex()}")
        folder, name = os.path.split(os.path.abspath(fold))
        found = (os.path.join(folder, entry) for entry in sorted(os.listdir(folder)))
        return [path for path in found if os.path.basename(path).startswith(f"{name}.")]

    def _send_fold(self, path: str) -> int:
        with open(path, "rb") as file:
            # Without the holes that a power cut leaves: one would spoil the sum behind it.
            slots = file.read().replace(b"\0" * SLOT, b"")
        step = self._batch_bytes // SLOT * SLOT
        sent = sum(self._post(slots[at : at + step]) for at in range(0, len(slots), step))
        os.unlink(path)
        return sent


# --- the default client, and the command line ---------------------------------------------------


@functools.lru_cache(maxsize=1)
def default_client() -> Client:
    """The client that the functions below use, made from the environment at their first call."""
    return Client.from_environment()


def record(roaster: str | None, field: Field | None, response: Any = None, **more: Any) -> bool:
    """Client.record of the default client."""
    return default_client().record(roaster, field, response, **more)


def current(roaster: str | None = None) -> dict[str, Any] | None:
    """Client.current of the default client."""
    return default_client().current(roaster)


def allowed(field: str | None, roaster: str | None = None, default: bool = False) -> bool:
    """Client.allowed of the default client."""
    return default_client().allowed(field, roaster, default)


def lost() -> int:
    """Client.lost of the default client."""
    return default_client().lost()


def main(argv: Sequence[str] | None = None) -> int:
    """`python client.py deliver`: 0 when done or stopped, 1 when --once could not deliver all."""
    parser = argparse.ArgumentParser(prog="client.py", description="llm-budget's client")
    commands = parser.add_subparsers(dest="command", required=True)
    flags = commands.add_parser("deliver", help="send a spool to an exporter on another host")
    flags.add_argument("--spool", required=True, metavar="FILE")
    flags.add_argument("--exporter", required=True, metavar="URL")
    flags.add_argument(
        "--token-file",
        metavar="FILE",
        help="else LLM_BUDGET_INGEST_TOKEN_FILE or LLM_BUDGET_INGEST_TOKEN",
    )
    flags.add_argument("--once", action="store_true", help="what is there now, then end")
    arguments = parser.parse_args(argv)
    logging.basicConfig(format="%(asctime)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        deliver(
            arguments.spool,
            arguments.exporter,
            token=lambda: _ingest_token(arguments.token_file),
            once=arguments.once,
            stop=stop,
        )
    except (DeliveryError, ValueError) as error:  # ValueError: of the URL or the token
        sys.stderr.write(f"client.py: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
