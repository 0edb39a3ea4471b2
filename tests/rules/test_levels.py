"""Levels and tunings that rules, routes and dashboards name: each is in degradation.yml."""

import re
from collections.abc import Iterator

import pytest
import yaml

from command.paths import ALERTMANAGER
from tests.support.dashboards import FILES, expressions, panels
from tests.support.ladders import shipped_ladder
from tests.support.rule_files import alerts, rules

LADDER = shipped_ladder()
LEVELS = LADDER.names[1:]
TUNINGS = {tuning.tuning for tuning in LADDER.tunings}
KNOWN = {"degradation": {*LEVELS}, "tuning": TUNINGS, "entry": {*LEVELS, *TUNINGS}}
# degradation="control", and label_replace(…, "degradation", "control", …).
MATCHER = re.compile(r'\b(degradation|tuning|entry)\s*(=~|!=|!~|=)\s*"([^"]*)"')
REPLACED = re.compile(r'"(degradation|tuning|entry)"\s*,\s*"(\w+)"\s*,\s*"')


def named(text: str) -> Iterator[tuple[str, str]]:
    """(label, name) of every level, tuning or entry that an expression names."""
    for label, operator, value in MATCHER.findall(text):
        if operator in ("=", "!=") and value:
            yield label, value.partition("/")[0]
        elif any(re.fullmatch(value.partition("/")[0], name) for name in KNOWN[label]):
            continue
        elif value:
            yield label, value
    yield from REPLACED.findall(text)


def unknown(text: str) -> list[str]:
    """The names among them that the ladder does not have."""
    return [f"{label} {name}" for label, name in named(text) if name not in KNOWN[label]]


def test_rules_name_levels_and_tunings_of_the_ladder_only() -> None:
    for rule in rules():
        for label, value in rule.get("labels", {}).items():
            assert value in KNOWN.get(label, {value}), rule
        assert not unknown(str(rule["expr"])), rule


def test_every_level_and_every_automatic_tuning_has_an_alert_that_asks_for_it() -> None:
    labels = [alert["labels"] for alert in alerts().values()]
    assert {asks["degradation"] for asks in labels if "degradation" in asks} == set(LEVELS)
    automatic = {tuning.tuning for tuning in LADDER.tunings if tuning.automatic}
    assert {asks["tuning"] for asks in labels if "tuning" in asks} == automatic


LADDER_ALERTS = [name for name, alert in alerts().items() if "degradation" in alert["labels"]]


@pytest.mark.parametrize("name", LADDER_ALERTS)
def test_what_an_alert_says_to_people_is_what_it_asks_for(name: str) -> None:
    alert = alerts()[name]
    told = re.findall(r"applies the level (\w+)", alert["annotations"]["description"])
    assert told == [alert["labels"]["degradation"]]


def test_routes_and_dashboards_name_levels_and_tunings_of_the_ladder_only() -> None:
    config = yaml.safe_load((ALERTMANAGER / "alertmanager.yml").read_text())
    assert not unknown(str(config))
    for text in (text for path in FILES for text in expressions(path)):
        assert set(unknown(text)) <= {f"entry {LADDER.names[0]}"}  # a mark names rank 0, too


def test_a_dashboard_numbers_the_levels_as_the_ladder_does() -> None:
    shown = {p["title"]: p for path in FILES for p in panels(path)}
    expected = ", ".join(f"{rank} {name}" for rank, name in enumerate(LADDER.names))
    assert shown["Degradation level"]["description"] == f"{expected}."
    for title in ("Degradation level", "Level over time"):
        (mapping,) = shown[title]["fieldConfig"]["defaults"]["mappings"]
        named = {int(rank): face["text"] for rank, face in mapping["options"].items()}
        assert named == dict(enumerate(LADDER.names))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('x{degradation="controll"}', ["degradation controll"]),
        ('x{tuning=~"roasters/.+"}', ["tuning roasters/.+"]),
        ('x{entry="roaster/naivo", degradation!=""}', []),
        ('label_replace(x, "degradation", "conserv", "", "")', ["degradation conserv"]),
        ('label_replace(x, "entry", "$1", "degradation", "(.+)")', []),
    ],
)
def test_the_reader_of_names_sees_a_misspelt_one(text: str, found: list[str]) -> None:
    assert unknown(text) == found
