"""What is told after a change: the hook, the verify step and the audit trail."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.ladders import BASELINE_FILE, LADDER_FILE
from tests.support.receivers import ADMIN, NOW, Receiver, alert
from tests.support.waiting import until


def with_actions(folder: Path, text: str) -> Path:
    path = folder / "degradation.yml"
    path.write_text(LADDER_FILE.read_text() + text)
    return path


def failures(receiver: Receiver) -> float:
    return receiver.metric("llm_degradation_hook_failures_total") or 0


def failed(receiver: Receiver, step: str) -> bool:
    return receiver.metric("llm_degradation_apply_failed", step=step) == 1


def test_verify_runs_on_entering_fallback_and_the_hook_after_each_change(tmp_path: Path) -> None:
    log = tmp_path / "log"
    receiver = Receiver(tmp_path, ladder=with_actions(tmp_path, f"""
hook: {{argv: [sh, -c, 'echo "hook $LLM_BUDGET_LEVEL" >> {log}']}}
verify: {{argv: [sh, -c, 'echo "verify $LLM_BUDGET_LEVEL" >> {log}; exit 1']}}
"""))  # fmt: skip

    def lines() -> list[str]:
        return log.read_text().splitlines() if log.exists() else []

    until(lambda: lines() == ["hook none"], what="the hook of the first start")
    receiver.webhook(alert("control"))
    until(lambda: lines()[1:] == ["hook control"], what="the hook")
    receiver.webhook(alert("control"))  # a repeat changes nothing
    receiver.webhook(alert("fallback"))
    until(lambda: lines()[2:] == ["hook fallback", "verify fallback"], what="hook and verify")
    until(lambda: failures(receiver) == 1, what="the failure")
    assert (failed(receiver, "hook"), failed(receiver, "verify")) == (False, True)
    problems = receiver.http.get("/state").json()["problems"]
    assert problems == {"verify": "sh ended with status 1"}
    health = receiver.http.get("/health")
    assert (health.status_code, health.json()["problems"]) == (200, problems)  # it is in place
    assert receiver.effective()["enabled"] is False  # what failed afterwards blocks nothing
    receiver.close()


def test_a_hook_that_failed_runs_again_as_it_is_written_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alertmanager.receiver.hooks.AGAIN_SECONDS", 0.2)
    log = tmp_path / "log"
    receiver = Receiver(tmp_path, ladder=with_actions(tmp_path, "\nhook: {argv: ['false']}\n"))
    until(lambda: failures(receiver) >= 2, what="the second try")
    assert failed(receiver, "hook")
    with_actions(tmp_path, f"\nhook: {{argv: [sh, -c, 'echo $LLM_BUDGET_LEVEL >> {log}']}}\n")
    receiver.controller.reconcile()
    until(lambda: not failed(receiver, "hook"), what="the mended hook")
    receiver.close()
    assert log.read_text() == "none\n"


def test_a_start_runs_the_hook_that_a_kill_may_have_kept_from_running(tmp_path: Path) -> None:
    log = tmp_path / "log"
    ladder = with_actions(
        tmp_path,
        f"""
hook: {{argv: [sh, -c, 'echo "$LLM_BUDGET_LEVEL" >> {log}']}}
""",
    )
    first = Receiver(tmp_path)  # without the hook, as if it had been killed before
    first.webhook(alert("control"))
    first.close()
    Receiver(tmp_path, ladder=ladder).close()
    assert log.read_text() == "control\n"


def test_a_disk_that_was_full_still_gets_its_hook_and_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    hook = f"\nhook: {{argv: [sh, -c, 'echo $LLM_BUDGET_LEVEL >> {log}']}}\n"
    receiver = Receiver(tmp_path, ladder=with_actions(tmp_path, hook))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("alertmanager.receiver.configs.replace_file", full)
        assert receiver.webhook(alert("control", start=NOW)) == 503
    receiver.controller.reconcile()
    until(lambda: log.exists() and "control" in log.read_text(), what="the hook")
    assert [(line["from"], line["level"], line["why"]) for line in receiver.audit()][1:] == [
        ("none", "control", "alert")
    ]
    receiver.close()


def counting(folder: Path) -> tuple[Path, Path]:
    """A ladder whose hook and verify step write their names, and where they do."""
    log = folder / "log"
    return log, with_actions(folder, f"""
hook: {{argv: [sh, -c, 'echo hook >> {log}']}}
verify: {{argv: [sh, -c, 'echo verify >> {log}']}}
""")  # fmt: skip


def test_a_request_that_changes_nothing_is_a_line_and_no_hook(tmp_path: Path) -> None:
    log, ladder = counting(tmp_path)
    receiver = Receiver(tmp_path, ladder=ladder)
    request = {"mode": "degrade", "level": "none", "reason": "r", "author": "ann"}
    assert receiver.post("/api/v1/override", request, ADMIN).status_code == 200
    receiver.close()
    assert log.read_text().split() == ["hook"]  # the start's
    assert [line["said"] for line in receiver.audit()] == ["", "degrade none"]


def test_shadow_mode_runs_no_hook(tmp_path: Path) -> None:
    log, ladder = counting(tmp_path)
    receiver = Receiver(tmp_path, ladder=ladder, shadow=True)
    receiver.webhook(alert("fallback"))
    receiver.close()
    assert not log.exists()
    assert [(line["level"], line["shadow"]) for line in receiver.audit()] == [
        ("none", True),
        ("fallback", True),
    ]


def test_an_edit_while_in_fallback_runs_the_hook_and_not_verify(tmp_path: Path) -> None:
    log, ladder = counting(tmp_path)
    baseline = tmp_path / "llm.yml"
    baseline.write_text(BASELINE_FILE.read_text())
    receiver = Receiver(tmp_path, baseline, ladder=ladder)
    receiver.webhook(alert("fallback"))
    until(lambda: "verify" in log.read_text(), what="the verify step")
    baseline.write_text(baseline.read_text() + "\nnew_key: 1\n")
    receiver.controller.reconcile()
    receiver.close()
    assert sorted(log.read_text().split()[-2:]) == ["hook", "verify"]
    assert log.read_text().split()[-1] == "hook"


def test_a_healed_file_is_a_line_that_says_so(receiver: Receiver) -> None:
    receiver.file.write_text("enabled: true\n")
    receiver.controller.reconcile()
    assert receiver.audit()[-1]["why"] == "was changed by someone else"


def test_what_a_person_asked_for_while_the_disk_was_full_is_told_when_it_is_in_place(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    request = {"mode": "degrade", "level": "emergency", "reason": "r", "author": "ann"}
    with monkeypatch.context() as disk:
        disk.setattr("alertmanager.receiver.configs.replace_file", full)
        assert receiver.webhook(alert("control")) == 503
        assert receiver.post("/api/v1/override", request, ADMIN).status_code == 503
    receiver.controller.reconcile()
    last = receiver.audit()[-1]
    assert (last["from"], last["level"], last["who"], last["said"]) == (
        "none", "emergency", "ann", "degrade emergency"
    )  # fmt: skip
