"""State and effective file: full disks, kills in between, other people's edits."""

import json
import os
import resource
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from alertmanager.receiver.overrides import OverrideRequest
from tests.support.ladders import BASELINE_FILE
from tests.support.odd_files import ODD, put
from tests.support.odd_files import folder as a_folder
from tests.support.receivers import ADMIN, NOW, Receiver, alert

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that an unprivileged user can reach."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def no_writing(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def person(receiver: Receiver, **what: Any) -> int:
    request = {"reason": "r", "author": "ann", **what}
    return int(receiver.post("/api/v1/override", request, ADMIN).status_code)


def test_a_full_disk_is_503_keeps_protecting_in_memory_and_recovers(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr("alertmanager.receiver.configs.replace_file", no_writing)
        full.setattr("alertmanager.receiver.state.replace_file", no_writing)
        assert receiver.webhook(alert("control")) == 503
        assert receiver.http.get("/health").status_code == 503
        assert receiver.metric("llm_degradation_notifications_total", result="failed") == 1
        assert receiver.http.get("/config").json()["batch_size"] == 5
        assert receiver.metric("llm_degradation_apply_failed", step="write") == 1
        receiver.controller.reconcile()
    receiver.controller.reconcile()
    assert receiver.effective()["batch_size"] == 5
    assert receiver.http.get("/health").status_code == 200
    assert receiver.metric("llm_degradation_apply_failed", step="write") == 0


def test_a_lift_that_cannot_be_remembered_is_not_done(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.webhook(alert("conserve"))
    receiver.webhook(alert("conserve", "resolved", end=NOW + 5))
    receiver.controller.reconcile()
    with monkeypatch.context() as full:
        full.setattr("alertmanager.receiver.state.replace_file", no_writing)
        for _ in range(70):
            receiver.clock.advance(10)
            receiver.controller.reconcile()
        assert receiver.level() == "conserve"
    for _ in range(70):  # a hold that nobody could write down starts anew
        receiver.clock.advance(10)
        receiver.controller.reconcile()
    assert receiver.level() == "none"


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
    request = OverrideRequest("degrade", "r", "ann", "emergency")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt  # nothing of ours catches it

    with monkeypatch.context() as moment:
        moment.setattr(first.configs, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            first.controller.override(request)
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


def test_a_hand_edited_file_is_healed_and_counted(receiver: Receiver) -> None:
    receiver.webhook(alert("control"))
    (receiver.folder / "effective.yml").write_text("enabled: true\n")
    receiver.controller.reconcile()
    assert receiver.effective()["batch_size"] == 5
    (receiver.folder / "effective.yml").unlink()
    receiver.controller.reconcile()
    assert receiver.effective()["batch_size"] == 5
    assert receiver.metric("llm_degradation_config_drift_total") == 2


def test_shadow_decides_and_touches_nothing(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path, shadow=True)
    assert receiver.webhook(alert("fallback")) == 200
    assert receiver.level() == "fallback"
    assert receiver.http.get("/config").json()["enabled"] is True
    assert not (tmp_path / "effective.yml").exists()
    receiver.close()


def test_the_files_mode_is_kept(receiver: Receiver) -> None:
    os.chmod(receiver.folder / "effective.yml", 0o640)
    receiver.webhook(alert("control"))
    assert (receiver.folder / "effective.yml").stat().st_mode & 0o777 == 0o640


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


def test_a_failed_decision_that_is_taken_back_leaves_no_problem(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr("alertmanager.receiver.state.replace_file", no_writing)
        assert person(receiver, mode="degrade", level="emergency") == 503
        assert receiver.http.get("/health").status_code == 503
    assert person(receiver, mode="release") == 200
    assert receiver.http.get("/health").json() == {"status": "ok"}


def test_a_release_that_cannot_be_remembered_is_not_done_and_not_told(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert person(receiver, mode="degrade", level="emergency") == 200
    with monkeypatch.context() as full:
        full.setattr("alertmanager.receiver.state.replace_file", no_writing)
        assert person(receiver, mode="release") == 503
    assert receiver.level() == "emergency"
    assert [line["said"] for line in receiver.audit()] == ["", "degrade emergency"]


def test_the_first_write_over_a_file_of_somebody_else_is_no_drift(tmp_path: Path) -> None:
    (tmp_path / "effective.yml").write_text("# mine\n" + BASELINE_FILE.read_text())
    receiver = Receiver(tmp_path)
    assert receiver.metric("llm_degradation_config_drift_total") == 0
    assert receiver.metric("llm_degradation_applies_total") == 1
    receiver.close()


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", ["effective.yml", "state.json", "state.audit.jsonl"])
def test_an_odd_thing_in_a_files_place_holds_no_webhook_and_is_replaced_or_named(
    tmp_path: Path, name: str, odd: Callable[[Path], None]
) -> None:
    receiver = Receiver(tmp_path)
    receiver.webhook(alert("control"))
    put(odd, tmp_path / name)
    stays = name == "state.audit.jsonl" or odd is a_folder
    status = receiver.webhook(alert("emergency"))
    assert receiver.level() == "emergency"
    receiver.controller.reconcile()
    health = receiver.http.get("/health").json()
    if name == "state.audit.jsonl":
        replaced = odd.__name__ == "huge"  # it is rotated away, as any full one
        assert (status, "audit" in health.get("problems", {})) == (200, not replaced)
    else:
        assert (status, health["status"]) == ((503, "failed") if stays else (200, "ok"))
        assert stays or (tmp_path / name).is_file()
    receiver.close()


def test_a_webhook_between_a_rounds_look_and_its_lock_is_no_drift(receiver: Receiver) -> None:
    look = receiver.store.look
    came = []

    def meanwhile() -> Any:
        seen = look()
        if not came:
            came.append(receiver.webhook(alert("control")))
        return seen

    receiver.store.look = meanwhile  # type: ignore[method-assign]
    receiver.controller.reconcile()
    assert receiver.effective()["batch_size"] == 5
    assert receiver.metric("llm_degradation_config_drift_total") == 0


def test_a_disk_that_hangs_while_it_is_read_holds_no_webhook(receiver: Receiver) -> None:
    reading, over = threading.Event(), threading.Event()
    look = receiver.store.look

    def hang() -> Any:
        if threading.current_thread() is rounds:
            reading.set()
            over.wait(30)
        return look()

    rounds = threading.Thread(target=receiver.controller.reconcile)
    receiver.store.look = hang  # type: ignore[method-assign]
    rounds.start()
    assert reading.wait(30)
    assert receiver.webhook(alert("fallback")) == 200
    assert receiver.http.get("/state").status_code == 200
    over.set()
    rounds.join(30)
