"""The new code goes on from what the version before it left; that one says what it cannot read.

tests/data/released was written by schema 4: the golden ledger, and a receiver at `control` with the
tuning of one roaster, beside its ladder and baseline of then. Never write it again.
"""

import hashlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from common.errors import UserError
from exporter.ledger.schema import MIGRATIONS, connect, migrate
from tests.support.exporters import ADMIN, INGEST, NOON, Exporter, event
from tests.support.golden_metrics import CONFIG
from tests.support.ledger_dump import books
from tests.support.paths import ROOT
from tests.support.receivers import NOW, Receiver, alert

RELEASED = ROOT / "tests" / "data" / "released"
SCHEMA = 4


def install(folder: Path) -> Path:
    for path in RELEASED.iterdir():
        shutil.copy(path, folder)
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        db.executescript((folder / "ledger.sql").read_text())
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
    return folder


def test_the_exporter_goes_on_with_the_released_ledger(tmp_path: Path) -> None:
    install(tmp_path)
    token = {"Authorization": f"Bearer {INGEST}"}
    for _ in range(2):  # also after a restart
        with Exporter(tmp_path, CONFIG, NOON, tokens=True) as exporter:
            expected = (RELEASED / "books.metrics").read_text()
            assert books(exporter.http.get("/metrics").text, expected) == expected
            known = event(500, 20, cached=400, id="b", roaster="subko", field="tags")
            assert exporter.post([known], **token).json()["duplicate"] == 1
            grants = exporter.http.get(
                "/api/v1/grants", headers={"Authorization": f"Bearer {ADMIN}"}
            )
            assert "golden" in grants.text
            exporter.ledger.keep_balances({"USD": (12_340_000, 0)}).result(30)
            query = {"since": "7d"}
            found = exporter.http.get(
                "/api/v1/reconcile", params=query, headers={"Authorization": f"Bearer {ADMIN}"}
            ).json()
            assert (found["problem"], found["total"]["charged_usd"]) == ("", "0")


def test_the_receiver_goes_on_with_the_released_state_and_ladder(tmp_path: Path) -> None:
    install(tmp_path)
    before = (tmp_path / "effective.yml").read_text()
    for _ in range(2):
        receiver = Receiver(
            tmp_path, tmp_path / "llm_config.yml", ladder=tmp_path / "degradation.yml", now=NOW
        )
        try:
            state = receiver.http.get("/state").json()
            assert (state["level"], state["tunings"]) == ("control", ["roaster/blue-tokai"])
            assert state["problems"] == {}
            assert set(state["claims"]) == {"conserve", "control", "roaster/blue-tokai"}
            assert receiver.file.read_text() == before
        finally:
            receiver.close()
    receiver = Receiver(
        tmp_path, tmp_path / "llm_config.yml", ladder=tmp_path / "degradation.yml", now=NOW
    )
    assert receiver.webhook(alert("emergency")) == 200
    assert receiver.level() == "emergency"
    receiver.close()


def test_the_old_exporter_says_what_to_do_and_leaves_the_new_ledger_alone(tmp_path: Path) -> None:
    path = install(tmp_path) / "ledger.sqlite"
    with Exporter(tmp_path, CONFIG, NOON):
        pass
    before = hashlib.sha256(path.read_bytes()).digest()
    sentence = (
        f"the ledger {path} has schema {len(MIGRATIONS)}, newer than this exporter's {SCHEMA}; "
        "upgrade the exporter"
    )
    with closing(connect(path)) as db, pytest.raises(UserError) as said:
        migrate(db, path, MIGRATIONS[:SCHEMA])
    assert str(said.value) == sentence
    assert hashlib.sha256(path.read_bytes()).digest() == before
    with Exporter(tmp_path, CONFIG, NOON) as exporter:
        assert exporter.http.get("/metrics").status_code == 200
