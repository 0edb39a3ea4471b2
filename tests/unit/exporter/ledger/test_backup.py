"""Backup of a ledger in use; what a restored one means for HTTP ids and for Prometheus."""

import fcntl
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path

import pytest
import requests

from command.main import main
from command.stack.processes import Child
from common.errors import UserError
from exporter.ledger.backup import TEMPORARY, backup, restore
from tests.support.exporters import Exporter, event, exporter_process, url
from tests.support.waiting import until

LEDGER = "ledger.sqlite"


def back_up(folder: Path, name: str = "copy") -> Path:
    backup(folder / LEDGER, folder / name, force=False)
    return folder / name


def booked(path: Path) -> int:
    with sqlite3.connect(path) as db:
        return int(db.execute("SELECT coalesce(sum(success), 0) FROM accounts").fetchone()[0])


def test_a_backup_is_one_sound_file_that_holds_everything_acknowledged(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.book(*(event(id=str(index)) for index in range(50)))
        copy = back_up(tmp_path)
        exporter.book(event())
    assert booked(copy) == 50
    with sqlite3.connect(copy) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert sorted(os.listdir(tmp_path)) == ["budget.yml", "copy", LEDGER, f"{LEDGER}.lock"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600


def test_a_backup_under_steady_writing_ends_and_is_of_one_moment(tmp_path: Path) -> None:
    """Each request books a call in two fields: a copy never shows one without the other."""
    ended = threading.Event()
    with Exporter(tmp_path) as exporter:
        exporter.book(*(event(id=str(index)) for index in range(3000)))

        def write() -> None:
            while not ended.is_set():
                exporter.book(event(field="weight"), event(field="roast"))

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(5):
                copy = back_up(tmp_path, f"copy-{number}")
                with sqlite3.connect(copy) as db:
                    query = "SELECT field, sum(success) FROM accounts GROUP BY field"
                    counts = dict(db.execute(query))
                assert counts["notes"] == 3000
                assert counts.get("weight") == counts.get("roast")
        finally:
            ended.set()
            writer.join()


def test_a_commit_between_two_steps_does_not_make_it_begin_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.ledger.backup.PAGES_PER_STEP", 8)
    with Exporter(tmp_path) as exporter:
        exporter.book(*(event(id=str(index)) for index in range(2000)))
        left: list[int] = []

        def progress(_: int, remaining: int, __: int) -> None:
            left.append(remaining)
            exporter.book(event())

        backup(tmp_path / LEDGER, tmp_path / "copy", force=False, progress=progress)
        assert len(left) > 2
        assert left == sorted(left, reverse=True)
        assert booked(tmp_path / "copy") == 2000


def test_a_backup_overwrites_only_when_told_and_never_the_ledger(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        copy = back_up(tmp_path)
        exporter.book(event())
        with pytest.raises(UserError, match="exists; name another file"):
            back_up(tmp_path)
        assert booked(copy) == 0
        backup(tmp_path / LEDGER, copy, force=True)
        assert booked(copy) == 1
        with pytest.raises(UserError, match="is the ledger itself"):
            backup(tmp_path / LEDGER, tmp_path / LEDGER, force=True)


def test_a_backup_that_fails_leaves_nothing_and_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Exporter(tmp_path).close()
    copy = tmp_path / "copy"
    copy.write_text("the old one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*copy.*No space"):
        backup(tmp_path / LEDGER, copy, force=True)
    assert copy.read_text() == "the old one"
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


KILLED = """
import os, signal, sys
from pathlib import Path
from exporter.ledger import backup

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

os.fsync = die
getattr(backup, sys.argv[1])(Path(sys.argv[2]), Path(sys.argv[3]), force=True)
"""


@pytest.mark.parametrize("verb", ["backup", "restore"])
def test_what_a_killed_one_left_goes_with_the_next_but_not_what_one_at_work_writes(
    tmp_path: Path, verb: str
) -> None:
    Exporter(tmp_path).close()
    copy = back_up(tmp_path)
    folder = tmp_path / "other"
    folder.mkdir()
    argv = [sys.executable, "-c", KILLED, verb, str(copy), str(folder / "l.sqlite")]
    assert subprocess.run(argv, check=False).returncode == -signal.SIGKILL
    left = [name for name in os.listdir(folder) if name.startswith(TEMPORARY)]
    assert left
    at_work = folder / f"{TEMPORARY}12345678"
    with at_work.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        backup(copy, folder / "another name", force=False)
        now = set(os.listdir(folder))
        assert (now & set(left), at_work.name in now) == (set(), True)
    restore(copy, folder / "l.sqlite", force=True)
    assert not [name for name in os.listdir(folder) if name.startswith(TEMPORARY)]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "there is no ledger at"), ("text, not a database" * 500, "is not a ledger"),
     ("", "is not a ledger")],
)  # fmt: skip
def test_what_is_no_ledger_is_neither_backed_up_nor_restored(
    tmp_path: Path, content: str | None, words: str
) -> None:
    other = tmp_path / "other"
    if content is not None:
        other.write_text(content)
    with pytest.raises(UserError, match=words):
        backup(other, tmp_path / "copy", force=False)
    with pytest.raises(UserError, match=words):
        restore(other, tmp_path / LEDGER, force=False)
    assert os.listdir(tmp_path) == (["other"] if content is not None else [])


def test_a_damaged_or_newer_backup_is_refused(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.book(*(event(id=str(index)) for index in range(500)))
        newer, damaged = back_up(tmp_path, "newer"), back_up(tmp_path, "damaged")
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 99")
    content = bytearray(damaged.read_bytes())
    content[4096:-4096] = b"\xff" * (len(content) - 8192)
    damaged.write_bytes(content)
    target = tmp_path / "new" / LEDGER
    target.parent.mkdir()
    with pytest.raises(UserError, match="newer exporter"):
        restore(newer, target, force=False)
    with pytest.raises(UserError, match="damaged"):
        restore(damaged, target, force=False)
    assert os.listdir(target.parent) == []


def test_a_restored_ledger_is_the_same_ledger_and_its_ids_make_a_replay_exact(
    tmp_path: Path,
) -> None:
    calls = [event(id=str(index)) for index in range(20)]
    with Exporter(tmp_path) as exporter:
        exporter.book(*calls[:10])
        copy = back_up(tmp_path)
        exporter.book(*calls[10:])
        identity, page = exporter.status()["ledger"], exporter.page()
    aside = restore(copy, tmp_path / LEDGER, force=True)
    assert aside is not None
    assert booked(aside) == 20
    with Exporter(tmp_path) as exporter:
        # Prometheus sees the same ledger with a lower total: LLMLedgerRegressed, and the highest
        # total seen is held.
        assert exporter.status()["ledger"] == identity
        assert exporter.spend() == 10 * Decimal("0.00038")
        answer = exporter.book(*calls)
        assert (answer["accepted"], answer["duplicate"]) == (10, 10)
        books = {key: value for key, value in page.items() if key[0].startswith("llm_cost")}
        assert books.items() <= exporter.page().items()


def test_a_journal_left_behind_never_spoils_the_restored_ledger(tmp_path: Path) -> None:
    """As after a kill -9: the last commits lie in -wal, and belong to the old ledger."""
    with Exporter(tmp_path / "live") as exporter:
        copy = back_up(tmp_path / "live")
        exporter.book(*(event(id=str(index)) for index in range(10)))
        killed = tmp_path / "killed"
        killed.mkdir()
        for suffix in ("", "-wal"):
            name = f"{LEDGER}{suffix}"
            (killed / name).write_bytes((tmp_path / "live" / name).read_bytes())
    assert (killed / f"{LEDGER}-wal").stat().st_size > 0
    aside = restore(copy, killed / LEDGER, force=True)
    assert aside is not None
    assert booked(killed / LEDGER) == 0
    assert booked(aside) == 10
    (killed / LEDGER).unlink()
    (killed / f"{LEDGER}-wal").write_bytes(b"stale")
    restore(copy, killed / LEDGER, force=False)
    assert booked(killed / LEDGER) == 0


def test_a_restore_needs_the_exporter_down_and_asks_before_it_replaces(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.book(event())
        copy = back_up(tmp_path)
        with pytest.raises(UserError, match="an exporter already uses it"):
            restore(copy, tmp_path / LEDGER, force=True)
    with pytest.raises(UserError, match="add --force"):
        restore(copy, tmp_path / LEDGER, force=False)
    assert booked(tmp_path / LEDGER) == 1
    first = restore(copy, tmp_path / LEDGER, force=True)
    assert restore(copy, tmp_path / LEDGER, force=True) != first


def test_a_restore_that_fails_leaves_the_ledger_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Exporter(tmp_path) as exporter:
        copy = back_up(tmp_path)
        exporter.book(event())

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", refuse)
        with pytest.raises(UserError, match="Read-only"):
            restore(copy, tmp_path / LEDGER, force=True)
    with Exporter(tmp_path) as exporter:
        assert exporter.status()["requests"] == 1


def test_the_commands_say_what_they_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = ["--ledger", str(tmp_path / LEDGER)]
    with Exporter(tmp_path) as exporter:
        exporter.book(event())
        assert main(["backup", str(tmp_path / "copy"), *ledger]) == 0
        assert "Backed up" in capsys.readouterr().out
        assert main(["backup", str(tmp_path / "copy"), *ledger]) == 2
        copy = tmp_path / "no" / "copy"
        assert main(["backup", str(copy), *ledger]) == 2
        assert f"cannot write {copy}: No such file or directory\n" in capsys.readouterr().err
    assert main(["restore", str(tmp_path / "copy"), *ledger, "--force"]) == 0
    output = capsys.readouterr().out
    assert f"is now {tmp_path / LEDGER}.before-restore-1" in output
    assert "Start the exporter" in output


def test_a_restored_ledger_reads_its_log_again_from_its_own_offsets(tmp_path: Path) -> None:
    log = tmp_path / "usage.jsonl"

    def booked_by(child: Child) -> int:
        answer = requests.get(url(child, "/api/v1/status"), timeout=10)
        answer.raise_for_status()
        return int(answer.json()["requests"])

    def write(count: int) -> None:
        with log.open("a") as file:
            file.writelines(json.dumps(event()) + "\n" for _ in range(count))

    with exporter_process(tmp_path, "", "--log", str(log)) as child:
        write(10)
        until(lambda: booked_by(child) == 10, what="the first lines")
        copy = back_up(tmp_path)
        write(7)
        until(lambda: booked_by(child) == 17, what="the lines after the backup")
    restore(copy, tmp_path / LEDGER, force=True)
    assert booked(tmp_path / LEDGER) == 10
    write(3)
    with exporter_process(tmp_path, "", "--log", str(log)) as child:
        until(lambda: booked_by(child) == 20, what="every line")
        write(1)
        until(lambda: booked_by(child) == 21, what="a new line")
