"""State, baseline and effective file: full disks, lost and damaged files, other people's edits."""

import json
import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from alertmanager.receiver.audit import Audit
from alertmanager.receiver.configs import Configs
from alertmanager.receiver.state import Override
from common.clock import iso8601
from common.errors import UserError
from common.files import remove_leftovers
from tests.support.ladders import BASELINE_FILE, LADDER_FILE
from tests.support.receivers import ADMIN, NOW, Receiver, alert

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that an unprivileged user can reach."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_a_read_only_folder_is_503_keeps_protecting_and_recovers(folder: Path) -> None:
    os.chmod(folder, 0o777)
    receiver = Receiver(folder)
    privileged = os.geteuid() == 0
    os.chmod(folder, 0o555)
    if privileged:  # root writes everywhere
        os.seteuid(NOBODY)
    try:
        assert receiver.webhook(alert("emergency")) == 503
        health = receiver.http.get("/health")
        assert health.status_code == 503
        assert "Permission denied" in health.json()["problems"]["state"]
        assert receiver.http.get("/config").json()["rate_limit_per_minute"] == 30
    finally:
        if privileged:
            os.seteuid(0)
    os.chmod(folder, 0o777)
    receiver.controller.reconcile()
    assert receiver.effective()["rate_limit_per_minute"] == 30
    assert receiver.http.get("/health").json() == {"status": "ok"}
    receiver.close()


def test_a_disk_that_takes_one_byte_more_is_503_and_leaves_no_half_file(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        status = receiver.webhook(alert("emergency"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 503
    assert receiver.http.get("/config").json()["rate_limit_per_minute"] == 30
    assert receiver.effective()["rate_limit_per_minute"] == 60  # the old one, whole
    assert not list(tmp_path.glob(".*"))
    assert receiver.webhook(alert("emergency")) == 200
    assert receiver.effective()["rate_limit_per_minute"] == 30
    receiver.close()


def test_killed_between_state_and_config_it_finishes_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Receiver(tmp_path)
    word = Override("degrade", "emergency", "r", "ann", NOW)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt  # nothing of ours catches it

    with monkeypatch.context() as moment:
        moment.setattr(first.configs, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            first.controller.override(word, "ann", "r")
    first.close()
    assert first.effective()["rate_limit_per_minute"] == 60
    again = Receiver(tmp_path)
    assert again.effective()["rate_limit_per_minute"] == 30
    assert again.audit()[-1]["level"] == "emergency"
    again.close()


def test_a_folder_that_is_gone_is_503_and_recovers_when_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    receiver = Receiver(folder)
    folder.rename(tmp_path / "away")
    assert receiver.webhook(alert("control")) == 503
    assert receiver.level() == "control"
    (tmp_path / "away").rename(folder)
    assert receiver.webhook(alert("control")) == 200  # Alertmanager tries again
    assert receiver.effective()["batch_size"] == 5
    receiver.close()


def test_a_state_file_that_vanishes_is_written_again(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path)
    receiver.webhook(alert("control"))
    (tmp_path / "state.json").unlink()
    receiver.controller.reconcile()
    assert json.loads((tmp_path / "state.json").read_text())["level"] == "control"
    receiver.close()


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
    (folder / "audit.jsonl").unlink()


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


def test_a_json_config_is_degraded_like_a_yaml_one(tmp_path: Path) -> None:
    baseline = tmp_path / "llm.json"
    baseline.write_text('{"enabled": true, "batch_size": 7, "daily_budget_limit": 100.0}')
    receiver = Receiver(tmp_path, baseline)
    receiver.webhook(alert("control"))
    assert json.loads(receiver.file.read_text())["batch_size"] == 3
    assert json.loads(receiver.file.read_text())["daily_budget_limit"] == 50.0
    receiver.close()


def test_a_link_is_followed_and_mode_and_owner_are_kept(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "llm.yml"
    target.write_text(BASELINE_FILE.read_text())
    os.chmod(target, 0o640)
    if os.geteuid() == 0:
        os.chown(target, NOBODY, NOBODY)
    owner = target.stat().st_uid, target.stat().st_gid
    (tmp_path / "effective.yml").symlink_to(target)
    receiver = Receiver(tmp_path)
    receiver.webhook(alert("control"))
    assert (tmp_path / "effective.yml").is_symlink()
    assert yaml.safe_load(target.read_text())["batch_size"] == 5
    assert target.stat().st_mode & 0o777 == 0o640
    assert (target.stat().st_uid, target.stat().st_gid) == owner
    receiver.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("enabled: true\nbatch_size: .nan\n", "batch_size is no finite number"),
        ("a: {b: [1, .inf]}\n", r"a\.b\[1\] is no finite number"),
        ("batch_size: 1234567890123456789012345678901.5\n", "cannot be degraded"),
        ("x: " + "y" * (1 << 20), "larger than 1 MiB"),
    ],
)
def test_a_baseline_that_cannot_be_degraded_is_refused_and_the_last_good_one_stays(
    tmp_path: Path, text: str, words: str
) -> None:
    baseline = tmp_path / "llm.yml"
    baseline.write_text(BASELINE_FILE.read_text())
    receiver = Receiver(tmp_path, baseline)
    baseline.write_text(text)
    receiver.controller.reconcile()
    assert receiver.webhook(alert("control")) == 200
    assert receiver.effective()["batch_size"] == 5
    assert receiver.configs.problem
    with pytest.raises(UserError, match=words):
        Configs(LADDER_FILE, baseline, tmp_path / "other.yml")
    receiver.close()


def test_an_edit_of_the_ladder_takes_effect_at_once(tmp_path: Path) -> None:
    ladder = tmp_path / "degradation.yml"
    ladder.write_text(LADDER_FILE.read_text())
    receiver = Receiver(tmp_path, ladder=ladder)
    receiver.webhook(alert("control"))
    ladder.write_text(ladder.read_text().replace("batch_size: 0.5", "batch_size: 0.2"))
    receiver.controller.reconcile()
    assert receiver.effective()["batch_size"] == 2
    assert receiver.audit()[-1]["why"] == "config edited"
    receiver.close()


def test_the_audit_trail_survives_a_torn_line_and_a_full_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = Receiver(tmp_path)
    with open(tmp_path / "audit.jsonl", "ab") as file:
        file.write(b'{"time": "torn by a kill')
    receiver.webhook(alert("control"))
    assert [change.level for change in receiver.store.audit.last(10)] == ["none", "control"]
    monkeypatch.setattr("alertmanager.receiver.audit.MAX_BYTES", 10)
    receiver.webhook(alert("emergency"))
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 1
    assert [change.level for change in receiver.store.audit.last(2)] == ["control", "emergency"]
    (tmp_path / "audit.jsonl").unlink()
    (tmp_path / "audit.jsonl").mkdir()  # it cannot be written: the change is made all the same
    assert receiver.webhook(alert("fallback")) == 200
    assert receiver.effective()["enabled"] is False
    assert Audit(tmp_path / "nowhere" / "x").last(5) == []
    receiver.close()


def test_history_is_bounded_and_in_order(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path)
    for level in ("conserve", "control", "emergency"):
        receiver.webhook(alert(level))
    answer = receiver.http.get("/api/v1/history", params={"limit": 2}).json()["changes"]
    assert [(change["from"], change["level"]) for change in answer] == [
        ("conserve", "control"),
        ("control", "emergency"),
    ]
    assert answer[1]["time"] == iso8601(NOW)
    for limit in ("0", "1001", "x", "-1", "1" * 5000, "²"):
        assert receiver.http.get("/api/v1/history", params={"limit": limit}).status_code == 400
    receiver.close()


def test_health_says_when_no_round_comes(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path)
    receiver.controller.reconcile()
    assert receiver.http.get("/health").status_code == 200
    receiver.clock.advance(31)
    answer = receiver.http.get("/health")
    assert answer.status_code == 503
    assert "no round" in answer.json()["problems"]["rounds"]
    receiver.close()


def test_health_says_when_not_even_a_first_round_ends(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path)
    assert receiver.http.get("/health").status_code == 200
    receiver.clock.advance(31)
    answer = receiver.http.get("/health")
    assert answer.status_code == 503
    assert "no round" in answer.json()["problems"]["rounds"]
    assert receiver.metric("llm_degradation_last_round_timestamp_seconds") == NOW
    receiver.close()


def test_a_flood_of_alerts_is_bounded_and_never_keeps_a_level_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alertmanager.receiver.controller.MAX_CLAIMS", 5)
    monkeypatch.setattr("alertmanager.receiver.decide.MAX_TUNINGS", 5)
    receiver = Receiver(tmp_path)
    flood = [alert(tuning="roaster", roaster=f"r{number}") for number in range(50)]
    assert receiver.webhook(*flood, alert("fallback")) == 200
    assert receiver.level() == "fallback"
    state: Any = receiver.store.state
    assert len(state.claims) <= 7
    assert len(state.tunings) <= 5
    receiver.close()


def test_what_a_kill_left_half_written_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".effective.yml.abcd1234", ".effective.yml.swp", ".other.yml.abcd1234"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "effective.yml")
    assert {path.name for path in tmp_path.iterdir()} == {
        ".effective.yml.swp",
        ".other.yml.abcd1234",
    }
