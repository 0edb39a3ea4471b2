"""Ladder and baseline: edits take effect at once, wrong ones keep the last good one."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from alertmanager.receiver.configs import Configs
from common.errors import UserError
from tests.support.ladders import BASELINE_FILE, LADDER_FILE
from tests.support.odd_files import ODD, put
from tests.support.receivers import Receiver, alert


def test_an_edit_of_the_baseline_takes_effect_at_once_and_survives_the_restore(
    tmp_path: Path,
) -> None:
    baseline = tmp_path / "llm.yml"
    baseline.write_text(BASELINE_FILE.read_text())
    receiver = Receiver(tmp_path, baseline)
    receiver.webhook(alert("control"))
    baseline.write_text(baseline.read_text().replace("batch_size: 10", "batch_size: 30"))
    receiver.controller.reconcile()
    assert receiver.effective()["batch_size"] == 15
    baseline.write_text("api_key: sk-123\n")  # a bad edit keeps the last good one, and says so
    receiver.controller.reconcile()
    assert receiver.effective()["batch_size"] == 15
    assert "api_key" in receiver.http.get("/state").json()["problems"]["config"]
    assert receiver.metric("llm_config_last_reload_successful") == 0
    receiver.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("enabled: true\nbatch_size: .nan\n", "batch_size is not a finite number"),
        ("a: {b: [1, .inf]}\n", r"a\.b\[1\] is not a finite number"),
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


def test_a_json_config_is_degraded_like_a_yaml_one(tmp_path: Path) -> None:
    baseline = tmp_path / "llm.json"
    baseline.write_text('{"enabled": true, "batch_size": 7, "daily_budget_limit": 100.0}')
    receiver = Receiver(tmp_path, baseline)
    receiver.webhook(alert("control"))
    assert json.loads(receiver.file.read_text())["batch_size"] == 3
    assert json.loads(receiver.file.read_text())["daily_budget_limit"] == 50.0
    receiver.close()


def test_baseline_and_effective_must_differ(tmp_path: Path) -> None:
    path = tmp_path / "llm.yml"
    path.write_text("a: 1\n")
    with pytest.raises(UserError, match="must differ"):
        Configs(LADDER_FILE, path, path)


@pytest.mark.parametrize("ending", ["\n", "\r", "\x85", "\u2028"])
def test_a_roasters_name_cannot_end_the_comment_in_the_effective_file(
    receiver: Receiver, ending: str
) -> None:
    receiver.webhook(alert(tuning="roaster", roaster=f"naivo{ending}enabled: false"))
    header = receiver.file.read_bytes().decode().splitlines()[0]
    assert header.startswith("# ")
    assert header.endswith("Edit llm_config.yml instead.")


def test_the_receivers_start_asks_what_a_threshold_means_until_the_file_says_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ladder = tmp_path / "degradation.yml"
    ladder.write_text(LADDER_FILE.read_text())
    receiver = Receiver(tmp_path, ladder=ladder)
    question = receiver.http.get("/state").json()["question"]
    assert caplog.text.count(question) == 1
    assert "0.72" in question
    ladder.write_text(ladder.read_text() + "confidence_threshold: ask_below\n")
    receiver.controller.reconcile()
    assert receiver.http.get("/state").json()["question"] == ""
    assert receiver.http.get("/state").json()["problems"] == {}
    receiver.close()
    caplog.clear()
    Receiver(tmp_path, ladder=ladder).close()
    assert question not in caplog.text


OLD = ("{to: 0.1, keep: higher}", "0.1")  # a ladder of before numbers had a safe side


def test_a_receiver_starts_with_an_old_ladder_and_says_what_to_mend(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ladder = tmp_path / "degradation.yml"
    ladder.write_text(LADDER_FILE.read_text().replace(*OLD))
    receiver = Receiver(tmp_path, ladder=ladder)
    receiver.webhook(alert("conserve"))
    assert receiver.effective()["rate_limit_adjustment_factor"] == 0.1
    said = receiver.http.get("/state").json()["problems"]["ladder"]
    assert "level conserve: set.rate_limit_adjustment_factor needs its safe side" in said
    assert "write {to: 0.1, keep: lower}" in said
    assert said in caplog.text
    assert receiver.http.get("/health").status_code == 200
    caplog.clear()
    receiver.controller.reconcile()
    assert "safe side" not in caplog.text  # once is enough
    ladder.write_text(LADDER_FILE.read_text())
    receiver.controller.reconcile()
    assert receiver.http.get("/state").json()["problems"] == {}
    receiver.close()


def test_an_edit_that_contradicts_itself_is_in_force_but_for_the_lower_levels_word(
    tmp_path: Path,
) -> None:
    ladder = tmp_path / "degradation.yml"
    ladder.write_text(LADDER_FILE.read_text())
    receiver = Receiver(tmp_path, ladder=ladder)
    text = ladder.read_text().replace("enable_caching: true", "enabled: true")
    ladder.write_text(text.replace("batch_size: 0.5", "batch_size: 0.2"))
    receiver.controller.reconcile()
    said = receiver.http.get("/state").json()["problems"]["ladder"]
    assert "level control: set.enabled switches it on, but level fallback: set.enabled" in said
    receiver.webhook(alert("control"))
    assert receiver.effective()["batch_size"] == 2
    receiver.webhook(alert("fallback"))
    assert receiver.effective()["enabled"] is False
    assert receiver.metric("llm_config_last_reload_successful") == 1
    receiver.close()


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", ["llm.yml", "degradation.yml"])
def test_an_odd_thing_in_ladders_or_baselines_place_is_named_and_the_rounds_go_on(
    tmp_path: Path, name: str, odd: Callable[[Path], None]
) -> None:
    files = {"llm.yml": BASELINE_FILE, "degradation.yml": LADDER_FILE}
    for copy, shipped in files.items():
        (tmp_path / copy).write_text(shipped.read_text())
    receiver = Receiver(tmp_path, tmp_path / "llm.yml", ladder=tmp_path / "degradation.yml")
    put(odd, tmp_path / name)
    receiver.controller.reconcile()
    assert receiver.webhook(alert("control")) == 200
    assert receiver.effective()["batch_size"] == 5
    health = receiver.http.get("/health")
    assert health.status_code == 200
    assert f"cannot read {tmp_path / name}: " in health.json()["problems"]["config"]
    with pytest.raises(UserError, match="cannot read"):
        Configs(tmp_path / "degradation.yml", tmp_path / "llm.yml", tmp_path / "e.yml")
    receiver.close()


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x, x, x, x, x, x, x]\n" + "b: [" + "*a, " * 8000 + "]\n",
        "".join(f"a_key_of_some_length_{n}: value\n" for n in range(22_000)),
    ],
    ids=["aliases", "700 KB of keys"],
)
def test_a_baseline_that_explodes_is_refused_once_and_mended_at_once(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = tmp_path / "llm.yml"
    baseline.write_text(BASELINE_FILE.read_text())
    receiver = Receiver(tmp_path, baseline)
    baseline.write_text(text)
    receiver.controller.reconcile()
    problem = receiver.http.get("/state").json()["problems"]["config"]
    assert problem.startswith(f"{baseline} is not valid: it has too many keys and values")

    def never(*_: object) -> None:
        raise AssertionError("a wrong edit is parsed once")

    with monkeypatch.context() as once:
        once.setattr("alertmanager.receiver.configs.parse_baseline", never)
        receiver.controller.reconcile()
    assert receiver.configs.problem == problem
    baseline.write_text(BASELINE_FILE.read_text())
    receiver.controller.reconcile()
    assert receiver.configs.problem is None
    receiver.close()


def test_a_link_to_a_device_is_replaced_and_the_device_is_not(tmp_path: Path) -> None:
    device = tmp_path / "device"
    os.mkfifo(device)  # stands for one: nobody but root could make a real one
    (tmp_path / "effective.yml").symlink_to(device)
    receiver = Receiver(tmp_path)
    assert not (tmp_path / "effective.yml").is_symlink()
    assert device.is_fifo()
    receiver.close()
