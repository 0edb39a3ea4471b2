"""check --send-test: a real Alertmanager tells each receiver, and the command says what became."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from command.send_test import send_test
from command.stack.bundle import Bundle, Ports
from common.errors import UserError
from tests.support.hooks import Posts, posts


@pytest.fixture
def elsewhere() -> Iterator[Posts]:
    with posts() as kept:
        yield kept


@pytest.fixture
def bundle(tmp_path: Path, elsewhere: Posts) -> Iterator[Bundle]:
    """The shipped Alertmanager, whose PagerDuty, Slack and webhooks are one loopback server."""
    bundle = Bundle(tmp_path, ports=Ports.free())
    bundle.prepare()
    path = tmp_path / "alertmanager.yml"
    document = yaml.safe_load(path.read_text())
    by_name = {one["name"]: one for one in document["receivers"]}
    by_name["page"]["pagerduty_configs"][0]["url"] = f"{elsewhere.url}/page"
    for name in ("degradation", "watchdog"):
        by_name[name]["webhook_configs"][0]["url"] = f"{elsewhere.url}/{name}"
    document["global"]["smtp_smarthost"] = "127.0.0.1:1"
    document["receivers"] += [{"name": "new", "webhook_configs": [{"url": elsewhere.url}]}]
    document["route"]["routes"].append({"receiver": "new", "matchers": ["a=b"]})
    path.write_text(yaml.safe_dump(document))
    (tmp_path / "secrets" / "slack_webhook_url").write_text(f"{elsewhere.url}/chat")
    (tmp_path / "secrets" / "pagerduty_routing_key").write_text("key")
    bundle.alertmanager.start()
    try:
        bundle.alertmanager.wait_ready()
        yield bundle
    finally:
        bundle.alertmanager.stop()


def test_each_receiver_is_told_and_each_failure_is_said(bundle: Bundle, elsewhere: Posts) -> None:
    elsewhere.refused = frozenset({"/watchdog"})
    for _ in range(2):  # the second run is no repeat of the first
        elsewhere.clear()
        told = {name: (done, said) for name, done, said in send_test(bundle.url("alertmanager"))}
        assert told == {
            "degradation": (True, "sent by webhook"),
            "page": (True, "sent by pagerduty"),
            "chat": (True, "sent by slack"),
            "mail": (False, "email failed; Alertmanager's log says why"),
            "watchdog": (False, "webhook failed; Alertmanager's log says why"),
            "new": (False, 'no route of LLMNotificationTest has the matcher receiver="new"'),
        }
    bodies = dict(elsewhere)
    title = "Notification test"
    assert bodies["/page"]["payload"]["summary"] == title
    details = bodies["/page"]["payload"]["custom_details"]["firing"]
    assert details.startswith(f"LLM budget\n{title}: This is"), "a text, no YAML"
    (attachment,) = bodies["/chat"]["attachments"]
    assert attachment["title"] == title
    assert attachment["text"].startswith(f"{title}: This is a test by llm-budget")
    assert attachment["mrkdwn_in"] == ["pretext"]
    labels = bodies["/degradation"]["alerts"][0]["labels"]
    assert not {"degradation", "tuning"} & labels.keys()


def test_without_an_alertmanager_the_sentence_names_it() -> None:
    with pytest.raises(UserError, match=r"alertmanager at http://127\.0\.0\.1:1/.*is it running"):
        list(send_test("http://127.0.0.1:1"))
