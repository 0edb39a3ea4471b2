"""check --send-test: a real Alertmanager tells each receiver, and the command says what became."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from command.send_test import send_test
from command.stack.bundle import Bundle
from common.errors import UserError
from tests.support.hooks import Posts, alertmanager, posts


@pytest.fixture
def elsewhere() -> Iterator[Posts]:
    with posts() as kept:
        yield kept


@pytest.fixture
def bundle(tmp_path: Path, elsewhere: Posts) -> Iterator[Bundle]:
    """The shipped Alertmanager, told to that server, and a receiver that no test reaches."""
    with alertmanager(tmp_path, elsewhere) as bundle:
        yield bundle


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
