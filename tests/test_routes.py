"""Who hears what: amtool proves the route of every alert in the rules."""

import subprocess
from typing import Any

import pytest
import yaml
from rule_files import alerts

from exporter.stack.binaries import need
from exporter.stack.bundle import ALERTMANAGER
from exporter.stack.contacts import Contacts, Mail, Person, template

CONFIG_FILE = ALERTMANAGER / "alertmanager.yml"
CONFIG = yaml.safe_load(CONFIG_FILE.read_text())
PEOPLE = {"critical": "page", "warning": "chat", "info": "mail"}


def routed(labels: dict[str, str]) -> list[str]:
    """The receivers of an alert with these labels, in order."""
    pairs = [f"{name}={value}" for name, value in labels.items()]
    argv = [need("amtool"), "config", "routes", "test", f"--config.file={CONFIG_FILE}", *pairs]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1].split(",")


def test_amtool_accepts_the_config_and_its_templates() -> None:
    done = subprocess.run(
        [need("amtool"), "check-config", str(CONFIG_FILE)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", alerts())
def test_every_alert_reaches_whom_its_labels_say(name: str) -> None:
    labels = {"alertname": name, **alerts()[name]["labels"]}
    expected = ["watchdog"] if name == "Watchdog" else [PEOPLE[labels["severity"]]]
    if "degradation" in labels or "tuning" in labels:
        expected = ["degradation", *expected]
    assert routed(labels) == expected


def test_an_alert_that_nobody_planned_for_is_mailed() -> None:
    assert routed({"alertname": "Unheard", "severity": "odd"}) == ["mail"]


def degradation_routes() -> list[dict[str, Any]]:
    return [route for route in CONFIG["route"]["routes"] if route["receiver"] == "degradation"]


def test_the_receiver_hears_each_alert_alone_and_at_once() -> None:
    assert len(degradation_routes()) == 2
    for route in degradation_routes():
        assert route["group_by"] == ["..."]
        assert (route["group_wait"], route["group_interval"]) == ("0s", "1s")
        assert route["continue"] is True


def test_no_inhibit_rule_can_hide_a_ladder_alert() -> None:
    assert CONFIG["inhibit_rules"]
    for rule in CONFIG["inhibit_rules"]:
        assert {'degradation=""', 'tuning=""'} <= set(rule["target_matchers"])


def test_resolves_are_sent_and_nothing_is_cut_off() -> None:
    (receiver,) = [entry for entry in CONFIG["receivers"] if entry["name"] == "degradation"]
    (webhook,) = receiver["webhook_configs"]
    assert webhook["send_resolved"] is True
    assert webhook["max_alerts"] == 0


def test_no_secret_stands_in_the_config() -> None:
    text = CONFIG_FILE.read_text()
    for key in ("credentials:", "password:", "api_url:", "routing_key:", "service_key:"):
        assert key not in text


def test_a_contacts_name_is_text_and_never_template_code() -> None:
    person = Person("Owner", name='{{ .Secret }} "x\\', phone="+49 1", chat="@x")
    text = template(Contacts(Mail(["a@example.com"]), [person, Person("Nobody")]))
    assert '{{ "Owner: {{ .Secret }} \\"x\\\\ (+49 1, @x)" }}' in text
    assert "Nobody" not in text
