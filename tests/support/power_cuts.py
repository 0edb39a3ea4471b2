"""Power cuts: what strace saw a process write, and the disks that a cut at some moment may leave.

A write that was not synced may be there, missing, torn at a sector, or zeroed, each apart from the
others; files made, renamed and removed since the folder's last sync may not have been, from some
point on. What is synced stays, and a file's sync keeps its name, too, as Linux's file systems do.
"""

import contextlib
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.paths import ROOT
from tests.support.power_cut_load import LEDGER, Machine, retire_early

VARIABLE = "LLM_BUDGET_POWER_CUT"  # the only seed to try
SECTOR = 512
CALLS = "openat,write,pwrite64,ftruncate,rename,unlink,fsync,fdatasync"
NOT_ON_DISK = ("-shm", ".lock")  # made anew at each start; locks have no content
_CALL = re.compile(r"(\w+)\((.*)\) += +\d+")
_HEX = re.compile(r"\\x(..)")
JOURNAL = "../journal"


class Op(NamedTuple):
    """One thing done to a file. path: relative to the folder, empty for the folder itself."""

    call: str
    path: str
    number: int = 0  # an offset, or a size
    data: bytes = b""
    to: str = ""  # of a rename
    flags: str = ""


@dataclass
class Inode:
    """A file: what is synced of it, and the changes since. A change without data cuts the file."""

    number: int  # how many were made before it
    synced: bytearray = field(default_factory=bytearray)
    changes: list[tuple[int, bytes | None]] = field(default_factory=list)
    size: int = 0


class File(NamedTuple):
    """A file that is left."""

    path: str
    number: int
    content: bytes


class Disk:
    """The files of a folder as they are, and how much of that is synced."""

    def __init__(self) -> None:
        self._names: dict[str, Inode] = {}
        self._made = 0
        self._synced: dict[str, Inode] = {}
        self._unsynced: list[tuple[Op, Inode]] = []  # what happened to names

    def apply(self, op: Op) -> None:
        if op.call in ("fsync", "fdatasync"):
            self._sync(op.path)
        elif op.call in ("rename", "unlink"):
            self._unsynced.append((op, self._names[op.path]))
            _rename(self._names, *self._unsynced[-1])
        elif op.call == "openat":
            self._open(op)
        else:
            self._change(self._names[op.path], op)

    def _open(self, op: Op) -> None:
        if "O_CREAT" in op.flags and op.path not in self._names:
            self._unsynced.append((op, Inode(self._made)))
            self._made += 1
            _rename(self._names, *self._unsynced[-1])
        elif "O_TRUNC" in op.flags:
            self._change(self._names[op.path], op._replace(call="ftruncate"))

    def _change(self, inode: Inode, op: Op) -> None:
        data = None if op.call == "ftruncate" else op.data
        offset = inode.size if op.call == "write" else op.number
        inode.changes.append((offset, data))
        inode.size = offset if data is None else max(inode.size, offset + len(data))

    def _sync(self, path: str) -> None:
        if path:
            inode = self._names[path]
            for change in inode.changes:
                _put(inode.synced, *change)
            inode.changes = []
            made = [
                at for at, (op, new) in enumerate(self._unsynced, 1) if new is inode and not op.to
            ]
        kept = len(self._unsynced) if not path else max(made, default=0)
        for change in self._unsynced[:kept]:
            _rename(self._synced, *change)
        del self._unsynced[:kept]

    def numbers(self) -> dict[str, int]:
        """The number of each file."""
        return {path: inode.number for path, inode in self._names.items()}

    def cut(self, rng: random.Random) -> list[File]:
        """Files that a power cut may leave of what is there now."""
        names = dict(self._synced)
        for change in self._unsynced[: rng.randint(0, len(self._unsynced))]:
            _rename(names, *change)
        return [File(path, inode.number, _left(inode, rng)) for path, inode in names.items()]


def _rename(names: dict[str, Inode], op: Op, inode: Inode) -> None:
    if op.call != "openat":
        names.pop(op.path, None)
    if op.call != "unlink":
        names[op.to or op.path] = inode


def _put(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
    content.extend(bytes(max(0, offset - len(content))))
    if data:
        content[offset : offset + len(data)] = data


def _left(inode: Inode, rng: random.Random) -> bytes:
    content = bytearray(inode.synced)
    in_order = rng.random() < 0.5
    last = rng.randint(0, len(inode.changes))
    for number, (offset, data) in enumerate(inode.changes):
        if in_order:
            fate = "there" if number < last else "torn" if number == last else "missing"
        else:
            fate = rng.choice(("there", "missing", "torn", "zeroed"))
        if fate == "there":
            _put(content, offset, data)
        elif data and fate != "missing":
            _put(content, *_spoilt(offset, data, fate, rng))
    return bytes(content)


def _spoilt(offset: int, data: bytes, fate: str, rng: random.Random) -> tuple[int, bytes]:
    if fate == "zeroed":
        return offset, bytes(len(data))
    sector = (offset + rng.randint(0, len(data))) // SECTOR * SECTOR
    kept = max(0, sector - offset)
    return (offset, data[:kept]) if rng.random() < 0.5 else (offset + kept, data[kept:])


class Cut(NamedTuple):
    """What a power cut left, what was reported by then, and what was booked for certain."""

    files: list[File]
    reported: Counter[str]
    booked: Counter[str]


class Recording:
    """What a load did to its disk, in order, and what it said meanwhile."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.disk, journal, trace = folder / "disk", folder / "journal", folder / "trace"
        self.disk.mkdir()
        load = [sys.executable, "-m", "tests.support.power_cut_load", self.disk, journal, str(seed)]
        strace = ["strace", "-f", "-y", "-xx", "-s", "9999999", "-e", f"trace={CALLS}", "-o", trace]
        if reason := why_not():
            pytest.skip(reason)
        subprocess.run([*strace, *load], cwd=ROOT, check=True, timeout=120)
        lines = trace.read_text().splitlines()
        found = (_op(line, folder) for line in _whole(lines))
        self.ops = [op for op in found if op is not None]
        self.inodes: dict[int, int] = {}  # by number
        self._play(len(self.ops))

    def cut(self, rng: random.Random) -> Cut:
        """A moment, and what may be left then."""
        disk, cut = self._play(rng.randint(0, len(self.ops)))
        return cut._replace(files=disk.cut(rng))

    def _play(self, count: int) -> tuple[Disk, Cut]:
        disk, reported, booked = Disk(), Counter[str](), Counter[str]()
        for op in self.ops[:count]:
            if op.path != JOURNAL:
                disk.apply(op)
                continue
            kind, what = json.loads(op.data or '["opened", {}]')
            if kind == "reports":
                reported[what] += 1
            elif kind == "booked":
                booked = Counter(what)
            elif kind == "inodes":
                self.inodes |= {disk.numbers()[path]: inode for path, inode in what.items()}
        return disk, Cut([], reported, booked)


def _whole(lines: list[str]) -> Iterator[str]:
    """The calls of a trace, without process ids; one that another thread interrupted ends it."""
    begun: dict[str, str] = {}
    for line in lines:
        pid, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            begun[pid] = text.removesuffix("<unfinished ...>").rstrip()
        elif text.startswith("<... "):
            yield begun.pop(pid) + text.partition("resumed>")[2]
        else:
            yield text


def _op(line: str, folder: Path) -> Op | None:
    """The operation of a line of strace, if it concerns the folder's disk or journal."""
    call = _CALL.match(line)
    if call is None or "(deleted)" in call[2]:
        return None
    name, arguments = call[1], call[2].split(", ")
    texts = [bytes.fromhex("".join(_HEX.findall(argument))) for argument in arguments]
    if name == "openat":
        del texts[0]  # the current folder
    path = _relative(texts[0], folder)
    if path is None or (name == "openat" and "O_CREAT" not in line):
        return None
    if name == "rename":
        return Op(name, path, to=_relative(texts[1], folder) or "")
    number = int(arguments[-1]) if name in ("pwrite64", "ftruncate") else 0
    return Op(
        name, path, number, texts[1] if "write" in name else b"", flags=" ".join(arguments[2:3])
    )


def _relative(path: bytes, folder: Path) -> str | None:
    """None for what is neither in the disk nor the journal."""
    name = path.decode(errors="replace")
    if name == str(folder / "journal"):
        return JOURNAL
    disk = str(folder / "disk")
    inside = name == disk or name.startswith(f"{disk}/")
    return name.removeprefix(disk).strip("/") if inside and not name.endswith(NOT_ON_DISK) else None


def recover(cut: Cut, recording: Recording, folder: Path) -> dict[str, Counter[str]]:
    """Start again on a disk, report more, and compare: the calls that are lost, and doubled."""
    folder.mkdir()
    for file in cut.files:
        (folder / file.path).write_bytes(file.content)
    _as_before(cut, recording, folder)
    machine = Machine(folder)
    machine.ledger.writer.db.execute("PRAGMA synchronous = OFF")  # nobody cuts the power of a test
    try:
        again = machine.go_on([name for name in cut.reported if name.startswith("record")][-40:])
        found = machine.booked()
    finally:
        machine.close()
    return {"lost": cut.booked + again - found, "doubled": found - cut.reported - again}


def _as_before(cut: Cut, recording: Recording, folder: Path) -> None:
    """The files have other paths and inodes than before the cut: tell the ledger so."""
    new = {
        str(recording.inodes[file.number]): str((folder / file.path).stat().st_ino)
        for file in cut.files
        if file.number in recording.inodes
    }
    db = sqlite3.connect(folder / LEDGER)
    with contextlib.closing(db), db:
        if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'log_positions'").fetchone():
            return  # the cut was before the ledger was made
        rows = db.execute("SELECT * FROM log_positions").fetchall()
        db.execute("DELETE FROM log_positions")
        for device, inode, *rest in rows:
            row = (device, new.get(inode, f"9999{inode}"), *rest)
            db.execute(f"INSERT INTO log_positions VALUES ({', '.join('?' * len(row))})", row)
        for table, column in (("logs", "path"), ("log_positions", "log")):
            query = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
            db.execute(query, (str(recording.disk), str(folder)))


def why_not() -> str:
    """Why strace cannot watch a process here; empty when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed: apt-get install strace"
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return f"strace may not watch a process here: {done.stderr}" if done.returncode else ""


def try_cuts(folder: Path, seeds: Iterable[int]) -> Counter[str]:
    """Cut the power at a moment for each seed: how many were tried, calls lost, doubled.

    The disk of a seed that failed is kept, and how to repeat it is printed.
    """
    recording = Recording(folder, seed=1)
    totals: Counter[str] = Counter()
    for seed in [int(os.environ[VARIABLE])] if os.environ.get(VARIABLE) else seeds:
        disk = folder / f"cut-{seed}"
        with pytest.MonkeyPatch.context() as patch:
            retire_early(patch.setattr)
            wrong = recover(recording.cut(random.Random(seed)), recording, disk)
        totals["tried"] += 1
        totals.update({what: calls.total() for what, calls in wrong.items()})
        if any(wrong.values()):
            print(f"{VARIABLE}={seed} repeats this: {wrong}; the disk is {disk}")
        else:
            shutil.rmtree(disk)
    return totals
