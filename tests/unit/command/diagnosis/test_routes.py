"""The way of an alert, beside amtool's own opinion."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from command.diagnosis.routes import HIDDEN, arrivals, holds, hooks, matchers, unmet
from command.paths import ALERTMANAGER
from command.stack.binaries import need

SHIPPED: dict[str, Any] = yaml.safe_load((ALERTMANAGER / "alertmanager.yml").read_text())
LADDER = {"alertname": "LLMBudgetWarning", "severity": "warning", "degradation": "control"}
ALERTS = [
    LADDER,
    {"alertname": "LLMRoasterAtCap", "tuning": "roaster_stop", "severity": "warning"},
    {"alertname": "Watchdog", "severity": "none"},
    {"alertname": "LLMNotificationTest", "receiver": "page"},
    {"alertname": "LLMNotificationsFailing", "integration": "slack", "severity": "warning"},
    {"alertname": "LLMNotificationsFailing", "integration": "email", "severity": "warning"},
    {"severity": "info", "namespace": 'a"b\\c'},
    {"severity": "critical", "team": "llm"},
    {},
]
TREES: list[dict[str, Any]] = [
    SHIPPED["route"],
    {"receiver": "mail", "routes": [{"receiver": "page", "match": {"severity": "critical"},
        "routes": [{"match_re": {"team": "l.m"}, "receiver": "chat"}]}]},
    {"receiver": "mail", "routes": [
        {"matchers": ['namespace="a\\"b\\\\c"'], "receiver": "chat"},
        {"matchers": ["degradation!=control", "team!~'x|y'"], "receiver": "page", "continue": True},
        {"matchers": ["severity=~crit"], "receiver": "page"},
        {"matchers": ["degradation=~.+"], "routes": [{"receiver": "degradation"}]},
    ]},
]  # fmt: skip


@pytest.mark.parametrize("tree", range(len(TREES)))
def test_every_alert_goes_where_amtool_says(tree: int, tmp_path: Path) -> None:
    config = tmp_path / "alertmanager.yml"
    config.write_text(yaml.safe_dump({**SHIPPED, "templates": [], "route": TREES[tree]}))
    for labels in ALERTS:
        argv = [need("amtool"), "config", "routes", "test", f"--config.file={config}"]
        argv += [f"{name}={json.dumps(value)}" for name, value in labels.items()]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        assert (
            ",".join(one.receiver for one in arrivals(TREES[tree], labels)) == said.splitlines()[-1]
        ), labels


def test_what_a_route_inherits_and_what_not() -> None:
    inner = {"matchers": ["a=b"], "routes": [{"matchers": ["c=d"]}]}
    tree = {
        "receiver": "x",
        "group_wait": "7s",
        "routes": [{**inner, "mute_time_intervals": ["n"]}],
    }
    assert arrivals(tree, {"a": "b"}) == [("x", "7s", True)]
    assert arrivals(tree, {"a": "b", "c": "d"}) == [("x", "7s", False)]
    assert arrivals({"receiver": "x"}, {}) == [("x", "30s", False)]


def test_the_matcher_that_keeps_an_alert_out_is_named() -> None:
    tree = {"receiver": "mail", "routes": [{"matchers": ['namespace="llm"'], "routes": [
        {"matchers": ['tuning=~".+"'], "receiver": "hook"},
        {"matchers": ['degradation=~".+"'], "receiver": "hook"}]}]}  # fmt: skip
    assert min(unmet(tree, LADDER, {"hook"}), key=len) == ('namespace="llm"',)


def test_a_hook_is_known_by_its_url_or_where_that_is_hidden_by_its_name() -> None:
    def named(name: str, url: str) -> dict[str, Any]:
        return {"name": name, "webhook_configs": [{"url": url}]}

    receivers = [named("a", "http://r:8001/alerts"), named("b", "http://r:8001/watchdog"),
                 named("ns/x/degradation", HIDDEN), named("c", HIDDEN), {"name": "d"}]  # fmt: skip
    assert hooks({"receivers": receivers}) == {"a", "ns/x/degradation"}
    assert hooks(SHIPPED) == {"degradation"}


@pytest.mark.parametrize("wrong", ["", "=", "a", 'a=~"("', 'a="'])
def test_a_matcher_that_cannot_be_read_is_a_value_error(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"matcher|string|delimiter"):
        holds(wrong, {})


def test_those_of_an_inhibit_rule() -> None:
    rule = {
        "target_match": {"a": "b"},
        "target_match_re": {"c": "d.*"},
        "target_matchers": ['e="f"'],
    }
    assert matchers(rule, "target_") == ['e="f"', 'a="b"', 'c=~"d.*"']
