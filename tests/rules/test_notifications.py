"""The message to people, as amtool renders it: golden files by receiver, and what none may hold."""

import re

import pytest
import yaml

from command.paths import ALERTMANAGER
from tests.support.notifications import (
    CASES,
    CONTACTS,
    GOLDEN,
    HOSTILE,
    PEOPLE,
    alert,
    capped,
    critical,
    golden,
    receivers,
    rendered,
)


@pytest.mark.parametrize("receiver", PEOPLE)
def test_the_messages_are_the_golden_ones(receiver: str) -> None:
    """make golden writes them anew."""
    assert golden(receiver) == (GOLDEN / f"{receiver}.txt").read_text()


@pytest.mark.parametrize("case", CASES)
def test_pagerdutys_details_are_no_yaml_but_a_text(case: str) -> None:
    """Later Alertmanagers read YAML in them, and would run a name's {{ … }} as a template."""
    text = rendered("page", CASES[case]).partition("details.firing]\n")[2]
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(text)


def test_people_are_the_receivers_with_templates() -> None:
    assert {name for name, templates in receivers().items() if templates} == set(PEOPLE)


def test_the_first_lines_are_what_happened_what_was_done_and_a_command() -> None:
    lines = rendered("chat", [critical()]).partition("slack_configs.text]\n")[2].splitlines()
    assert lines[:4] == [
        "Budget critical: $91.20 of $100.00 is spent, 91.2% of today's LLM budget.",
        "Done by itself: The receiver applies the level emergency.",
        "What to do: llm-budget grant 20 --reason TEXT",
        "Runbook: https://budget.example.com/runbook#llmbudgetcritical",
    ]


@pytest.mark.parametrize("receiver", PEOPLE)
def test_a_hostile_name_has_no_markup_link_or_other_direction_of_writing(receiver: str) -> None:
    text = rendered(receiver, [capped(HOSTILE)]).replace("https://budget", "")
    text = text.replace("https://grafana", "")
    assert not re.search(r"[<>*`~|\x1b\u200b-\u200f\u202a-\u202e\u2066-\u2069]|://", text)
    assert not re.search(r"evil\.|oavin\n", text)
    assert "$1,204.00" in text, "the figure is the alert's, not the name's"
    assert "llm calls until" in text.lower(), "and so is what was done"


def test_a_message_of_300_roasters_is_as_long_as_one_of_eleven() -> None:
    lengths = [
        len(rendered("mail", [capped(f"roaster-{number:03}") for number in range(count)]))
        for count in (11, 300)
    ]
    assert lengths[1] - lengths[0] < 10


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("$0.0169", "$0.0169"),
        ("$999.99", "$999.99"),
        ("$1204.00", "$1,204.00"),
        ("-$1234567.89", "-$1,234,567.89"),
        ("$1000000000.00", "$1,000,000,000.00"),
        ("-$0.03", "-$0.03"),
    ],
)
def test_thousands_of_dollars_have_commas(written: str, sent: str) -> None:
    text = rendered("mail", [alert("LLMProviderBalanceLow", f"{written} is the balance.")])
    assert f"Provider balance low: {sent}\n" in text
    assert f"Provider balance low: {sent} is the balance." in text


def test_without_links_the_runbook_is_a_file_and_an_own_url_is_kept() -> None:
    contacts = re.sub("links: .*", "", CONTACTS)
    text = rendered("mail", [critical()], contacts=contacts)
    assert "Runbook: docs/runbook.md#llmbudgetcritical" in text
    own = alert("Mine", "It fires.")
    own["annotations"]["runbook_url"] = "https://wiki.example/mine"
    assert "Runbook: https://wiki.example/mine" in rendered("mail", [own])


def test_the_receivers_of_people_let_slack_read_no_markup_in_names() -> None:
    assert "mrkdwn_in: [pretext]" in (ALERTMANAGER / "alertmanager.yml").read_text()
