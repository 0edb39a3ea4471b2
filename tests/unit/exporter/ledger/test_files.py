"""A ledger's files that another program removes, moves, cuts or overwrites while they are used."""

import gc
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.ledger import writer
from exporter.ledger.backup import backup
from tests.support.exporters import NOON, Exporter, event
from tests.support.waiting import until

WAL = "ledger.sqlite-wal"


def remove(folder: Path) -> None:
    (folder / WAL).unlink()


def move(folder: Path) -> None:
    (folder / WAL).rename(folder / "elsewhere")


def replace(folder: Path) -> None:
    (folder / "other").write_bytes(b"")
    (folder / "other").rename(folder / WAL)


def restart(folder: Path) -> Exporter:
    """As after kill -9: on a copy of the files, because the process itself lives on."""
    again = folder / "again"
    again.mkdir()
    for name in ("ledger.sqlite", WAL):
        if (folder / name).exists():
            shutil.copyfile(folder / name, again / name)
    return Exporter(again)


def booked(folder: Path) -> int:
    with restart(folder) as exporter:
        return int(exporter.status()["requests"])


@pytest.mark.parametrize("harm", [remove, move, replace])
def test_a_write_ahead_log_that_is_gone_is_said_and_what_was_booked_is_saved(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.book(*[event(id=f"a{n}") for n in range(50)])
        harm(tmp_path)
        answer = exporter.post(event(id="b"))
        assert answer.status_code == 503
        assert "write-ahead log was removed or replaced" in answer.json()["error"]
        health = exporter.http.get("/health")
        assert health.status_code == 503
        assert "write-ahead log was removed" in health.json()["status"]
        assert booked(tmp_path) == 50


def test_it_is_noticed_also_when_nothing_is_booked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PROBE_SECONDS", 0.01)
    with Exporter(tmp_path) as exporter:
        exporter.book(event())
        (tmp_path / WAL).rename(tmp_path / "aside")
        until(lambda: exporter.http.get("/health").status_code == 503)
        (tmp_path / "aside").rename(tmp_path / WAL)  # put back, it goes on
        until(lambda: exporter.http.get("/health").status_code == 200)
        exporter.book(event())
    with Exporter(tmp_path) as exporter:
        assert exporter.status()["requests"] == 2


def cut_to_nothing(path: Path) -> None:
    os.truncate(path, 0)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def zero(path: Path) -> None:
    path.open("r+b").write(bytes(path.stat().st_size))


def overwrite(path: Path) -> None:
    """With the log of another ledger."""
    with Exporter(path.parent / "other") as other:
        other.book(*[event(id=str(n)) for n in range(9)])
        shutil.copyfile(path.parent / "other" / WAL, path)


@pytest.mark.parametrize("harm", [cut_to_nothing, cut_short, zero, overwrite])
def test_a_write_ahead_log_cut_or_overwritten_is_said_and_never_copied_into_the_file(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.book(event(id="a"))
        exporter.ledger.writer.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        exporter.book(*[event(id=f"b{n}") for n in range(50)])
        harm(tmp_path / WAL)
        answer = exporter.post(event(id="c"))
        assert answer.status_code == 503
        assert "write-ahead log was cut or overwritten" in answer.json()["error"]
    del exporter, answer  # whatever connection is left ends here
    gc.collect()
    with restart(tmp_path) as again:
        assert again.ledger.writer.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert again.status()["requests"] >= 1


@pytest.mark.parametrize("harm", [cut_to_nothing, zero, None])
def test_a_file_overwritten_in_its_place_is_said(
    tmp_path: Path, harm: Callable[[Path], None] | None
) -> None:
    path = tmp_path / "ledger.sqlite"
    with Exporter(tmp_path) as exporter:
        exporter.book(event())
        exporter.ledger.writer.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        backup(path, tmp_path / "copy", force=False)
        exporter.book(event())
        if harm:
            harm(path)
        else:
            shutil.copyfile(tmp_path / "copy", path)
        answer = exporter.post(event())
        assert answer.status_code == 503
        assert "its file was cut or overwritten" in answer.json()["error"]


def test_checkpoints_of_this_and_of_other_programs_are_no_harm(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
        for number, kind in enumerate(("PASSIVE", "FULL", "RESTART", "TRUNCATE") * 2):
            exporter.book(*[event(roaster=f"r{number}-{n}", id=f"{number}-{n}") for n in range(99)])
            other.execute(f"PRAGMA wal_checkpoint({kind})")
            exporter.book(event())
            exporter.ledger.writer.db.execute(f"PRAGMA wal_checkpoint({kind})")
        other.close()
        exporter.book(event())
        assert exporter.status()["requests"] == 8 * 100 + 1


def test_a_large_commit_that_makes_a_checkpoint_is_no_harm(tmp_path: Path) -> None:
    with Exporter(tmp_path, now=NOON) as exporter:
        for number in range(6):
            calls = [event(id=f"{number}-{n}") for n in range(10_000)]
            assert exporter.book(*calls)["accepted"] == 10_000
        assert exporter.http.get("/health").status_code == 200
