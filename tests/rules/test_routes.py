"""Who hears what: amtool proves the route of every alert in the rules."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from command.paths import ALERTMANAGER
from command.stack.binaries import need
from command.stack.bundle import Bundle
from command.stack.configs import Ports
from tests.support.ladders import shipped_ladder
from tests.support.rule_files import alerts
from tests.support.waiting import until

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


# Told by all ways but the failing one.
OTHERS = {"pagerduty": ["chat", "mail"], "slack": ["page", "mail"], "email": ["page", "chat"]}


@pytest.mark.parametrize("name", sorted(alerts().keys() - {"LLMNotificationsFailing"}))
def test_every_alert_reaches_whom_its_labels_say(name: str) -> None:
    labels = {"alertname": name, **alerts()[name]["labels"]}
    expected = ["watchdog"] if name == "Watchdog" else [PEOPLE[labels["severity"]]]
    if "degradation" in labels or "tuning" in labels:
        expected = ["degradation", *expected]
    assert routed(labels) == expected


@pytest.mark.parametrize("integration", [*OTHERS, "webhook"])
def test_failing_notifications_are_told_by_the_other_ways(integration: str) -> None:
    labels = alerts()["LLMNotificationsFailing"]["labels"]
    told = routed({"alertname": "LLMNotificationsFailing", **labels, "integration": integration})
    assert told == OTHERS.get(integration, ["page", "chat", "mail"])


def test_only_what_can_wait_waits_for_working_hours() -> None:
    waiting = [one for one in CONFIG["route"]["routes"] if "active_time_intervals" in one]
    assert [route["matchers"] for route in waiting] == [['severity="info"']]
    assert "mute_time_intervals" not in str(CONFIG)
    named = {one["name"] for one in CONFIG["time_intervals"]}
    assert set(waiting[0]["active_time_intervals"]) <= named


def test_an_alert_that_nobody_planned_for_is_mailed() -> None:
    assert routed({"alertname": "Unheard", "severity": "odd"}) == ["mail"]


def degradation_routes() -> list[dict[str, Any]]:
    return [route for route in CONFIG["route"]["routes"] if route["receiver"] == "degradation"]


def test_the_receiver_hears_each_level_alone_and_tunings_with_their_like_all_at_once() -> None:
    levels, tunings = degradation_routes()
    assert (levels["group_by"], tunings["group_by"]) == (["..."], ["alertname"])
    for route in (levels, tunings):
        assert (route["group_wait"], route["group_interval"]) == ("0s", "1s")
        assert route["continue"] is True


def test_people_hear_of_the_ladders_next_alert_within_a_minute() -> None:
    """It joins the group of the one before, which the default interval would keep for five."""
    ladder = [one for one in CONFIG["route"]["routes"] if 'degradation=~".+"' in one["matchers"]]
    told = [one for one in ladder if one["receiver"] in PEOPLE.values()]
    waits = {one["receiver"]: (one["group_wait"], one["group_interval"]) for one in told}
    assert waits == {"page": ("10s", "1m"), "chat": ("10s", "1m")}


def test_no_inhibit_rule_can_hide_a_ladder_alert() -> None:
    assert CONFIG["inhibit_rules"]
    for rule in CONFIG["inhibit_rules"]:
        assert {'degradation=""', 'tuning=""'} <= set(rule["target_matchers"])


# Alerts that nobody has written yet: whatever asks for a level or a tuning, at any severity.
FUTURE = [
    {"alertname": f"LLMFuture{number}", "severity": severity, **asks}
    for number, (severity, asks) in enumerate(
        (severity, asks)
        for severity in (*PEOPLE, "none", "odd")
        for asks in (
            *({"degradation": level} for level in shipped_ladder().names[1:]),
            {"degradation": "a_new_level"},
            {"tuning": "roaster_stop", "scope": "naivo", "roaster": "naivo"},
        )
    )
]


@pytest.mark.parametrize("labels", FUTURE[::5], ids=str)
def test_the_receiver_hears_a_ladder_alert_that_nobody_has_written_yet(
    labels: dict[str, str],
) -> None:
    assert "degradation" in routed(labels)


def test_no_ladder_alert_is_inhibited_while_everything_fires(tmp_path: Path) -> None:
    """The shipped config in a real Alertmanager, with every alert there is, and the future's."""
    bundle = Bundle(tmp_path, ports=Ports.free())
    bundle.prepare()
    written = [{"alertname": name, **rule["labels"]} for name, rule in alerts().items()]
    bundle.alertmanager.start()
    try:
        bundle.alertmanager.wait_ready()
        url = f"{bundle.url('alertmanager')}/api/v2/alerts"
        firing = [*written, *FUTURE]
        posted = requests.post(url, json=[{"labels": labels} for labels in firing], timeout=10)
        posted.raise_for_status()

        def inhibited() -> dict[str, dict[str, str]]:
            held = requests.get(url, params={"active": "false"}, timeout=10).json()
            return {alert["labels"]["alertname"]: alert["labels"] for alert in held}

        hidden = until(inhibited, what="something that is inhibited, so that this can fail")
        assert len(requests.get(url, timeout=10).json()) == len(firing)
        assert not [labels for labels in hidden.values() if {"degradation", "tuning"} & set(labels)]
    finally:
        bundle.alertmanager.stop()


def test_resolves_are_sent_and_nothing_is_cut_off() -> None:
    (receiver,) = [entry for entry in CONFIG["receivers"] if entry["name"] == "degradation"]
    (webhook,) = receiver["webhook_configs"]
    assert webhook["send_resolved"] is True
    assert webhook["max_alerts"] == 0


def test_no_secret_stands_in_the_config() -> None:
    text = CONFIG_FILE.read_text()
    for key in ("credentials:", "password:", "api_url:", "routing_key:", "service_key:"):
        assert key not in text
