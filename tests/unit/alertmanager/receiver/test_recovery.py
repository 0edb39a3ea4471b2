"""Lost and damaged files: no damage lifts a protection."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support.ladders import BASELINE_FILE
from tests.support.receivers import ADMIN, Receiver, alert


def damage_none(_: Path) -> None: ...


def lose_state(folder: Path) -> None:
    (folder / "state.json").unlink()


def corrupt_state(folder: Path) -> None:
    (folder / "state.json").write_bytes(b'{"level": "eme')


def foreign_level(folder: Path) -> None:
    (folder / "state.json").write_text('{"override": {"mode": "pin", "level": "odd", "reason": "r",'
                                       ' "author": "a", "at": 1}}')  # fmt: skip


def lose_state_and_audit(folder: Path) -> None:
    lose_state(folder)
    (folder / "state.audit.jsonl").unlink()


def lose_state_and_effective(folder: Path) -> None:
    lose_state(folder)
    next(folder.glob("effective.*")).unlink()


def lose_state_and_edit_effective(folder: Path) -> None:
    lose_state(folder)
    next(folder.glob("effective.*")).write_text("enabled: true\n")


def lose_everything_but_a_foreign_effective(folder: Path) -> None:
    lose_state_and_audit(folder)
    next(folder.glob("effective.*")).write_text('{"enabled": true}')


@pytest.mark.parametrize("suffix", [".yml", ".json"])
@pytest.mark.parametrize(
    ("damage", "level", "tunings"),
    [
        (damage_none, "emergency", ["batch_up", "roaster/naivo"]),
        (lose_state, "emergency", ["batch_up", "roaster/naivo"]),
        (corrupt_state, "emergency", ["batch_up", "roaster/naivo"]),
        (foreign_level, "emergency", ["batch_up", "roaster/naivo"]),
        (lose_state_and_effective, "emergency", ["batch_up", "roaster/naivo"]),
        (lose_state_and_edit_effective, "fallback", ["batch_up", "roaster/naivo"]),
        (lose_everything_but_a_foreign_effective, "fallback", []),
    ],
)
def test_no_damage_lifts_a_protection(
    tmp_path: Path,
    suffix: str,
    damage: Callable[[Path], None],
    level: str,
    tunings: list[str],
) -> None:
    baseline = tmp_path / f"llm{suffix}"
    document = yaml.safe_load(BASELINE_FILE.read_text())
    baseline.write_text(json.dumps(document) if suffix == ".json" else yaml.dump(document))
    first = Receiver(tmp_path, baseline)
    first.webhook(alert("emergency"), alert(tuning="roaster", roaster="naivo"))
    word = {"mode": "tune", "tuning": "batch_up", "reason": "r", "author": "ann"}
    assert first.post("/api/v1/override", word, ADMIN).status_code == 200
    first.close()
    damage(tmp_path)
    again = Receiver(tmp_path, baseline)
    assert (again.level(), again.http.get("/state").json()["tunings"]) == (level, tunings)
    assert again.http.get("/config").json()["rate_limit_per_minute"] == 30
    again.close()


def test_without_state_and_trail_the_effective_file_still_tells_the_level(tmp_path: Path) -> None:
    first = Receiver(tmp_path)
    first.webhook(alert("control"), alert(tuning="roaster", roaster="naivo"))
    first.close()
    lose_state_and_audit(tmp_path)
    again = Receiver(tmp_path)
    assert again.level() == "control"
    again.close()


def test_the_first_start_is_at_none_also_beside_a_copy_of_the_baseline(tmp_path: Path) -> None:
    (tmp_path / "effective.yml").write_text("# mine\n" + BASELINE_FILE.read_text())
    receiver = Receiver(tmp_path)
    assert receiver.level() == "none"
    receiver.close()


@pytest.mark.parametrize("state", [b"", b"{", b'{"version": 99}', b'{"level": "meltdown"}', None])
def test_a_lost_or_corrupt_state_keeps_what_the_effective_file_shows(
    tmp_path: Path, state: bytes | None
) -> None:
    Receiver(tmp_path).webhook(alert("emergency"))
    if state is None:
        (tmp_path / "state.json").unlink()
    else:
        (tmp_path / "state.json").write_bytes(state)
    assert Receiver(tmp_path).level() == "emergency"


def test_a_corrupt_state_without_a_telling_file_protects_fully(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(b"{")
    (tmp_path / "effective.yml").write_text("something: else\n")
    assert Receiver(tmp_path).level() == "fallback"
