"""Ledgers of every earlier schema open without loss; killed in between, newer, foreign, twice."""

import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import UserError
from exporter.ledger.schema import MIGRATIONS, connect, migrate, open_ledger
from tests.support.exporters import ADMIN, INGEST, NOON, Exporter, event
from tests.support.faulty_sqlite import FaultyConnection
from tests.support.golden_metrics import CONFIG, ROOT
from tests.support.ledger_dump import BOOKS_1, SCHEMA_1, books

SCHEMAS = range(1, len(MIGRATIONS) + 1)
MIGRATE_AND_DIE = """
import os, signal, sqlite3, sys
from pathlib import Path
from exporter.ledger import schema

class Mortal(sqlite3.Connection):
    left = int(sys.argv[2])
    def execute(self, *arguments):
        if Mortal.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        Mortal.left -= 1
        return super().execute(*arguments)

path = Path(sys.argv[1])
db = sqlite3.connect(path, isolation_level=None, factory=Mortal)
schema.migrate(db, path)
"""


def old_ledger(path: Path, schema: int) -> Path:
    """A filled ledger of an earlier schema: that of schema 1, brought up to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as db:
        db.executescript(SCHEMA_1.read_text())
    db.close()
    upgrade(path, schema)
    return path


def upgrade(path: Path, schema: int) -> None:
    """What an exporter whose newest schema this is does when it opens a ledger."""
    db = connect(path)
    migrate(db, path, MIGRATIONS[:schema])
    assert version(db) == schema
    db.close()


def version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def schema_of(path: Path) -> list[tuple[str, ...]]:
    with sqlite3.connect(path) as db:
        query = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT GLOB 'event_*'"
        return sorted(db.execute(query + " AND name NOT GLOB 'sqlite_autoindex_event_*'"))


def check(folder: Path) -> None:
    """The books are those of schema 1, its ids and adjustments are known, and it goes on."""
    with Exporter(folder, CONFIG, NOON, tokens=True) as exporter:
        expected = BOOKS_1.read_text()
        assert books(exporter.http.get("/metrics").text, expected) == expected
        token = {"Authorization": f"Bearer {INGEST}"}
        known = event(500, 20, cached=400, id="b", roaster="subko", field="tags")
        answer = exporter.post([known, event(id="a"), event(id="new")], **token).json()
        assert (answer["accepted"], answer["duplicate"]) == (1, 1)
        assert answer["rejected"][0]["reason"].startswith("conflict")
        admin = {"Authorization": f"Bearer {ADMIN}"}
        grants = exporter.http.get("/api/v1/grants", headers=admin).json()
        assert "golden" in str(grants)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_ledger_of_each_earlier_schema_keeps_its_books(tmp_path: Path, schema: int) -> None:
    old_ledger(tmp_path / "ledger.sqlite", schema)
    check(tmp_path)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_each_way_leads_to_the_same_schema(tmp_path: Path, schema: int) -> None:
    blank = tmp_path / "blank.sqlite"
    open_ledger(blank).close()
    stepwise = old_ledger(tmp_path / "stepwise.sqlite", schema)
    open_ledger(stepwise).close()
    open_ledger(stepwise).close()  # again: nothing is left to do
    assert schema_of(stepwise) == schema_of(blank)
    with sqlite3.connect(stepwise) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.parametrize("schema", [0, *SCHEMAS[:-1]])
def test_a_migration_that_fails_at_any_statement_is_done_whole_the_next_time(
    tmp_path: Path, schema: int
) -> None:
    for statement in range(200):
        path = tmp_path / str(statement) / "ledger.sqlite"
        path.parent.mkdir()
        if schema:
            old_ledger(path, schema)
        db = sqlite3.connect(path, isolation_level=None, factory=FaultyConnection)
        db.arm(statement, 1)
        try:
            migrate(db, path)
        except sqlite3.OperationalError:
            pass
        else:
            assert statement > 5
            return
        finally:
            db.disarm()
            db.close()
        open_ledger(path).close()
        if schema:
            check(path.parent)
        shutil.rmtree(path.parent)
    raise AssertionError("the faults never reached the end of the migration")


@pytest.mark.parametrize("statements", [2, 4, 7])
def test_killed_in_the_middle_of_a_migration_it_starts_again(
    tmp_path: Path, statements: int
) -> None:
    path = tmp_path / "ledger.sqlite"
    argv = [sys.executable, "-c", MIGRATE_AND_DIE, str(path), str(statements)]
    done = subprocess.run(argv, cwd=ROOT, timeout=60)
    assert done.returncode == -signal.SIGKILL
    with Exporter(tmp_path) as exporter:
        exporter.book(event())
        assert exporter.status()["requests"] == 1


def test_a_newer_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    db = open_ledger(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"newer than this exporter's .*; upgrade the exporter"):
        open_ledger(path)
    assert path.read_bytes() == before


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "grafana.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE dashboards (id)")
    with pytest.raises(UserError, match="is a database, but no ledger"):
        open_ledger(path)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT name FROM sqlite_schema").fetchall() == [("dashboards",)]
