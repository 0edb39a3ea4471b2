"""What people get: alerts posted to a real Alertmanager, and what PagerDuty and Slack are sent."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from command.stack.bundle import Bundle
from tests.support.hooks import Posts, alertmanager, posts
from tests.support.notifications import HOSTILE, capped, critical
from tests.support.waiting import until


def post(bundle: Bundle, *alerts: dict[str, Any], over: bool = False) -> None:
    """Alerts as Prometheus sends them; over: they have ended."""
    ends = {"endsAt": datetime.now(UTC).isoformat()} if over else {}
    body = [{"labels": a["labels"], "annotations": a["annotations"], **ends} for a in alerts]
    url = f"{bundle.url('alertmanager')}/api/v2/alerts"
    requests.post(url, json=body, timeout=10).raise_for_status()


def sent(elsewhere: Posts, path: str) -> list[Any]:
    return [body for where, body in elsewhere if where == path]


def test_a_page_names_the_alert_and_the_figure_and_its_end_is_told(tmp_path: Path) -> None:
    with posts() as elsewhere, alertmanager(tmp_path, elsewhere) as bundle:
        post(bundle, critical())
        (page,) = until(lambda: sent(elsewhere, "/page"), what="the page")
        assert page["event_action"] == "trigger"
        title = "Budget critical: $91.20 of $100, emergency applied"
        assert page["payload"]["summary"] == title
        assert page["client_url"] == bundle.url("exporter")
        assert page["payload"]["custom_details"]["firing"].splitlines()[1:5] == [
            "Budget critical: $91.20 of $100.00 is spent, 91.2% of today's LLM budget.",
            "Done by itself: The receiver applies the level emergency.",
            "What to do: llm-budget grant 20 --reason TEXT",
            f"Runbook: {bundle.url('exporter')}/runbook#llmbudgetcritical",
        ]
        post(bundle, critical(), over=True)
        until(lambda: len(sent(elsewhere, "/page")) > 1, what="its end")
        assert sent(elsewhere, "/page")[-1]["event_action"] == "resolve"
        assert len(sent(elsewhere, "/degradation")) >= 2, "the receiver hears both, too"


def test_a_chat_of_300_roasters_is_short_and_a_hostile_name_is_text(tmp_path: Path) -> None:
    with posts() as elsewhere, alertmanager(tmp_path, elsewhere) as bundle:
        post(bundle, capped(HOSTILE), *(capped(f"roaster-{n:03}") for n in range(299)))

        def of_all() -> list[Any]:
            title = "Roaster cap reached: 300 alerts"
            chats = sent(elsewhere, "/chat")
            return [chat for chat in chats if chat["attachments"][0]["title"] == title]

        (chat, *_) = until(of_all, what="the message of all")
        (attachment,) = chat["attachments"]
        assert "These are 10 of 300" in attachment["text"]
        assert len(str(chat)) < 6000
        assert not {"<", "*", "`", "\u202e"} & set(str(chat).replace("'<", ""))


def test_failing_chat_is_told_by_the_pager_and_not_by_chat(tmp_path: Path) -> None:
    failing = {
        "labels": {
            "alertname": "LLMNotificationsFailing",
            "severity": "critical",
            "integration": "slack",
        },
        "annotations": {"description": "Notifications by slack have failed."},
    }
    with posts() as elsewhere, alertmanager(tmp_path, elsewhere) as bundle:
        post(bundle, failing)
        (page,) = until(lambda: sent(elsewhere, "/page"), what="the page")
        assert page["payload"]["summary"] == "Notifications failing"
        post(bundle, capped("naivo"))  # chat works, so what is not there was not sent
        (chat,) = until(lambda: sent(elsewhere, "/chat"), what="another chat")
        assert "Roaster cap" in chat["attachments"][0]["title"]
